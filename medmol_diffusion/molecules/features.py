"""The one declared layout of a molecule's state, by block name.

Positions are in angstrom, centred; elements one-hot times 1/4; nuclear charges times 1/10 (Hoogeboom et al. 2022,
section 4). Where the model makes bonds too, bond orders are one-hot for every pair of atoms i < j and formal charges
one-hot for every atom, each on its own declared scale (joint diffusion of atoms and bonds: Vignac et al. 2023, Huang et
al. 2023).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from medmol_diffusion.core import Masked, Product, Space, ZeroCentre, alpha, sigma
from medmol_diffusion.core.observation import Categorical, Gaussian, Observation, Ordinal
from medmol_diffusion.core.observation import Product as ProductObservation
from medmol_diffusion.core.schedule import per_example
from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.batch import MoleculeBatch
from medmol_diffusion.molecules.chemistry import SYMBOLS

ELEMENT_SCALE = 4.0
CHARGE_SCALE = 10.0
BOND_SCALE = 2.0
FORMAL_SCALE = 4.0
BLOCK_TITLES = {"charges": "nuclear charges"}
"""What a table calls a block whose name says too little."""


@dataclass(frozen=True)
class Layout:
    """Blocks "positions" (N, 3), "elements" (N, K) and "charges" (N, 1), the nuclear ones; with bonds also "bonds"
    (N (N - 1) / 2, orders) and "formal_charges" (N, values).

    Args:
        elements: the K atomic numbers of the vocabulary, in the order of the one-hot block.
        bond_orders: those of the bonds block, 0 for none and 4 for aromatic; empty where bonds have no state.
        formal_charges: those of the formal_charges block; empty where they have no state.
    """

    elements: tuple[int, ...]
    bond_orders: tuple[int, ...] = ()
    formal_charges: tuple[int, ...] = ()

    @property
    def categories(self) -> dict[str, tuple[tuple[int, ...], float]]:
        """The one-hot blocks: what their places stand for, and their scale."""
        blocks = {
            "elements": (self.elements, ELEMENT_SCALE),
            "bonds": (self.bond_orders, BOND_SCALE),
            "formal_charges": (self.formal_charges, FORMAL_SCALE),
        }
        return {name: block for name, block in blocks.items() if block[0]}

    @property
    def atoms_size(self) -> int:
        """Categories of an atom: what a network reads and says of one."""
        return len(self.elements) + len(self.formal_charges)

    @property
    def unit(self) -> str:
        """What the likelihood of a molecule counts, and its degrees of freedom."""
        parts = ["positions in angstrom, 3 (N - 1) of them", f"N ({len(self.elements)} + 1) features of elements"]
        if self.formal_charges:
            parts.append(f"N x {len(self.formal_charges)} of formal charges")
        if self.bond_orders:
            parts.append(f"N (N - 1) / 2 x {len(self.bond_orders)} of bonds")
        return f"nats per molecule; {', '.join(parts[:-1])} and {parts[-1]}"

    def space(self, mask: Tensor) -> Product:
        """The space of a batch of molecules with atoms where ``mask`` [B, N] is true."""
        blocks: dict[str, Space] = {"positions": ZeroCentre(mask), "elements": Masked(mask, len(self.elements))}
        blocks["charges"] = Masked(mask, 1)
        if self.bond_orders:
            blocks["bonds"] = Masked(pairs_of(mask), len(self.bond_orders))
        if self.formal_charges:
            blocks["formal_charges"] = Masked(mask, len(self.formal_charges))
        return Product(blocks)

    def observation(self) -> ProductObservation:
        """p(data | z_0): Gaussian positions, categorical elements, integer charges, categorical bonds and formal
        charges."""
        blocks: dict[str, Observation] = {"positions": Gaussian(), "charges": Ordinal(CHARGE_SCALE)}
        return ProductObservation(blocks | {name: Categorical(scale) for name, (_, scale) in self.categories.items()})

    def labels(self, batch: MoleculeBatch) -> dict[str, Tensor]:
        """Places in their vocabularies of the elements [B, N], the bonds [B, M] and the formal charges [B, N]; 0 at
        padding.

        Raises:
            InputError: something is not in its vocabulary, or the batch has no bonds, or charges, where a state needs
                them.
        """
        found = {"elements": batch.atomic_numbers, "bonds": batch.bonds, "formal_charges": batch.formal_charges}
        return {name: self._places(name, found[name], batch.mask) for name in self.categories}

    def _places(self, name: str, values: Tensor | None, mask: Tensor) -> Tensor:
        if values is None:
            raise InputError(
                f"the model makes {name.replace('_', ' ')}, but the molecules come without: take an SDF, or let them "
                "be perceived by data.bonds: distances"
            )
        if name == "bonds":
            values, mask = pack(values), pairs_of(mask)
        vocabulary = self.categories[name][0]
        hit = values[..., None] == torch.tensor(vocabulary, device=values.device)
        if (unknown := mask & ~hit.any(-1)).any():
            found, own = (
                ", ".join(SYMBOLS[value] if name == "elements" else str(value) for value in some)
                for some in (sorted(set(values[unknown].tolist())), vocabulary)
            )
            what = {"bonds": "bond orders"}.get(name, name.replace("_", " "))
            raise InputError(
                f"molecules hold the {what} {found}, but the model makes {own} alone: drop these molecules, or train a "
                f"model with these {what}"
            )
        return hit.long().argmax(-1) * mask

    def encode(self, batch: MoleculeBatch) -> tuple[Product, Tensor, dict[str, Tensor]]:
        """(space, clean state x [B, D], what the observation reads)."""
        space, labels = self.space(batch.mask), self.labels(batch)
        positions = space.blocks["positions"].project(batch.positions)
        charges = batch.atomic_numbers[..., None].to(positions) * batch.mask[..., None]
        state = {"positions": positions, "charges": charges / CHARGE_SCALE}
        for name, (vocabulary, scale) in self.categories.items():
            hot = one_hot(labels[name], len(vocabulary)).to(positions)
            state[name] = space.blocks[name].project(hot) / scale
        return space, space.join(state), {"positions": positions, "charges": batch.atomic_numbers, **labels}

    def decode(self, x_hat: Tensor, space: Product, mask: Tensor, index: Tensor) -> MoleculeBatch:
        """The molecules of a denoised state: of every category the likeliest, positions as they are."""
        parts = space.split(x_hat)
        found = {
            name: torch.tensor(vocabulary, device=mask.device)[parts[name].argmax(-1)]
            for name, (vocabulary, _) in self.categories.items()
        }
        bonds, charges = found.get("bonds"), found.get("formal_charges")
        if bonds is not None:
            bonds = (unpack(bonds[..., None], mask.shape[1])[..., 0] * mask[:, :, None] * mask[:, None, :]).to(
                torch.int8
            )
        return MoleculeBatch(
            found["elements"] * mask,
            parts["positions"],
            mask,
            index,
            bonds=bonds,
            formal_charges=None if charges is None else charges * mask,
        )

    def evidence(self, parts: dict[str, Tensor], gamma: Tensor) -> dict[str, Tensor]:
        """[B, rows, K] log p(z of a row's own blocks | category k) of every one-hot block, up to a constant in k.

        The Gaussian log-likelihood alpha z_k / (scale sigma^2), for elements with that of the nuclear charge,
        -(z_q - alpha Z_k / 10)^2 / (2 sigma^2): by Bayes' rule the posterior of a category is the softmax of this plus
        what the rest of the molecule says.
        """
        like = parts["elements"]
        a, b = per_example(alpha(gamma), like), per_example(sigma(gamma), like)
        own = {name: a * parts[name] / scale for name, (_, scale) in self.categories.items()}
        nuclear = torch.tensor(self.elements, device=like.device, dtype=like.dtype) / CHARGE_SCALE
        own["elements"] = own["elements"] - 0.5 * (parts["charges"] - a * nuclear).square()
        return {name: value / b.square() for name, value in own.items()}


def pack(pairs: Tensor) -> Tensor:
    """The pairs i < j of a symmetric array: [B, N, N, ...] -> [B, N (N - 1) / 2, ...]."""
    i, j = torch.triu_indices(pairs.shape[1], pairs.shape[1], 1, device=pairs.device)
    return pairs[:, i, j]


def pairs_of(atoms: Tensor) -> Tensor:
    """bool [B, N] -> [B, N (N - 1) / 2], the pairs i < j both of whose atoms are marked."""
    return pack(atoms[:, :, None] & atoms[:, None, :])


def unpack(packed: Tensor, size: int) -> Tensor:
    """The inverse of ``pack``, zero on the diagonal: [B, N (N - 1) / 2, K] -> [B, N, N, K]."""
    i, j = torch.triu_indices(size, size, 1, device=packed.device)
    pairs = packed.new_zeros(len(packed), size, size, packed.shape[-1])
    pairs[:, i, j] = packed
    pairs[:, j, i] = packed
    return pairs
