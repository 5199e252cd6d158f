"""Known molecules at textbook (experimental) geometries, angstrom, with the bond orders chemistry gives them."""

import numpy as np

from medmol_diffusion.molecules.chemistry import atomic_number
from medmol_diffusion.molecules.molecule import Molecule


def build(symbols: str, positions: np.ndarray | list, **options: object) -> Molecule:
    return Molecule([atomic_number(one) for one in symbols.split()], positions, **options)


def _ring(radius: float) -> np.ndarray:
    angle = np.arange(6) * np.pi / 3
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), np.zeros(6)], axis=1)


def _tetrahedron(length: float) -> np.ndarray:
    return length / np.sqrt(3) * np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])


def _line(*places: float) -> np.ndarray:
    return np.array([[place, 0, 0] for place in places])


METHANE = build("C H H H H", np.concatenate([np.zeros((1, 3)), _tetrahedron(1.087)]), name="methane")
WATER = build("O H H", [[0, 0, 0], [0.757, 0.587, 0], [-0.757, 0.587, 0]], name="water")
ETHENE = build(
    "C C H H H H",
    [[0.6695, 0, 0], [-0.6695, 0, 0], [1.234, 0.928, 0], [1.234, -0.928, 0], [-1.234, 0.928, 0], [-1.234, -0.928, 0]],
    name="ethene",
)
ETHYNE = build("C C H H", _line(0.6015, -0.6015, 1.6615, -1.6615), name="ethyne")
CARBON_DIOXIDE = build("C O O", _line(0, 1.1615, -1.1615), name="carbon dioxide")
HYDROGEN_CYANIDE = build("C N H", _line(0, 1.153, -1.065), name="hydrogen cyanide")
BENZENE = build("C " * 6 + "H " * 6, np.concatenate([_ring(1.397), _ring(2.481)]), name="benzene")
AMMONIUM = build("N H H H H", np.concatenate([np.zeros((1, 3)), _tetrahedron(1.02)]), name="ammonium")
METHYL_RADICAL = build("C H H H", [[0, 0, 0], [1.079, 0, 0], [-0.5395, 0.934, 0], [-0.5395, -0.934, 0]], name="methyl")
