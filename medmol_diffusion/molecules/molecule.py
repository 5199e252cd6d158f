"""Molecule: the one exchange type of the molecule side."""

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeGuard

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import chemistry
from medmol_diffusion.molecules.formula import formula_of
from medmol_diffusion.plural import counted

if TYPE_CHECKING:
    from ase import Atoms
    from rdkit.Chem import Mol

AROMATIC = 4
"""The order that stands for an aromatic bond; 1, 2 and 3 are themselves."""


@dataclass(frozen=True, eq=False, repr=False)
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

    def __repr__(self) -> str:
        """Name, formula, and counts of atoms and bonds: Molecule('ethene', C2H4, 6 atoms, 5 bonds)."""
        parts = [] if not self.name else [repr(self.name)]
        parts += [formula_of(self.atomic_numbers), counted(self.num_atoms, "atom")]
        parts += [] if self.bonds is None else [counted(len(self.bonds), "bond")]
        return f"Molecule({', '.join(parts)})"

    @property
    def num_atoms(self) -> int:
        return len(self.atomic_numbers)

    @classmethod
    def from_rdkit(cls, mol: "Mol") -> "Molecule":
        """The molecule of an RDKit Mol: its first conformer, its explicit hydrogens, bonds, charges and properties.

        Raises InputError without a conformer, for a drawing (a conformer that says it is 2-D, with z = 0 throughout),
        and for bonds that are not single, double, triple or aromatic.
        """
        name = mol.GetProp("_Name") if mol.HasProp("_Name") else ""
        if mol.GetNumConformers() == 0:
            raise InputError(f"Molecule {name!r} has no 3-D coordinates: embed it before use.")
        conformer = mol.GetConformer()
        positions = conformer.GetPositions()
        if not conformer.Is3D() and not positions[:, 2].any():
            raise InputError(f"Molecule {name!r} is a 2-D drawing: embed it in 3-D before use.")
        # by number: RDKit's own iterators take several times as long
        atoms = list(map(mol.GetAtomWithIdx, range(mol.GetNumAtoms())))
        bonds = []
        for bond in map(mol.GetBondWithIdx, range(mol.GetNumBonds())):
            order = AROMATIC if bond.GetIsAromatic() else bond.GetBondTypeAsDouble()
            if order not in (1, 2, 3, AROMATIC):
                raise InputError(f"Molecule {name!r} has a bond of type {bond.GetBondType()}, which is not supported.")
            first, second = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
            bonds.append((min(first, second), max(first, second), int(order)))
        return cls(
            atomic_numbers=np.array([atom.GetAtomicNum() for atom in atoms], dtype=np.int64),
            positions=positions,
            bonds=np.array(sorted(bonds), dtype=np.int64).reshape(-1, 3),
            formal_charges=np.array([atom.GetFormalCharge() for atom in atoms], dtype=np.int64),
            name=name,
            properties=mol.GetPropsAsDict(includePrivate=False, includeComputed=False),
        )

    def to_rdkit(self) -> "Mol":
        """An RDKit Mol with a conformer: the stored bonds, or else those the distances imply (chemistry.to_rdkit)."""
        return chemistry.to_rdkit(self)

    def to_sdf(self) -> str:
        """One SDF record with bonds, charges and properties, ending in $$$$; see formats.sdf.write_sdf for those of a
        molecule without bonds. Impossible valences are written as they stand."""
        block = chemistry.to_mol_block(self)
        return " " * block.startswith("$$$$") + block + _sdf_properties(self.properties) + "$$$$\n"

    @classmethod
    def from_ase(cls, atoms: "Atoms") -> "Molecule":
        """The molecule of an ASE Atoms object: formats.ase_atoms.from_ase."""
        from medmol_diffusion.molecules.formats.ase_atoms import from_ase

        return from_ase(atoms)

    def to_ase(self) -> "Atoms":
        """An ASE Atoms object: formats.ase_atoms.to_ase."""
        from medmol_diffusion.molecules.formats.ase_atoms import to_ase

        return to_ase(self)

    def to_xyz(self) -> str:
        """One xyz frame, angstrom; its comment is the name, or in extended xyz the name and the properties, if any."""
        rows = (
            f"{chemistry.SYMBOLS[number]:<2} {x:14.8f} {y:14.8f} {z:14.8f}"
            for number, (x, y, z) in zip(self.atomic_numbers, self.positions, strict=True)
        )
        comment = " ".join(self.name.split())
        if self.properties:
            fields = {"Properties": "species:S:1:pos:R:3", "name": comment, **self.properties}
            comment = " ".join(f"{re.sub(_NO_KEY, '_', key)}={_quoted(value)}" for key, value in fields.items())
        return "\n".join([str(self.num_atoms), comment, *rows]) + "\n"


def is_number(value: object) -> TypeGuard[float]:
    """Whether a property is a number: what a batch and a data set can hold of it."""
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


_NO_KEY = re.compile(r'[\s="]')


def _quoted(value: float | str) -> str:
    text = " ".join(str(value).split())
    return text if text and not _NO_KEY.search(text) else '"{}"'.format(text.replace('"', "'"))


def _sdf_properties(properties: dict[str, float | str]) -> str:
    """Fields of one line each: another line could end the record, and begin one that nobody made."""
    fields = ((re.sub(r"[<>\r\n]", "_", key), _one_line(str(value))) for key, value in properties.items())
    return "".join(f">  <{key}>\n{value}\n\n" for key, value in fields)


def _one_line(text: str) -> str:
    """Without line ends, and with a space before what SDF takes for an end or a field."""
    line = re.sub(r"\s*[\r\n]+\s*", " ", text)
    return f" {line}" if line.startswith(("$", ">")) else line
