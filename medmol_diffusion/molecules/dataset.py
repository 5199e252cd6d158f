"""MoleculeDataset: some of the molecules of a FlatMolecules, handed out in whole batches."""

from typing import Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import chemistry
from medmol_diffusion.molecules.batch import MoleculeBatch
from medmol_diffusion.molecules.flat import FlatMolecules
from medmol_diffusion.molecules.molecule import Molecule

Bonds = Literal["file", "distances"]
"""Where bonds come from: the source, or the distances by rule 1."""
BLOCK = 1 << 16
"""Molecules looked at in one go where all are looked at."""


class MoleculeDataset(Dataset[Molecule]):
    """Rows of ``flat``, M of them: nothing is copied, in memory or memory-mapped.

    Args:
        flat: the molecules.
        rows: (M,) which of them; all by default.
        bonds: what a batch says of bonds and formal charges: those of the file, or orders by rule 1 from the distances
            with charges of zero, or nothing.
        properties: the columns a batch carries.

    Attributes: num_atoms (M,), index (M,) and group (M,) as in FlatMolecules.

    Raises:
        InputError: bonds of a file that has none, or a column it does not have.
    """

    def __init__(
        self,
        flat: FlatMolecules,
        rows: np.ndarray | None = None,
        bonds: Bonds | None = None,
        properties: tuple[str, ...] = (),
    ) -> None:
        self.flat, self.bonds, self.properties = flat, bonds, tuple(properties)
        self.rows = np.arange(len(flat)) if rows is None else rows
        if bonds == "file" and flat.bonds is None:
            raise InputError("bonds: file is asked for, but not every molecule has bonds of its own: say distances.")
        if unknown := [name for name in self.properties if name not in flat.columns]:
            known = ", ".join(sorted(flat.columns)) or "none"
            raise InputError(f"properties: the data have no column {', '.join(unknown)}; those they have: {known}.")
        self.starts = np.asarray(flat.offsets[:-1])[self.rows]
        self.num_atoms = flat.num_atoms[self.rows]
        self.index, self.group = flat.index[self.rows], flat.group[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Molecule:
        (molecule,) = self.__getitems__([int(row)]).unbatch()
        return Molecule(
            molecule.atomic_numbers,
            molecule.positions,
            molecule.bonds,
            molecule.formal_charges,
            str(self.index[row]),
            molecule.properties,
        )

    def __getitems__(self, rows: list[int]) -> MoleculeBatch:
        """What DataLoader asks for: the whole batch at once, padded to its own largest molecule."""
        chosen = np.asarray(rows)
        count = self.num_atoms[chosen]
        place = np.arange(int(count.max()))
        mask = place < count[:, None]
        atoms = np.where(mask, self.starts[chosen][:, None] + place, 0)
        numbers = np.where(mask, self.flat.atomic_numbers[atoms], 0).astype(np.int64)
        positions = np.where(mask[..., None], self.flat.positions[atoms], np.float32(0))
        bonds, charges = self._bonds(chosen, numbers, positions, atoms)
        return MoleculeBatch(
            torch.from_numpy(numbers),
            torch.from_numpy(positions),
            torch.from_numpy(mask),
            torch.from_numpy(self.index[chosen]),
            None if bonds is None else torch.from_numpy(bonds),
            None if charges is None else torch.from_numpy(charges),
            {
                name: torch.from_numpy(np.asarray(self.flat.columns[name][self.rows[chosen]], dtype=np.float64))
                for name in self.properties
            },
        )

    def _bonds(
        self, chosen: np.ndarray, numbers: np.ndarray, positions: np.ndarray, atoms: np.ndarray
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Orders (B, N, N) int8 and charges (B, N) int64."""
        if self.bonds is None:
            return None, None
        if self.bonds == "distances":
            return chemistry.bond_orders_batch(numbers, positions), np.zeros_like(numbers)
        assert self.flat.bonds is not None  # __init__ has looked
        assert self.flat.bond_offsets is not None
        start, end = (self.flat.bond_offsets[self.rows[chosen] + k] for k in (0, 1))
        count = end - start
        place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(start, count)
        molecule = np.repeat(np.arange(len(chosen)), count)
        i, j, order = self.flat.bonds[place].T
        orders = np.zeros((*numbers.shape, numbers.shape[1]), dtype=np.int8)
        orders[molecule, i, j] = orders[molecule, j, i] = order
        charges = np.zeros_like(numbers)
        if self.flat.formal_charges is not None:
            charges = np.where(numbers != 0, self.flat.formal_charges[atoms], 0).astype(np.int64)
        return orders, charges

    def subset(self, rows: np.ndarray) -> "MoleculeDataset":
        """These of the M molecules, by place."""
        return MoleculeDataset(self.flat, self.rows[rows], self.bonds, self.properties)

    def count_with(self, numbers: list[int]) -> np.ndarray:
        """(M,) int64: how many atoms of these elements each molecule has."""
        wanted = np.zeros(len(chemistry.SYMBOLS), dtype=bool)
        wanted[numbers] = True
        found = [np.zeros(0, dtype=np.int64)]
        for a in range(0, len(self.flat), BLOCK):  # end to end, which a memory map likes best
            offsets = np.asarray(self.flat.offsets[a : a + BLOCK + 1])
            atoms = wanted[self.flat.atomic_numbers[offsets[0] : offsets[-1]]]
            found.append(np.add.reduceat(atoms, offsets[:-1] - offsets[0], dtype=np.int64))
        return np.concatenate(found)[self.rows]

    @property
    def elements(self) -> list[int]:
        """The atomic numbers that occur anywhere in ``flat``, ascending."""
        atoms = self.flat.atomic_numbers
        counts = sum(
            (np.bincount(atoms[a : a + BLOCK], minlength=256) for a in range(0, len(atoms), BLOCK)),
            np.zeros(256, dtype=np.int64),
        )
        return np.flatnonzero(counts).tolist()

    def position_std(self) -> float:
        """Angstrom: the root of the sum of |x_i|^2 over 3 (N - 1) degrees of freedom each, about the centroids."""
        total = 0.0
        for a in range(0, len(self), BLOCK):
            starts, count = self.starts[a : a + BLOCK], self.num_atoms[a : a + BLOCK]
            atoms = np.repeat(starts - np.cumsum(count) + count, count) + np.arange(count.sum())
            total += float(np.square(self.flat.positions[atoms], dtype=np.float64).sum())
        return (total / float(3 * (self.num_atoms - 1).sum())) ** 0.5
