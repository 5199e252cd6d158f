"""Bond lengths, angles and dihedrals of a whole set of molecules at once, each with its type and its molecule."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from medmol_diffusion.molecules import chemistry
from medmol_diffusion.molecules.molecule import AROMATIC, Molecule, pad

STRAIGHT = 175.0
"""Degrees: a chain with an angle beyond has no dihedral worth the name."""
_CHUNK = 1024
_BASE = 128  # above every atomic number, for types of several numbers in one
_SIGNS = {0: "", 1: "-", 2: "=", 3: "#", AROMATIC: ":"}


@dataclass(frozen=True)
class Values:
    """Numbers measured in a set of molecules: type (V,) int64, value (V,) float64, owner (V,) int64, the molecule."""

    type: np.ndarray
    value: np.ndarray
    owner: np.ndarray


@dataclass(frozen=True)
class Geometry:
    """What a set of molecules looks like.

    Attributes:
        lengths: of bonds, pm; by the two elements and the order.
        angles: degrees, 0 to 180, between two bonds at one atom; by the element of that atom.
        dihedrals: degrees, -180 to 180, of four atoms in a row, signed as IUPAC has it; by the middle bond.
        atoms: the atomic number of every atom, as type and value.
        sizes: the number of atoms of every molecule; of one type.
        count: how many molecules.
    """

    lengths: Values
    angles: Values
    dihedrals: Values
    atoms: Values
    sizes: Values
    count: int


def measure(molecules: Sequence[Molecule]) -> Geometry:
    """The geometry of a set: by the stored bonds of a molecule, or else those of rule 1."""
    atoms = np.array([molecule.num_atoms for molecule in molecules], dtype=np.int64)
    owner = np.repeat(np.arange(len(molecules)), atoms)
    numbers = np.concatenate([np.empty(0, dtype=np.int64), *(molecule.atomic_numbers for molecule in molecules)])
    positions = np.concatenate([np.empty((0, 3)), *(molecule.positions for molecule in molecules)])
    offsets = np.cumsum(atoms) - atoms
    rows = [bonds + np.array([offset, offset, 0]) for bonds, offset in zip(_bonds(molecules), offsets, strict=True)]
    bonds = np.concatenate([np.empty((0, 3), dtype=np.int64), *rows])
    kind = _bond_type(numbers, bonds)

    i, j, _ = bonds.T
    lengths = 100 * np.linalg.norm(positions[i] - positions[j], axis=1)
    # every bond as two arrows, ordered by where they start
    start, end = np.concatenate([i, j]), np.concatenate([j, i])
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    first = np.searchsorted(start, np.arange(len(numbers) + 1))
    degree = np.diff(first)

    a, b = _join(np.arange(len(end)), first[start], degree[start])
    a, b = a[a < b], b[a < b]
    centre = start[a]
    angles = _angle(positions[end[a]] - positions[centre], positions[end[b]] - positions[centre])

    bond, left = _join(np.arange(len(i)), first[i], degree[i])
    row, right = _join(np.arange(len(bond)), first[j[bond]], degree[j[bond]])
    bond, left = bond[row], left[row]
    p, q, r, s = end[left], i[bond], j[bond], end[right]
    chain = (p != r) & (s != q) & (p != s)  # four different atoms
    for corner, near, far in ((q, p, r), (r, q, s)):  # three atoms in a line leave the dihedral open
        chain &= _angle(positions[near] - positions[corner], positions[far] - positions[corner]) < STRAIGHT
    p, q, r, s, bond = p[chain], q[chain], r[chain], s[chain], bond[chain]
    return Geometry(
        Values(kind, lengths, owner[i]),
        Values(numbers[centre], angles, owner[centre]),
        Values(kind[bond], _dihedral(*(positions[place] for place in (p, q, r, s))), owner[q]),
        Values(numbers, numbers.astype(np.float64), owner),
        Values(np.zeros(len(atoms), dtype=np.int64), atoms.astype(np.float64), np.arange(len(atoms))),
        len(molecules),
    )


def type_name(kind: int) -> str:
    """A type as chemists write it: C-H, C=O, C:C for bonds, C for one element; "" for the one type of sizes."""
    if kind < _BASE:
        return chemistry.SYMBOLS[kind] if kind else ""
    low, high, order = kind // _BASE**2, kind // _BASE % _BASE, kind % _BASE
    # as in organic chemistry: carbon first, hydrogen last
    names = sorted((chemistry.SYMBOLS[low], chemistry.SYMBOLS[high]), key=lambda symbol: (symbol == "H", symbol))
    return _SIGNS[order].join(names)


def _bonds(molecules: Sequence[Molecule]) -> Iterator[np.ndarray]:
    """Rows (i, j, order) of each molecule, the stored ones or else those of rule 1."""
    for start in range(0, len(molecules), _CHUNK):
        chunk = molecules[start : start + _CHUNK]
        bare = [molecule for molecule in chunk if molecule.bonds is None]
        perceived: Iterator[np.ndarray] = iter(())
        if bare:
            numbers, _, count = pad(bare)
            positions = np.zeros((*numbers.shape, 3))
            for row, molecule in enumerate(bare):
                positions[row, : count[row]] = molecule.positions
            orders = chemistry.bond_orders_batch(numbers, positions)
            perceived = (chemistry.bonds_from_orders(one) for one in orders)
        for molecule in chunk:
            yield next(perceived) if molecule.bonds is None else molecule.bonds


def _bond_type(numbers: np.ndarray, bonds: np.ndarray) -> np.ndarray:
    pair = np.sort(numbers[bonds[:, :2]], axis=1)
    return (pair[:, 0] * _BASE + pair[:, 1]) * _BASE + bonds[:, 2]


def _join(item: np.ndarray, first: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each item beside each of the count places that start at first: two flat arrays."""
    total = np.cumsum(count)
    place = np.arange(total[-1] if len(total) else 0) - np.repeat(total - count, count)
    return np.repeat(item, count), np.repeat(first, count) + place


def _angle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """atan2(|u x v|, u . v) in degrees, exact near 0 and 180 where the arc cosine is not."""
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(u, v), axis=1), (u * v).sum(axis=1)))


def _dihedral(p: np.ndarray, q: np.ndarray, r: np.ndarray, s: np.ndarray) -> np.ndarray:
    r"""Degrees of p-q-r-s: $\mathrm{atan2}(|b_2|\,b_1\cdot(b_2\times b_3), (b_1\times b_2)\cdot(b_2\times b_3))$
    with b_1 = q - p, b_2 = r - q, b_3 = s - r; positive when, seen along q-r, the far bond is turned clockwise."""
    b1, b2, b3 = q - p, r - q, s - r
    far = np.cross(b2, b3)
    sine = np.linalg.norm(b2, axis=1) * (b1 * far).sum(axis=1)
    return np.degrees(np.arctan2(sine, (np.cross(b1, b2) * far).sum(axis=1)))
