"""Survey: what a file or folder of molecules holds, and what of it would be skipped, and why."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medmol_diffusion.molecules.chemistry import SYMBOLS
from medmol_diffusion.molecules.formats.files import check_path, records
from medmol_diffusion.molecules.formats.record import BadRecord, build
from medmol_diffusion.molecules.hydrogens import lacks_hydrogens
from medmol_diffusion.molecules.molecule import Molecule, is_number
from medmol_diffusion.plural import counted

SHOWN = 8
"""Elements, reasons or values that a line lists."""


@dataclass
class Survey:
    """Counts over the records of a source; ``add`` them one after the other.

    Attributes:
        sizes: atoms of each molecule.
        elements: how many molecules have each.
        charges: how many atoms have each formal charge that is not 0.
        bonded: molecules with bonds of their own.
        bare: molecules with carbon that lack their hydrogens.
        copies: molecules with the elements and the positions of an earlier one.
        skipped: kind of reason, its numbers masked -> (the reason as the first of them has it, the records that cannot
            be used for it, counted from 1).
        columns: the numbers of each property.
    """

    sizes: list[int] = field(default_factory=list)
    elements: Counter[int] = field(default_factory=Counter)
    charges: Counter[int] = field(default_factory=Counter)
    bonded: int = 0
    bare: int = 0
    copies: int = 0
    skipped: dict[str, tuple[str, list[int]]] = field(default_factory=dict)
    columns: dict[str, list[float]] = field(default_factory=dict)
    _seen: set[bytes] = field(default_factory=set)

    def add(self, molecule: Molecule) -> None:
        """Count a molecule."""
        numbers, positions = molecule.atomic_numbers, molecule.positions
        self.sizes.append(len(numbers))
        self.elements.update(np.unique(numbers).tolist())
        if molecule.formal_charges is not None:
            self.charges.update(molecule.formal_charges[molecule.formal_charges != 0].tolist())
        self.bonded += molecule.bonds is not None
        self.bare += lacks_hydrogens(molecule)
        content = numbers.tobytes() + np.round(positions - positions.mean(0), 3).astype(np.float32).tobytes()
        digest = hashlib.sha256(content).digest()[:12]
        self.copies += digest in self._seen
        self._seen.add(digest)
        for name, value in molecule.properties.items():
            if is_number(value):
                self.columns.setdefault(name, []).append(float(value))

    def skip(self, record: BadRecord) -> None:
        """Count a record that cannot be used; numbers in the reason do not make it another one."""
        kind = re.sub(r"\d+", "N", record.reason)
        self.skipped.setdefault(kind, (record.reason, []))[1].append(record.index + 1)

    def rows(self) -> list[tuple[str, str]]:
        """(what, value) for a table."""
        count, sizes = len(self.sizes), np.array(self.sizes)
        found = [("molecules", str(count)), ("cannot be used", str(sum(len(of) for _, of in self.skipped.values())))]
        if not count:
            return found
        elements = ", ".join(f"{SYMBOLS[number]} ({self.elements[number]})" for number in sorted(self.elements))
        charges = ", ".join(f"{charge:+d} ({counted(atoms, 'atom')})" for charge, atoms in sorted(self.charges.items()))
        found += [
            ("elements (molecules with it)", elements),
            ("atoms", f"{sizes.min()} to {sizes.max()}, {np.median(sizes):.0f} in the median"),
            ("with bonds of their own", str(self.bonded)),
            ("formal charges", charges or "none"),
        ]
        for name, values in sorted(self.columns.items()):
            finite = np.array(values)[np.isfinite(values)]
            missing = f"; {count - len(finite)} missing" if len(finite) < count else ""
            if len(finite):
                spread = f"{finite.min():.4g} to {finite.max():.4g}, {np.median(finite):.4g} in the median"
                found.append((f"property {name}", spread + missing))
        return found

    def faults(self) -> list[str]:
        """Why records cannot be used, the most frequent reason first."""
        ordered = sorted(self.skipped.values(), key=lambda kind: -len(kind[1]))
        return [
            f"{counted(len(places), 'record')}, the first is {places[0]}: {reason}"
            for reason, places in ordered[:SHOWN]
        ]

    def doubts(self) -> list[str]:
        """What is no fault of one record, but worth a look before a run."""
        found = []
        if self.bare:
            found.append(f"{counted(self.bare, 'molecule')} with carbon lack hydrogens: add them first")
        if self.copies:
            found.append(f"{counted(self.copies, 'molecule')} have the atoms and positions of an earlier one")
        if 0 < self.bonded < len(self.sizes):
            found.append(
                f"{len(self.sizes) - self.bonded} molecules have no bonds: data.bonds: file needs all to have some"
            )
        return found


def survey(path: Path, progress: Callable[[int], None] | None = None) -> Survey:
    """Read every record once, one at a time.

    Raises:
        InputError: what `check_path` and the readers raise of a whole file.
    """
    found = Survey()
    for place, _, molecule in build(records(check_path(path))):
        if isinstance(molecule, BadRecord):
            found.skip(molecule)
        else:
            found.add(molecule)
        if progress is not None:
            progress(place + 1)
    return found
