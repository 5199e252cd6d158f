"""The corrected stability rule: valences on bonds and formal charges as they stand in a graph, for drug-like molecules.

An aromatic bond counts neither as 1.5, which several codes store as an integer and so turn into 1, nor as a single or
double bond: it is counted apart. An atom is stable when the pair (its aromatic bonds, the sum of its other orders) is
allowed for its element and formal charge (Nikitin et al. 2025, "GEOM-Drugs revisited").
"""

from functools import cache

import numpy as np

from medmol_diffusion.molecules.chemistry import SYMBOLS, atomic_number
from medmol_diffusion.molecules.molecule import AROMATIC

PAIRS = {
    "H": {0: "01"},
    "C": {-1: "03 21 30", 0: "04 22 21 30", 1: "03 21 30"},
    "N": {-2: "01", -1: "02 20", 0: "03 20 21 30", 1: "04 20 21 22 30"},
    "O": {-1: "01", 0: "02 20", 1: "03"},
    "F": {0: "01"},
    "Si": {0: "04", 1: "05"},
    "P": {0: "03 05", 1: "04"},
    "S": {-1: "01", 0: "02 03 06 20", 1: "03 20 21 30", 2: "04 21 22", 3: "02 05"},
    "Cl": {0: "01", 1: "02"},
    "Br": {0: "01", 1: "02"},
    "I": {0: "01", 1: "02", 2: "03"},
}
"""Allowed pairs by element and formal charge, as two digits: aromatic bonds, then the sum of the other orders."""

_MOST = 9  # more aromatic bonds, or a larger sum, than any entry; 9 stands for 9 and above
_CHARGES = range(-3, 5)  # one beyond the table on either side stands for all beyond


@cache
def _allowed() -> np.ndarray:
    """(119, 8, 10, 10) bool: [element, charge + 3, aromatic bonds, sum of the others]."""
    table = np.zeros((len(SYMBOLS), len(_CHARGES), _MOST + 1, _MOST + 1), dtype=bool)
    for symbol, by_charge in PAIRS.items():
        for charge, pairs in by_charge.items():
            for pair in pairs.split():
                aromatic, others = map(int, pair)
                table[atomic_number(symbol), charge - _CHARGES.start, aromatic, others] = True
    return table


@cache
def known_elements() -> np.ndarray:
    """(119,) bool: the elements that the rule has an entry for. An atom of another is never stable."""
    return np.any(_allowed(), axis=(1, 2, 3))


def valence_pairs(num_atoms: int, bonds: np.ndarray) -> np.ndarray:
    """(N, 2) int64: of each atom the number of aromatic bonds and the sum of its other orders, from bonds (M, 3).

    Many molecules go at once when their atoms are numbered through.
    """
    ends, orders = bonds[:, :2].T.ravel(), np.tile(bonds[:, 2], 2)
    aromatic = orders == AROMATIC
    others = np.bincount(ends, weights=np.where(aromatic, 0, orders), minlength=num_atoms)
    return np.stack([np.bincount(ends[aromatic], minlength=num_atoms), others.astype(np.int64)], axis=1)


def pair_stability(atomic_numbers: np.ndarray, formal_charges: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Which atoms have an allowed pair: (N,), (N,) and (N, 2) -> (N,) bool. A molecule is stable when all its are."""
    charges = np.clip(formal_charges, _CHARGES.start, _CHARGES.stop - 1) - _CHARGES.start
    aromatic, others = np.minimum(pairs, _MOST).T
    return _allowed()[atomic_numbers, charges, aromatic, others]
