"""FlatMolecules: any number of molecules laid end to end in a few arrays, in memory or memory-mapped."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medmol_diffusion.molecules.molecule import Molecule, is_number

SHOWN = 5
"""Bad records that a warning names."""


@dataclass
class FlatMolecules:
    """M molecules of A atoms and K bonds in all.

    Attributes:
        atomic_numbers: (A,) uint8.
        positions: (A, 3) float32, angstrom, each molecule about its centroid.
        offsets: (M + 1,) int64; molecule m holds the atoms offsets[m] to offsets[m + 1].
        index: (M,) int64, each one's place in its source; random streams hang on it.
        group: (M,) int64, equal for conformers of one molecule: the index of the first of them.
        bonds: (K, 3) int32 rows (i, j, order) with i < j, atoms counted within the molecule; or None.
        bond_offsets: (M + 1,) int64 into bonds.
        formal_charges: (A,) int8, or None.
        columns: (M,) float64 each, by name; NaN where a molecule has none.
        records: how many records the source holds, the bad ones too.
        skipped, faults: how many of them are bad, and what is wrong with the first few.
        folder: where the arrays lie, when they are memory-mapped.
    """

    atomic_numbers: np.ndarray
    positions: np.ndarray
    offsets: np.ndarray
    index: np.ndarray
    group: np.ndarray
    bonds: np.ndarray | None = None
    bond_offsets: np.ndarray | None = None
    formal_charges: np.ndarray | None = None
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    records: int = 0
    skipped: int = 0
    faults: tuple[str, ...] = ()
    folder: Path | None = None

    def __len__(self) -> int:
        return len(self.index)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """To a worker goes the folder, not the gigabytes."""
        if self.folder is None:
            return super().__reduce_ex__(protocol)
        from medmol_diffusion.molecules.cache import read

        return read, (self.folder,)

    @property
    def num_atoms(self) -> np.ndarray:
        """(M,) int64."""
        return np.diff(self.offsets)

    @classmethod
    def of(
        cls,
        molecules: Sequence[Molecule],
        index: Sequence[int] | np.ndarray | None = None,
        group: Sequence[int] | np.ndarray | None = None,
    ) -> "FlatMolecules":
        """Molecules end to end; index is 0, 1, 2, ... unless given, group the index.

        Bonds, and charges, are kept where all have some; every property that is a number somewhere is a column.
        """
        places = np.arange(len(molecules)) if index is None else np.asarray(index, dtype=np.int64)
        count = [molecule.num_atoms for molecule in molecules]
        offsets = running(count)
        names = sorted({k for molecule in molecules for k, value in molecule.properties.items() if is_number(value)})
        columns = {
            name: np.array([v if is_number(v := m.properties.get(name)) else np.nan for m in molecules], dtype=float)
            for name in names
        }
        bonds = bond_offsets = charges = None
        if all(molecule.bonds is not None for molecule in molecules):
            bonds = _join([molecule.bonds for molecule in molecules], (0, 3), np.int32)
            bond_offsets = running([len(molecule.bonds) for molecule in molecules if molecule.bonds is not None])
        if all(molecule.formal_charges is not None for molecule in molecules):
            charges = _join([molecule.formal_charges for molecule in molecules], (0,), np.int8)
        return cls(
            _join([molecule.atomic_numbers for molecule in molecules], (0,), np.uint8),
            centred(_join([molecule.positions for molecule in molecules], (0, 3), np.float64), offsets),
            offsets,
            places,
            places if group is None else np.asarray(group, dtype=np.int64),
            bonds,
            bond_offsets,
            charges,
            columns,
            records=len(molecules),
        )

    @classmethod
    def concatenate(cls, chunks: Iterable["FlatMolecules"]) -> "FlatMolecules":
        """Chunks of one source, in order. Bonds, and charges, are kept where all chunks with molecules have them."""
        everything = list(chunks)
        parts = [chunk for chunk in everything if len(chunk)] or everything[:1] or [cls.of([], [])]
        first = parts[0]
        names = sorted({name for chunk in parts for name in chunk.columns})
        bonds = [chunk.bonds for chunk in parts if chunk.bonds is not None]
        bond_offsets = [chunk.bond_offsets for chunk in parts if chunk.bond_offsets is not None]
        charges = [chunk.formal_charges for chunk in parts if chunk.formal_charges is not None]
        return cls(
            np.concatenate([chunk.atomic_numbers for chunk in parts]),
            np.concatenate([chunk.positions for chunk in parts]),
            running(np.concatenate([chunk.num_atoms for chunk in parts])),
            np.concatenate([chunk.index for chunk in parts]),
            np.concatenate([chunk.group for chunk in parts]),
            np.concatenate(bonds) if len(bonds) == len(parts) else None,
            running(np.concatenate([np.diff(one) for one in bond_offsets])) if len(bonds) == len(parts) else None,
            np.concatenate(charges) if len(charges) == len(parts) else None,
            {name: np.concatenate([chunk.column(name) for chunk in parts]) for name in names},
            records=sum(chunk.records for chunk in everything),
            skipped=sum(chunk.skipped for chunk in everything),
            faults=tuple(fault for chunk in everything for fault in chunk.faults)[:SHOWN],
            folder=first.folder if len(parts) == 1 else None,
        )

    def molecule(self, row: int) -> Molecule:
        """One of them, with its bonds and charges if there are any, named by its place in the source."""
        atoms = slice(*self.offsets[row : row + 2])
        bonds = None
        if self.bonds is not None and self.bond_offsets is not None:
            bonds = self.bonds[slice(*self.bond_offsets[row : row + 2])]
        charges = None if self.formal_charges is None else self.formal_charges[atoms]
        return Molecule(self.atomic_numbers[atoms], self.positions[atoms], bonds, charges, str(self.index[row]))

    def column(self, name: str) -> np.ndarray:
        """(M,) float64, NaN throughout where there is no such column."""
        return self.columns[name] if name in self.columns else np.full(len(self), np.nan)


def centred(positions: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """(A, 3) float32: every molecule about its centroid, which is taken in float64."""
    if not len(positions):
        return positions.astype(np.float32)
    count = np.diff(offsets)
    mean = np.add.reduceat(positions, offsets[:-1], axis=0, dtype=np.float64) / count[:, None]
    return (positions - np.repeat(mean, count, axis=0)).astype(np.float32)


def running(count: Any) -> np.ndarray:
    """(M + 1,) int64: 0, and the running sums of count."""
    return np.concatenate([[0], np.cumsum(count, dtype=np.int64)]).astype(np.int64)


def _join(arrays: list[Any], empty: tuple[int, ...], dtype: Any) -> np.ndarray:
    return np.concatenate(arrays).astype(dtype) if arrays else np.zeros(empty, dtype=dtype)
