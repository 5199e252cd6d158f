"""Diversity: how unlike each other, and how unlike the nearest real ones, molecules are by their fingerprints.

The distance of two molecules is 1 - Tanimoto of Morgan fingerprints (Rogers and Hahn 2010) of radius 2 and 2048 bits,
without hydrogens. Molecules that RDKit does not sanitise have none and are left out; n says how many are left.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medmol_diffusion.judging.bootstrap import Bootstrap
from medmol_diffusion.molecules import chemistry
from medmol_diffusion.molecules.metrics import Score
from medmol_diffusion.molecules.molecule import Molecule

if TYPE_CHECKING:
    from rdkit.Chem import Mol
    from rdkit.DataStructs import ExplicitBitVect

PAIRS = 200_000
"""All pairs up to so many (632 molecules), else so many pairs drawn at random: an error of the mean of about 0.0003."""


def fingerprints(molecules: Sequence[Molecule]) -> list["ExplicitBitVect"]:
    """The Morgan fingerprint of each molecule that RDKit sanitises, by the stored bonds or else those of rule 1."""
    graphs = (chemistry.sanitised(molecule.to_rdkit()) for molecule in molecules)
    return [fingerprint(graph) for graph in graphs if graph is not None]


def fingerprint(mol: "Mol") -> "ExplicitBitVect":
    """The Morgan fingerprint of a sanitised graph."""
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    with rdBase.BlockLogs():
        return generator.GetFingerprint(Chem.RemoveHs(mol))


def internal_diversity(prints: Sequence[Any], pairs: int = PAIRS, seed: int = 0) -> Score | None:
    r"""The mean of 1 - Tanimoto over pairs i < j of different places in the set; None for fewer than two.

    The interval resamples molecules: a pair weighs w_i w_j.
    """
    from rdkit.DataStructs import BulkTanimotoSimilarity, TanimotoSimilarity

    count = len(prints)
    if count < 2:
        return None
    if count * (count - 1) // 2 <= pairs:
        i, j = np.triu_indices(count, 1)
        similar = np.concatenate([BulkTanimotoSimilarity(prints[row], prints[row + 1 :]) for row in range(count - 1)])
    else:
        draw = np.random.default_rng(seed)
        i = draw.integers(count, size=pairs)
        j = (i + draw.integers(1, count, size=pairs)) % count  # any other
        similar = np.array(
            [TanimotoSimilarity(prints[a], prints[b]) for a, b in zip(i.tolist(), j.tolist(), strict=True)]
        )
    apart = 1 - similar

    def mean(weights: np.ndarray) -> float:
        weight = weights[i] * weights[j]
        return float(weight @ apart / total) if (total := weight.sum()) else float("nan")

    low, high = Bootstrap(count, 200, seed).interval(mean)
    return Score(float(apart.mean()), float(low), float(high), count)


def distance_to_nearest(
    prints: Sequence[Any],
    reference: Sequence[Any],
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> Score | None:
    """The mean over molecules of 1 - Tanimoto to the nearest of the reference; None when either set is empty.

    Small says close to known molecules, or copied from them; the real set's own figure is the one to compare with.
    """
    from rdkit.DataStructs import BulkTanimotoSimilarity

    if not prints or not reference:
        return None
    nearest = np.empty(len(prints))
    for place, one in enumerate(prints):
        nearest[place] = 1 - max(BulkTanimotoSimilarity(one, reference))
        progress(place + 1)
    low, high = Bootstrap(len(prints), seed=seed).ratio(nearest, np.ones(len(prints)))
    return Score(float(nearest.mean()), float(low), float(high), len(prints))
