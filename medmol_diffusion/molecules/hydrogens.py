r"""Whether somebody forgot the hydrogens, as SDF files made from PDB entries often have.

The unit vectors u_ij from a complete carbon to its neighbours cancel, be they four, three or two of them: tetrahedral,
planar and linear alike have $s_i = |\sum_j u_{ij}| = 0$. One neighbour missing leaves s_i = 1, two of four 1.15.
"""

from collections.abc import Sequence

import numpy as np

from medmol_diffusion.molecules import chemistry
from medmol_diffusion.molecules.molecule import Molecule

OPEN = 0.85
"""s_i beyond which a carbon has room. The rings of perfluorocyclopropane and dichlorocyclopropenone reach 0.77."""


def lacks_hydrogens(molecule: Molecule) -> bool:
    """Whether a molecule has carbon with room for hydrogens and not one hydrogen.

    Neighbours are those of the stored bonds, or else of rule 1. CO2, CO, C6F6 and the like, which have no room, do not.
    """
    numbers, positions = molecule.atomic_numbers, molecule.positions
    carbons = numbers == 6
    if not carbons.any() or (numbers == 1).any():
        return False
    bonds = molecule.bonds
    if bonds is None:
        bonds = chemistry.rule_one_bonds(numbers, positions)
    i, j, order = np.concatenate([bonds, bonds[:, [1, 0, 2]]]).T
    step = positions[j] - positions[i]
    unit = step / np.maximum(np.linalg.norm(step, axis=1, keepdims=True), 1e-9)
    total = np.zeros_like(positions)
    np.add.at(total, i, unit)
    neighbours = np.bincount(i, minlength=len(numbers))
    room = (np.linalg.norm(total, axis=1) > OPEN) | (neighbours == 0)
    room[i[(order == 3) & (numbers[j] != 6) & (neighbours[i] == 1)]] = False  # carbon monoxide, isocyanides
    return bool(room[carbons].any())


def missing_hydrogens(molecules: Sequence[Molecule]) -> str | None:
    """What to say of a set most of whose molecules with carbon lack their hydrogens; None where all is well.

    A molecule that is in the list many times, as for several samples of each, counts once.
    """
    carbon = [molecule for molecule in dict.fromkeys(molecules) if (molecule.atomic_numbers == 6).any()]
    return said_of_hydrogens(len(carbon), sum(map(lacks_hydrogens, carbon)))


def said_of_hydrogens(carbon: int, lacking: int) -> str | None:
    """The same of a set with so many molecules with carbon, of which so many lack their hydrogens."""
    if 2 * lacking <= carbon:
        return None
    return (
        f"{lacking} of {carbon} molecules with carbon have no hydrogens, and every rule would call them unstable: "
        "add them first, in RDKit by Chem.AddHs(mol, addCoords=True)"
    )
