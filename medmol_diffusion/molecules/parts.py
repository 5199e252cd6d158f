"""What is given of molecules that are to be completed, and how training draws it."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from medmol_diffusion.core import Anchored, Masked, Product, Space
from medmol_diffusion.core.noise import Randomness, uniforms
from medmol_diffusion.molecules.batch import MoleculeBatch
from medmol_diffusion.molecules.features import pairs_of

FORMULA, SKELETON = 0.2, 0.4
"""Of the molecules that training gives a part of: below the first uniform the formula is given, below the second all
atoms but the hydrogens; above it a ball of atoms or what lies outside of one."""
BARE, WITH_FORMULA = 0.5, 0.2
"""The share of balls whose hydrogens are not given, and of those beside which the formula is."""


@dataclass(frozen=True)
class Parts:
    """Given parts of B molecules.

    Attributes:
        atoms: bool (B, N), the atoms whose elements, charges, bonds among themselves, and positions about their own
            centre are given.
        elements: bool (B, N), those whose elements are given; all of ``atoms`` among them.
    """

    atoms: Tensor
    elements: Tensor

    @classmethod
    def drawn(cls, batch: MoleculeBatch, generator: Randomness, share: float = 0.5) -> Self:
        """What training gives of each molecule: with probability 1 - ``share`` nothing, else its formula, its heavy
        atoms, or all atoms inside or outside of a ball round a random atom, whose size is uniform; at least one atom is
        left.

        Balls make scaffolds to be grown, what lies outside of them makes fragments to be joined.
        """
        mask, device = batch.mask, batch.mask.device
        kind, place, extent, side, bare, formula = uniforms(len(batch), 6, generator).to(device).unbind(1)
        kind = (kind - (1 - share)) / share  # negative where nothing is given, uniform on [0, 1) where something is
        count, heavy = mask.sum(1), mask & (batch.atomic_numbers > 1)
        rows = torch.arange(len(batch), device=device)
        centre = batch.positions[rows, (place * count).long()]
        far = (batch.positions - centre[:, None]).square().sum(-1).masked_fill(~mask, torch.inf)
        ball = far.argsort(1).argsort(1) < (1 + (extent * (count - 1)).long())[:, None]
        part = torch.where((side < 0.5)[:, None], ball & mask, mask & ~ball)
        stripped = part & heavy
        part = torch.where(((bare < BARE) & stripped.any(1))[:, None], stripped, part)
        skeleton = (heavy.sum(1) > 0) & (heavy.sum(1) < count) & (kind < SKELETON)
        part = torch.where(skeleton[:, None], heavy, part) & (kind >= FORMULA)[:, None]
        told = ((kind >= 0) & (kind < FORMULA)) | ((kind >= FORMULA) & (formula < WITH_FORMULA))
        return cls(part, torch.where(told[:, None], mask, part))

    def known(self, space: Product) -> Tensor:
        """bool [B, D]: the given elements of a state."""
        both = pairs_of(self.atoms)
        named = {"elements": self.elements, "charges": self.elements, "bonds": both}
        return space.join(
            {name: named.get(name, self.atoms)[..., None].expand(block.shape) for name, block in space.blocks.items()}
        )

    def rest(self, space: Product) -> Product:
        """Where what is left to be made lives.

        Raises:
            ValueError: all atoms of a molecule are given.
        """
        known = space.split(self.known(space))
        blocks: dict[str, Space] = {}
        for name, block in space.blocks.items():
            assert isinstance(block, Masked)
            if name == "positions":
                blocks[name] = Anchored(block.mask, self.atoms)
            else:
                blocks[name] = Masked(block.mask & ~known[name][..., 0], block.channels, empty=True)
        return Product(blocks)
