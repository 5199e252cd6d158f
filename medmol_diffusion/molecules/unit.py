"""The unit of positions, as the distances of neighbours tell it: angstrom, or else something is wrong."""

import numpy as np
from scipy.spatial import cKDTree

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.dataset import MoleculeDataset

NEAREST = (0.3, 20.0)
"""Angstrom that an atom and its nearest may be apart in the median. Bonds of hydrogen are 0.74 to 1.1 long and noble
gases stand 3 to 4 apart; in nanometres a bond is 0.07 to 0.2, in picometres 70 to 200."""
LOOKED_AT = 256
"""Molecules, spread evenly over the source."""


def check_unit(data: MoleculeDataset, source: str) -> None:
    """Raises InputError where atoms are nearer to each other, or farther apart, than in any unit close to angstrom."""
    rows = np.unique(np.linspace(0, len(data) - 1, min(LOOKED_AT, len(data))).astype(int))
    found = [np.zeros(0)]
    for row in rows[data.num_atoms[rows] > 1]:
        start = data.starts[row]
        positions = np.asarray(data.flat.positions[start : start + data.num_atoms[row]])
        found.append(cKDTree(positions).query(positions, k=2)[0][:, 1])
    distances = np.concatenate(found)
    if not len(distances) or NEAREST[0] <= (median := float(np.median(distances))) <= NEAREST[1]:
        return
    unit, factor = ("nanometres", "10") if median < NEAREST[0] else ("picometres", "0.01")
    raise InputError(
        f"{source}: atoms are {median:.3g} angstrom from their nearest in the median, so the positions are in another "
        f"unit, {unit} perhaps: give angstrom (times {factor})."
    )
