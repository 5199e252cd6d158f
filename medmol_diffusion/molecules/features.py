"""The one declared layout of a molecule's state: positions, elements, nuclear charges, by block name.

Positions are in angstrom, centred; elements one-hot times 1/4; nuclear charges times 1/10 (Hoogeboom et al. 2022,
section 4).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from medmol_diffusion.core import Masked, Product, ZeroCentre, alpha, sigma
from medmol_diffusion.core.observation import Categorical, Gaussian, Ordinal
from medmol_diffusion.core.observation import Product as ProductObservation
from medmol_diffusion.core.schedule import per_example
from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.molecule import MoleculeBatch

ELEMENT_SCALE = 4.0
CHARGE_SCALE = 10.0


@dataclass(frozen=True)
class Layout:
    """Blocks "positions" (N, 3), "elements" (N, K) and "charges" (N, 1).

    Args:
        elements: the K atomic numbers of the vocabulary, in the order of the one-hot block.
    """

    elements: tuple[int, ...]

    def space(self, mask: Tensor) -> Product:
        """The space of a batch of molecules with atoms where ``mask`` [B, N] is true."""
        return Product(
            {
                "positions": ZeroCentre(mask),
                "elements": Masked(mask, len(self.elements)),
                "charges": Masked(mask, 1),
            }
        )

    def observation(self) -> ProductObservation:
        """p(data | z_0) of the recipe: Gaussian positions, categorical elements, integer charges."""
        return ProductObservation(
            {"positions": Gaussian(), "elements": Categorical(ELEMENT_SCALE), "charges": Ordinal(CHARGE_SCALE)}
        )

    def labels(self, batch: MoleculeBatch) -> Tensor:
        """[B, N] places of the elements in the vocabulary; 0 at padded atoms.

        Raises:
            InputError: an element is not in the vocabulary.
        """
        known = torch.tensor(self.elements, device=batch.mask.device)
        hit = batch.atomic_numbers[..., None] == known
        if (unknown := batch.mask & ~hit.any(-1)).any():
            numbers = sorted(set(batch.atomic_numbers[unknown].tolist()))
            raise InputError(
                f"atomic numbers {numbers} are not among the model's elements {list(self.elements)}: "
                "drop these molecules, or train a model with these elements"
            )
        return hit.long().argmax(-1)

    def encode(self, batch: MoleculeBatch) -> tuple[Product, Tensor, dict[str, Tensor]]:
        """(space, clean state x [B, D], what the observation reads)."""
        space = self.space(batch.mask)
        labels = self.labels(batch)
        positions = space.blocks["positions"].project(batch.positions)
        one_hot = torch.nn.functional.one_hot(labels, len(self.elements)).to(positions) * batch.mask[..., None]
        charges = batch.atomic_numbers[..., None].to(positions) * batch.mask[..., None]
        state = space.join(
            {"positions": positions, "elements": one_hot / ELEMENT_SCALE, "charges": charges / CHARGE_SCALE}
        )
        return space, state, {"positions": positions, "elements": labels, "charges": batch.atomic_numbers}

    def decode(self, x_hat: Tensor, space: Product, mask: Tensor, index: Tensor) -> MoleculeBatch:
        """The molecules of a denoised state: the likeliest element for every atom, positions as they are."""
        parts = space.split(x_hat)
        numbers = torch.tensor(self.elements, device=mask.device)[parts["elements"].argmax(-1)] * mask
        return MoleculeBatch(numbers, parts["positions"], mask, index)

    def evidence(self, parts: dict[str, Tensor], gamma: Tensor) -> Tensor:
        """[B, N, K] log p(z of the atom's own element and charge blocks | element k), up to a constant in k.

        The Gaussian log-likelihood alpha z_k / (4 sigma^2) - (z_q - alpha Z_k / 10)^2 / (2 sigma^2): by Bayes' rule the
        posterior of an element is the softmax of this plus what the rest of the molecule says.
        """
        like = parts["elements"]
        a, b = per_example(alpha(gamma), like), per_example(sigma(gamma), like)
        charges = torch.tensor(self.elements, device=like.device, dtype=like.dtype) / CHARGE_SCALE
        own = a * parts["elements"] / ELEMENT_SCALE - 0.5 * (parts["charges"] - a * charges).square()
        return own / b.square()
