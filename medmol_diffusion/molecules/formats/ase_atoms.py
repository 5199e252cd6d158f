"""ASE Atoms in and out. ASE is optional: whoever hands over an Atoms object has it."""

from typing import TYPE_CHECKING

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.molecule import Molecule

if TYPE_CHECKING:
    from ase import Atoms

CHARGES = "formal_charges"
"""The per-atom array that carries formal charges; ASE's own initial charges are partial ones and are not read."""


def from_ase(atoms: "Atoms") -> Molecule:
    """Elements, positions, the array formal_charges if there is one, the name and the scalars of info.

    Raises InputError for a periodic system, and what Molecule raises.
    """
    if atoms.pbc.any():
        raise InputError("The Atoms are periodic: unwrap the molecule and set pbc to False.")
    info = {key: value for key, value in atoms.info.items() if isinstance(value, (int, float, str, np.number))}
    name = str(info.pop("name", ""))
    return Molecule(
        atoms.get_atomic_numbers(),
        atoms.get_positions(),
        formal_charges=atoms.get_array(CHARGES) if atoms.has(CHARGES) else None,
        name=name,
        properties={key: value.item() if isinstance(value, np.number) else value for key, value in info.items()},
    )


def to_ase(molecule: Molecule) -> "Atoms":
    """Atoms without a cell; name and properties in info, formal charges as an array. ASE has no place for bonds.

    Raises InputError without ASE.
    """
    try:
        from ase import Atoms
    except ImportError as error:
        raise InputError("to_ase needs ASE: pip install 'medmol_diffusion[ase]'.") from error
    atoms = Atoms(molecule.atomic_numbers, molecule.positions, info={"name": molecule.name, **molecule.properties})
    if molecule.formal_charges is not None:
        atoms.set_array(CHARGES, molecule.formal_charges)
    return atoms
