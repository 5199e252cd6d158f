"""Molecule and MoleculeBatch: the one exchange type of the molecule side, and the files it comes from and goes to."""

import gzip
import math
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import chemistry

if TYPE_CHECKING:
    from rdkit.Chem import Mol

AROMATIC = 4
"""The order that stands for an aromatic bond; 1, 2 and 3 are themselves."""


@dataclass(frozen=True, eq=False)
class Molecule:
    """Atoms in space, with bonds and charges where they are known.

    atomic_numbers (N,) int64; positions (N, 3) float64, angstrom; bonds (M, 3) int64 rows (i, j, order) with i < j and
    order 1, 2, 3 or 4 = aromatic, or None when nobody has said; formal_charges (N,) int64 or None.

    Raises InputError for wrong shapes, no atoms, positions that are not finite, and unknown elements, atoms or orders.
    """

    atomic_numbers: np.ndarray
    positions: np.ndarray
    bonds: np.ndarray | None = None
    formal_charges: np.ndarray | None = None
    name: str = ""
    properties: dict[str, float | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        def put(key: str, value: np.ndarray) -> None:
            object.__setattr__(self, key, value)

        put("atomic_numbers", np.asarray(self.atomic_numbers, dtype=np.int64))
        put("positions", np.asarray(self.positions, dtype=np.float64))
        if self.bonds is not None:
            put("bonds", np.asarray(self.bonds, dtype=np.int64).reshape(-1, 3))
        if self.formal_charges is not None:
            put("formal_charges", np.asarray(self.formal_charges, dtype=np.int64))
        if fault := self._fault():
            raise InputError(f"Molecule {self.name!r} {fault}." if self.name else f"A molecule {fault}.")

    def _fault(self) -> str | None:
        numbers, count = self.atomic_numbers, len(np.atleast_1d(self.atomic_numbers))
        if numbers.ndim != 1 or count == 0:
            return f"needs a flat, non-empty list of atomic numbers, not an array of shape {numbers.shape}"
        if self.positions.shape != (count, 3):
            return f"has {count} atoms, so its positions must be of shape ({count}, 3), not {self.positions.shape}"
        if not np.isfinite(self.positions).all():
            return "has a position that is not a finite number"
        if numbers.min() < 1 or numbers.max() > len(chemistry.SYMBOLS) - 1:
            return f"has an atomic number outside 1..118: {int(numbers.min())}..{int(numbers.max())}"
        if self.formal_charges is not None and self.formal_charges.shape != (count,):
            return f"needs one formal charge for each of its {count} atoms"
        if self.formal_charges is not None and np.abs(self.formal_charges).max() > 118:
            return "has a formal charge beyond that of any nucleus, 118"
        if self.bonds is not None and len(self.bonds):
            first, second, order = self.bonds.T
            if (first < 0).any() or (first >= second).any() or (second >= count).any():
                return "has a bond that does not join two of its atoms, i < j"
            if (order < 1).any() or (order > AROMATIC).any():
                return "has a bond order outside 1, 2, 3 and 4 (aromatic)"
            if len(set((first * count + second).tolist())) < len(first):
                return "has two bonds between the same atoms"
        return None

    @property
    def num_atoms(self) -> int:
        return len(self.atomic_numbers)

    @classmethod
    def from_rdkit(cls, mol: "Mol") -> "Molecule":
        """The molecule of an RDKit Mol: its first conformer, its explicit hydrogens, bonds, charges and properties.

        Raises InputError without a conformer, and for bonds that are not single, double, triple or aromatic.
        """
        name = mol.GetProp("_Name") if mol.HasProp("_Name") else ""
        if mol.GetNumConformers() == 0:
            raise InputError(f"Molecule {name!r} has no 3-D coordinates: embed it before use.")
        bonds = []
        for bond in mol.GetBonds():
            order = AROMATIC if bond.GetIsAromatic() else bond.GetBondTypeAsDouble()
            if order not in (1, 2, 3, AROMATIC):
                raise InputError(f"Molecule {name!r} has a bond of type {bond.GetBondType()}, which is not supported.")
            bonds.append((*sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())), int(order)))
        return cls(
            atomic_numbers=np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()], dtype=np.int64),
            positions=mol.GetConformer().GetPositions(),
            bonds=np.array(sorted(bonds), dtype=np.int64).reshape(-1, 3),
            formal_charges=np.array([atom.GetFormalCharge() for atom in mol.GetAtoms()], dtype=np.int64),
            name=name,
            properties=mol.GetPropsAsDict(includePrivate=False, includeComputed=False),
        )

    def to_rdkit(self) -> "Mol":
        """An RDKit Mol with a conformer: the stored bonds, or else those the distances imply (chemistry.to_rdkit)."""
        return chemistry.to_rdkit(self)

    def to_sdf(self) -> str:
        """One SDF record with bonds and properties, ending in $$$$. Impossible valences are written as they stand."""
        return chemistry.to_mol_block(self) + _sdf_properties(self.properties) + "$$$$\n"

    def to_xyz(self) -> str:
        """One xyz frame, angstrom."""
        rows = (
            f"{chemistry.SYMBOLS[number]:<2} {x:14.8f} {y:14.8f} {z:14.8f}"
            for number, (x, y, z) in zip(self.atomic_numbers, self.positions, strict=True)
        )
        return "\n".join([str(self.num_atoms), " ".join(self.name.split()), *rows]) + "\n"


@dataclass(frozen=True)
class BadRecord:
    """A record of a file that could not be used: its place from 0, its name if it has one, and why."""

    index: int
    name: str
    reason: str

    def __str__(self) -> str:
        return f"record {self.index + 1}{f' ({self.name})' if self.name else ''}: {self.reason}"


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
    """

    atomic_numbers: Tensor
    positions: Tensor
    mask: Tensor
    index: Tensor
    bonds: Tensor | None = None
    formal_charges: Tensor | None = None
    properties: dict[str, Tensor] = field(default_factory=dict)

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
                i, j, order = torch.from_numpy(molecule.bonds).T  # type: ignore[arg-type]
                bonds[row, i, j] = bonds[row, j, i] = order.to(torch.int8)
        if all(molecule.formal_charges is not None for molecule in molecules):
            charges = torch.zeros(numbers.shape, dtype=torch.int64)
            for row, molecule in enumerate(molecules):
                charges[row, : count[row]] = torch.from_numpy(molecule.formal_charges)  # type: ignore[arg-type]
        names = {name for molecule in molecules for name, value in molecule.properties.items() if _is_number(value)}
        properties = {
            name: torch.tensor(
                [float(v) if _is_number(v := molecule.properties.get(name)) else math.nan for molecule in molecules],
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
            *(move(tensor) for tensor in (self.atomic_numbers, self.positions, self.mask, self.index)),
            bonds=None if self.bonds is None else move(self.bonds),
            formal_charges=None if self.formal_charges is None else move(self.formal_charges),
            properties={name: move(value) for name, value in self.properties.items()},
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


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def pad(molecules: list[Molecule]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Atomic numbers (M, N) int64 and positions (M, N, 3) float32, zero at padding, and atom counts (M,) int64."""
    count = np.array([molecule.num_atoms for molecule in molecules], dtype=np.int64)
    largest = int(count.max(initial=0))
    numbers = np.zeros((len(molecules), largest), dtype=np.int64)
    positions = np.zeros((len(molecules), largest, 3), dtype=np.float32)
    for row, molecule in enumerate(molecules):
        numbers[row, : count[row]] = molecule.atomic_numbers
        positions[row, : count[row]] = molecule.positions
    return numbers, positions, count


def read_molecules(path: str | Path) -> tuple[list[Molecule], list[BadRecord]]:
    """The molecules of an .sdf, .sdf.gz, .xyz (any number of frames) or .npz file, and the records that were skipped.

    Raises InputError for a missing or empty file, and for any other suffix. Reading SDF needs RDKit.
    """
    path = check_file(path)
    records = _npz_records(path) if suffix(path) == ".npz" else _parse(path)
    molecules: list[Molecule] = []
    bad: list[BadRecord] = []
    for index, (name, build) in enumerate(records):
        try:
            molecules.append(build())
        except InputError as error:
            bad.append(BadRecord(index, name, str(error)))
    if not molecules and not bad:
        raise InputError(f"{path} holds no molecules.")
    return molecules, bad


def write_sdf(molecules: Iterable[Molecule], path: str | Path) -> None:
    """Write all molecules to one SDF file, which appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            for molecule in molecules:
                file.write(molecule.to_sdf())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_file(path: str | Path) -> Path:
    """The path, if it is a file that can hold molecules; raises InputError otherwise."""
    path = Path(path)
    if suffix(path) not in (".sdf", ".sdf.gz", ".xyz", ".npz"):
        raise InputError(f"{path} is not a molecule file: its name must end in .sdf, .sdf.gz, .xyz or .npz.")
    if not path.is_file():
        raise InputError(f"There is no file {path}: check the path.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty.")
    return path


def suffix(path: Path) -> str:
    return "".join(path.suffixes[-2:]).lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Every array of an npz data set, once each, with num_atoms filled in where absent.

    Layout: atomic_numbers [M, N] zero-padded, positions [M, N, 3] angstrom, num_atoms [M], and any columns [M].
    Raises InputError when it is no npz, an array is missing or the shapes do not agree.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(
            f"{path} cannot be read as an npz archive of plain arrays: save it with numpy.savez."
        ) from error
    for key, dimensions in (("atomic_numbers", 2), ("positions", 3)):
        if key not in arrays or arrays[key].ndim != dimensions:
            raise InputError(f"{path} needs an array {key!r} of {dimensions} dimensions.")
    numbers = arrays["atomic_numbers"]
    arrays.setdefault("num_atoms", (numbers != 0).sum(axis=1))
    if arrays["positions"].shape != (*numbers.shape, 3) or arrays["num_atoms"].shape != numbers.shape[:1]:
        raise InputError(f"{path}: atomic_numbers [M, N], positions [M, N, 3] and num_atoms [M] do not agree in shape.")
    return arrays


def usable_rows(atomic_numbers: np.ndarray, positions: np.ndarray, num_atoms: np.ndarray) -> np.ndarray:
    """(M,) bool: rows of an npz data set with num_atoms real elements first, zeros after, and finite positions."""
    real = np.arange(atomic_numbers.shape[1]) < num_atoms[:, None]
    known = (atomic_numbers >= 1) & (atomic_numbers < len(chemistry.SYMBOLS))
    finite = np.isfinite(positions).all(axis=-1)
    return (
        np.where(real, known & finite, atomic_numbers == 0).all(axis=1) & (real.sum(axis=1) == num_atoms) & real[:, 0]
    )


Record = tuple[str, Callable[[], Molecule]]


def _npz_records(path: Path) -> Iterator[Record]:
    arrays = read_npz(path)
    numbers, positions, count = (arrays.pop(key) for key in ("atomic_numbers", "positions", "num_atoms"))
    columns = {key: value.tolist() for key, value in arrays.items() if value.shape == count.shape}
    names = columns.pop("index", None) or columns.pop("name", None)

    def build(row: int, name: str) -> Molecule:
        size = int(count[row])
        if size > numbers.shape[1] or (numbers[row, size:] != 0).any():
            raise InputError(f"Row {row} has num_atoms {size}, which is not how many atomic numbers it holds.")
        properties = {key: values[row] for key, values in columns.items()}
        return Molecule(numbers[row, :size], positions[row, :size], name=name, properties=properties)

    for row in range(len(count)):
        name = str(names[row]) if names else ""
        yield name, lambda row=row, name=name: build(row, name)  # type: ignore[misc]


def _parse(path: Path) -> Iterator[Record]:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix.lower() == ".gz" else path.read_bytes()
    except (OSError, EOFError, gzip.BadGzipFile) as error:
        raise InputError(f"{path} is not a whole gzip file ({error}).") from error
    lines = data.decode("utf-8", errors="replace").splitlines()
    return _parse_xyz(lines) if suffix(path) == ".xyz" else _parse_sdf(lines)


def _parse_sdf(lines: list[str]) -> Iterator[Record]:
    start = 0
    for place, line in enumerate([*lines, "$$$$"]):
        if line.startswith("$$$$"):
            record, start = lines[start:place], place + 1
            if any(text.strip() for text in record):
                yield record[0].strip(), lambda record=record: _sdf_molecule(record)  # type: ignore[misc]


def _sdf_molecule(record: list[str]) -> Molecule:
    if len(record) > 1 and record[1][20:22] == "2D":
        raise InputError("The record has 2-D coordinates only: embed the molecule in 3-D.")
    molecule = Molecule.from_rdkit(chemistry.from_mol_block("\n".join(record)))
    if molecule.num_atoms > 1 and not np.ptp(molecule.positions, axis=0).any():
        raise InputError("The record puts all atoms at one point: embed the molecule in 3-D.")
    fields: dict[str, float | str] = {}
    for place, line in enumerate(record):
        if (header := re.match(r">.*<([^>]+)>", line)) and place + 1 < len(record):
            fields[header[1]] = _number_or_text(record[place + 1].strip())
    molecule.properties.update(fields)
    return molecule


def _parse_xyz(lines: list[str]) -> Iterator[Record]:
    place = 0
    while place < len(lines):
        if not lines[place].strip():
            place += 1
            continue
        start = place
        if not lines[start].strip().isdigit():  # no frame starts here: give up what lies before the next count
            while place < len(lines) and not lines[place].strip().isdigit():
                place += 1
            yield "", lambda start=start: _xyz_fault(start)  # type: ignore[misc]
            continue
        place = start + 2 + int(lines[start])
        name = lines[start + 1].strip() if start + 1 < len(lines) else ""
        yield name, lambda start=start, place=place, name=name: _xyz_molecule(lines[start:place], start, name)  # type: ignore[misc]


def _xyz_fault(line: int) -> Molecule:
    raise InputError(f"Line {line + 1} should be a number of atoms.")


def _xyz_molecule(frame: list[str], start: int, name: str) -> Molecule:
    count = int(frame[0])
    if len(frame) < count + 2:
        raise InputError(f"The frame at line {start + 1} ends after {max(len(frame) - 2, 0)} of its {count} atoms.")
    numbers, positions = [], []
    for offset, line in enumerate(frame[2:]):
        try:
            symbol, *values = line.split()[:4]
            x, y, z = map(float, values)
        except ValueError as error:
            raise InputError(f"Line {start + offset + 3} should be an element and three coordinates.") from error
        numbers.append(int(symbol) if symbol.isdigit() else chemistry.atomic_number(symbol))
        positions.append((x, y, z))
    return Molecule(np.array(numbers, dtype=np.int64), np.array(positions).reshape(-1, 3), name=name)


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _sdf_properties(properties: dict[str, float | str]) -> str:
    return "".join(f">  <{key}>\n{value}\n\n" for key, value in properties.items())
