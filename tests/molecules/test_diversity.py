"""Diversity by fingerprints against all pairs by hand."""

from itertools import combinations

import numpy as np
import pytest

from medmol_diffusion.molecules.judge.diversity import distance_to_nearest, fingerprints, internal_diversity
from medmol_diffusion.molecules.judge.druglikeness import property_columns, property_scores
from medmol_diffusion.molecules.judge.pool import PAYS, each
from medmol_diffusion.molecules.molecule import Molecule
from tests.molecules import geometries as known
from tests.molecules.drawn import embedded

SMILES = ("CCO", "CCCO", "c1ccccc1", "CC(=O)N", "CCN(C)C", "OCC1CC1")
PRINTS = fingerprints([embedded(smiles) for smiles in SMILES])


def test_diversity_is_the_mean_over_all_pairs_and_sampling_agrees() -> None:
    from rdkit.DataStructs import TanimotoSimilarity

    exact = np.mean([1 - TanimotoSimilarity(a, b) for a, b in combinations(PRINTS, 2)])
    found = internal_diversity(PRINTS)
    assert found.value == pytest.approx(exact)
    assert found.low < exact < found.high
    assert internal_diversity(PRINTS * 50, pairs=20_000).value == pytest.approx(exact * 6 * 5 / 6 * 50 / 299, abs=0.01)
    assert internal_diversity(PRINTS[:1] * 3).value == 0
    assert internal_diversity(PRINTS[:1]) is None


def test_the_nearest_of_the_reference_is_the_nearest() -> None:
    assert distance_to_nearest(PRINTS, PRINTS).value == 0
    from rdkit.DataStructs import TanimotoSimilarity

    exact = 1 - max(TanimotoSimilarity(PRINTS[0], other) for other in PRINTS[1:])
    assert distance_to_nearest(PRINTS[:1], PRINTS[1:]).value == pytest.approx(exact)
    assert distance_to_nearest(PRINTS, []) is None


def test_fingerprints_leave_out_what_is_no_molecule() -> None:
    crowd = Molecule([6, 1, 1, 1, 1, 1], [[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1]])
    assert len(fingerprints([crowd, known.WATER])) == 1


def test_properties_stand_beside_those_of_a_reference() -> None:
    columns = property_columns([embedded("CCO"), embedded("c1ccccc1")], ["rings", "molecular_weight"])
    reference = property_columns([embedded("CCO")], ["rings", "molecular_weight"])
    rings, weight = property_scores(columns, reference)
    assert (rings.figure.mean, rings.reference_mean, rings.wasserstein) == (0.5, 0, 0.5)
    assert weight.figure.unit == "g/mol"
    assert property_scores(columns)[0].wasserstein is None
    assert property_scores({"qed": np.array([np.nan])}) == []


def test_many_processes_give_what_one_gives_in_the_same_order() -> None:
    molecules = [known.WATER, known.METHANE, known.ETHENE] * (PAYS // 3 + 1)
    seen: list[int] = []
    assert each(size, molecules, 2, seen.append) == [one.num_atoms for one in molecules]
    assert seen[-1] == len(molecules)
    assert seen == sorted(seen)


def size(molecule: Molecule) -> int:
    return molecule.num_atoms
