"""MoleculeBatch: molecules as tensors, padded to one size. Whoever only reads and judges molecules needs no torch."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from medmol_diffusion.molecules.molecule import Molecule, is_number, pad


@dataclass
class MoleculeBatch:
    """Molecules padded to the largest.

    Attributes:
        atomic_numbers: (B, N) int64, 0 at padding.
        positions: (B, N, 3) float32, angstrom, 0 at padding.
        mask: (B, N) bool, the real atoms.
        index: (B,) int64, each one's place in its data set.
        bonds: (B, N, N) int8 symmetric orders, 0 none, 1, 2, 3, 4 = aromatic; None where nobody has said.
        formal_charges: (B, N) int64, 0 at padding; None where nobody has said.
        properties: (B,) float64 each, by name; NaN where a molecule has none.
        total: how many molecules the batch has over all ranks, of which these are one's share; 0 where nobody shares.
    """

    atomic_numbers: Tensor
    positions: Tensor
    mask: Tensor
    index: Tensor
    bonds: Tensor | None = None
    formal_charges: Tensor | None = None
    properties: dict[str, Tensor] = field(default_factory=dict)
    total: int = 0

    @classmethod
    def collate(cls, molecules: list[Molecule], index: Iterable[int] | None = None) -> "MoleculeBatch":
        """Pad molecules to one size; index is 0, 1, 2, ... unless given.

        Bonds, and charges, are those of the molecules where all of them have some. Every property that is a number
        somewhere is kept.
        """
        numbers, positions, count = pad(molecules)
        places = torch.arange(len(molecules)) if index is None else torch.as_tensor(list(index), dtype=torch.int64)
        mask = torch.arange(numbers.shape[1]) < torch.from_numpy(count)[:, None]
        bonds = charges = None
        if all(molecule.bonds is not None for molecule in molecules):
            bonds = torch.zeros(*numbers.shape, numbers.shape[1], dtype=torch.int8)
            for row, molecule in enumerate(molecules):
                i, j, order = torch.from_numpy(molecule.bonds).T
                bonds[row, i, j] = bonds[row, j, i] = order.to(torch.int8)
        if all(molecule.formal_charges is not None for molecule in molecules):
            charges = torch.zeros(numbers.shape, dtype=torch.int64)
            for row, molecule in enumerate(molecules):
                charges[row, : count[row]] = torch.from_numpy(molecule.formal_charges)
        names = {name for molecule in molecules for name, value in molecule.properties.items() if is_number(value)}
        properties = {
            name: torch.tensor(
                [float(v) if is_number(v := molecule.properties.get(name)) else math.nan for molecule in molecules],
                dtype=torch.float64,
            )
            for name in sorted(names)
        }
        return cls(torch.from_numpy(numbers), torch.from_numpy(positions), mask, places, bonds, charges, properties)

    def __len__(self) -> int:
        return len(self.index)

    @property
    def num_atoms(self) -> Tensor:
        """(B,) int64."""
        return self.mask.sum(dim=1)

    def to(self, device: torch.device | str, **options: Any) -> "MoleculeBatch":
        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, **options)

        return MoleculeBatch(
            atomic_numbers=move(self.atomic_numbers),
            positions=move(self.positions),
            mask=move(self.mask),
            index=move(self.index),
            bonds=None if self.bonds is None else move(self.bonds),
            formal_charges=None if self.formal_charges is None else move(self.formal_charges),
            properties={name: move(value) for name, value in self.properties.items()},
            total=self.total,
        )

    def unbatch(self) -> list[Molecule]:
        """The molecules without their padding."""
        found = []
        for row, mask in enumerate(self.mask.cpu()):
            bonds = charges = None
            if self.bonds is not None:
                i, j = torch.triu_indices(int(mask.sum()), int(mask.sum()), 1)
                order = self.bonds[row].cpu()[mask][:, mask][i, j].long()
                bonds = torch.stack([i, j, order], dim=1)[order > 0].numpy()
            if self.formal_charges is not None:
                charges = self.formal_charges[row].cpu()[mask].numpy()
            found.append(
                Molecule(
                    self.atomic_numbers[row].detach().cpu()[mask].numpy(),
                    self.positions[row].detach().cpu()[mask].double().numpy(),
                    bonds,
                    charges,
                    properties={name: float(value[row]) for name, value in self.properties.items()},
                )
            )
        return found
