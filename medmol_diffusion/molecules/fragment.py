"""The atoms that inpainting leaves as they are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import chemistry
from medmol_diffusion.molecules.judge.valence import pair_stability, valence_pairs
from medmol_diffusion.molecules.molecule import Molecule
from medmol_diffusion.plural import counted

Fixed = Sequence[int] | Sequence[bool] | np.ndarray
"""Atoms of a molecule: their indices from 0, or one bool for each atom."""


@dataclass(frozen=True)
class Fragment:
    """k atoms of a molecule, in the order in which they stand there.

    atoms: of them alone, with their positions in the molecule's own frame, angstrom, and with the bonds between them
    and their formal charges where the molecule has some.
    """

    atoms: Molecule

    @classmethod
    def of(cls, molecule: Molecule, fixed: Fixed) -> "Fragment":
        """The fragment that ``fixed`` marks.

        Raises:
            InputError: a mask of the wrong size, indices that are no atoms or come twice, or no atom at all.
        """
        name = f"molecule {molecule.name!r}" if molecule.name else "a molecule"
        marked, count = np.asarray(fixed), molecule.num_atoms
        if marked.dtype == bool:
            if marked.shape != (count,):
                raise InputError(
                    f"the mask of the fixed atoms of {name} has the shape {marked.shape}: give one bool for each of "
                    f"its {count} atoms"
                )
            marked = marked.nonzero()[0]
        if marked.size == 0:
            raise InputError(f"no atom of {name} is fixed: mark one or more, or sample freely")
        if marked.ndim != 1 or not np.issubdtype(marked.dtype, np.integer):
            raise InputError(f"the fixed atoms of {name} must be a flat list of indices or of bools")
        places = np.unique(marked)
        if len(places) < len(marked) or places[0] < 0 or places[-1] >= count:
            raise InputError(f"the fixed atoms of {name} must be different indices from 0 to {count - 1}")
        bonds, charges = molecule.bonds, molecule.formal_charges
        if bonds is not None:
            inside = bonds[np.isin(bonds[:, :2], places).all(1)]
            bonds = np.concatenate([np.searchsorted(places, inside[:, :2]), inside[:, 2:]], 1)
        return cls(
            Molecule(
                molecule.atomic_numbers[places],
                molecule.positions[places],
                bonds,
                None if charges is None else charges[places],
                molecule.name,
            )
        )

    def __len__(self) -> int:
        return self.atoms.num_atoms

    def template(self, size: int, filler: int) -> Molecule:
        """``size`` atoms: the fragment about its own centre, then atoms of the element ``filler`` at that centre.

        Raises:
            InputError: nothing is left to be generated.
        """
        free = size - len(self)
        if free < 1:
            raise InputError(
                f"{len(self)} atoms are fixed of {size}: give a size above {len(self)}, or fix fewer, so that there is "
                "something to generate"
            )
        positions = np.zeros((size, 3))
        positions[: len(self)] = self.atoms.positions - self.atoms.positions.mean(0)
        numbers = np.concatenate([self.atoms.atomic_numbers, np.full(free, filler)])
        charges = self.atoms.formal_charges
        if charges is not None:
            charges = np.concatenate([charges, np.zeros(free, dtype=int)])
        return Molecule(numbers, positions, self.atoms.bonds, charges, self.atoms.name)

    def put_into(self, molecule: Molecule) -> Molecule:
        """A molecule whose first k atoms are the fragment's, moved as a whole to where the fragment lies; these atoms
        are then set to the fragment's to the last digit.

        Where the fragment has bonds, they are the bonds between these atoms; the others are the molecule's own, or, if
        it has none, those of rule 1. Charges likewise, by chemistry.CHARGED; the new atoms of a molecule with bonds and
        no charges have none.
        """
        k = len(self)
        positions = molecule.positions + self.atoms.positions.mean(0) - molecule.positions[:k].mean(0)
        numbers = molecule.atomic_numbers.copy()
        positions[:k], numbers[:k] = self.atoms.positions, self.atoms.atomic_numbers
        bonds, charges = molecule.bonds, molecule.formal_charges
        if self.atoms.bonds is not None:
            if bonds is None:
                orders = chemistry.bond_orders(numbers, positions)
                bonds, charges = chemistry.bonds_from_orders(orders), chemistry.formal_charges(numbers, orders)
            bonds = np.concatenate([self.atoms.bonds, bonds[bonds[:, 1] >= k]])
        if self.atoms.formal_charges is not None and not (bonds is None and charges is None):
            rest = np.zeros(len(numbers) - k, dtype=np.int64) if charges is None else charges[k:]
            charges = np.concatenate([self.atoms.formal_charges, rest])
        return replace(
            molecule,
            atomic_numbers=numbers,
            positions=positions,
            bonds=bonds,
            formal_charges=charges,
            name=self.atoms.name,
        )


def joined(fragments: Sequence[Molecule]) -> Molecule:
    """Several fragments as one molecule, each where it lies: what a linker is designed for.

    Bonds, and charges, are those of the fragments where all of them have some. The name is that of the first.

    Raises:
        InputError: there is no fragment.
    """
    if not fragments:
        raise InputError("no fragments are given: a linker needs one or more")
    first = np.cumsum([0, *(fragment.num_atoms for fragment in fragments)])[:-1]
    bonds = [
        fragment.bonds + np.array([start, start, 0])
        for start, fragment in zip(first, fragments, strict=True)
        if fragment.bonds is not None
    ]
    charges = [fragment.formal_charges for fragment in fragments if fragment.formal_charges is not None]
    return Molecule(
        np.concatenate([fragment.atomic_numbers for fragment in fragments]),
        np.concatenate([fragment.positions for fragment in fragments]),
        np.concatenate(bonds) if len(bonds) == len(fragments) else None,
        np.concatenate(charges) if len(charges) == len(fragments) else None,
        fragments[0].name,
    )


def odd_charges(molecules: Sequence[Molecule], kept: Sequence[int]) -> str | None:
    """What to say of molecules whose first ``kept`` atoms were fixed, where one of these has a formal charge that its
    bonds do not go with (judge/valence.py), N+ of three bonds for example; None where there is none."""
    odd: list[str] = []
    for molecule, count in zip(molecules, kept, strict=True):
        charges, bonds = molecule.formal_charges, molecule.bonds
        if charges is None or bonds is None:
            continue
        fits = pair_stability(molecule.atomic_numbers, charges, valence_pairs(molecule.num_atoms, bonds))
        if places := np.flatnonzero((charges != 0) & ~fits & (np.arange(len(charges)) < count)).tolist():
            symbol = chemistry.SYMBOLS[molecule.atomic_numbers[places[0]]]
            odd.append(f"atom {places[0] + 1} ({symbol}, {charges[places[0]]:+d})")
    if not odd:
        return None
    return (
        f"{len(odd)} of {counted(len(molecules), 'molecule')} have a fixed atom whose bonds do not go with the formal "
        f"charge it has in the file, {odd[0]} of the first of them"
    )


def matching(molecule: Molecule, smarts: str) -> list[int]:
    """The atoms, from 0, of every match of a SMARTS pattern.

    Raises:
        InputError: it is no pattern, or matches nothing.
    """
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        pattern = Chem.MolFromSmarts(smarts)
    if pattern is None:
        raise InputError(f"{smarts!r} is no SMARTS pattern that RDKit can read")
    found = molecule.to_rdkit().GetSubstructMatches(pattern)
    if not found:
        raise InputError(f"{smarts} matches nothing in molecule {molecule.name!r}: hydrogens are atoms here, [#1]")
    return sorted({place for match in found for place in match})


def places_of(text: str, count: int) -> list[int]:
    """Atoms as people count them, "1,2,5-9" -> 0, 1, 4, 5, 6, 7, 8.

    Raises:
        InputError: it cannot be read, or names an atom outside 1..count.
    """
    places: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise InputError(f"{text!r} is no list of atoms: write 1,2,5-9, counted from 1 as in the file")
        places.update(range(int(first) - 1, int(last or first)))
    if not places or min(places) < 0 or max(places) >= count:
        raise InputError(f"{text!r} names atoms outside 1 to {count}")
    return sorted(places)


def kept_atoms(
    molecule: Molecule, fixed: str | None = None, smarts: str | None = None, free: str | None = None
) -> list[int]:
    """The atoms to keep, from 0: those listed, those that match a pattern, all but those listed, or else all.

    Raises:
        InputError: more than one way to choose, or what ``places_of`` and ``matching`` raise.
    """
    if sum(way is not None for way in (fixed, smarts, free)) > 1:
        raise InputError("fixed, smarts and free exclude each other: choose the atoms in one way")
    count = molecule.num_atoms
    if fixed is not None:
        return places_of(fixed, count)
    if smarts is not None:
        return matching(molecule, smarts)
    if free is not None:
        loose = set(places_of(free, count))
        return [place for place in range(count) if place not in loose]
    return list(range(count))
