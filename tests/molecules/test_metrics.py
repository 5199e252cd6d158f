import json

import numpy as np
import pytest

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.metrics import score_molecules, smiles_of
from medmol_diffusion.molecules.molecule import Molecule
from tests.molecules import geometries as known

APART = Molecule(
    np.concatenate([known.ETHENE.atomic_numbers, known.WATER.atomic_numbers]),
    np.concatenate([known.ETHENE.positions, known.WATER.positions + 10]),
)
# One of each kind of verdict: sound, a copy of it turned, two pieces of which the larger is known, a charge that rule 1
# does not know, and an open valence that implicit hydrogen fills
TURNED = Molecule(known.WATER.atomic_numbers, known.WATER.positions[:, ::-1])
MIXED = [known.WATER, TURNED, known.ETHENE, APART, known.AMMONIUM, known.METHYL_RADICAL]


def test_every_score_is_the_fraction_it_says():
    scores = score_molecules(MIXED, smiles_of([known.WATER]))
    atoms = 3 + 3 + 6 + 9 + 5 + 4
    assert (scores.atom_stability.value, scores.atom_stability.n) == ((atoms - 2) / atoms, atoms)
    assert (scores.molecule_stability.value, scores.molecule_stability.n) == (4 / 6, 6)
    assert (scores.validity.value, scores.validity.n) == (5 / 6, 6)
    assert (scores.connectivity.value, scores.connectivity.n) == (4 / 6, 6)
    assert (scores.uniqueness.value, scores.uniqueness.n) == (3 / 5, 5)  # water, ethene, methyl
    assert (scores.novelty.value, scores.novelty.n) == (2 / 3, 3)


def test_scores_do_not_depend_on_order_or_orientation():
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    moved = [Molecule(one.atomic_numbers[::-1], (one.positions @ q + 5)[::-1]) for one in MIXED[::-1]]
    first, second = (score_molecules(molecules, set()).to_dict() for molecules in (MIXED, moved))
    assert {key: score["value"] for key, score in first.items()} == {
        key: score["value"] for key, score in second.items()
    }


def test_intervals_hold_the_value_and_shrink_with_the_square_root_of_n():
    few, many = score_molecules(MIXED * 10).validity, score_molecules(MIXED * 90).validity
    for score in (few, many):
        assert score.low < 5 / 6 < score.high
    exact = 2 * 1.96 * (5 / 36 / 540) ** 0.5
    assert many.high - many.low == pytest.approx(exact, rel=0.15)
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(3, rel=0.2)


def test_the_same_seed_gives_the_same_interval():
    assert score_molecules(MIXED, seed=4) == score_molecules(MIXED, seed=4)


def test_what_cannot_be_said_is_left_out():
    scores = score_molecules([known.AMMONIUM])
    assert scores.uniqueness is None
    assert scores.novelty is None
    assert score_molecules([known.WATER]).novelty is None
    assert [row[0] for row in scores.rows()] == ["atom stability", "molecule stability", "validity", "connectivity"]


def test_scores_go_to_json_and_to_a_table():
    scores = score_molecules(MIXED, set())
    assert json.loads(json.dumps(scores.to_dict()))["validity"]["n"] == 6
    rows = list(scores.rows())
    assert len(rows) == 6
    name, value, _, n = rows[0]
    assert (name, value, n) == ("atom stability", "93.3 %", "30")


def test_no_molecules_is_an_input_error():
    with pytest.raises(InputError, match="no molecules"):
        score_molecules([])


def test_stored_bonds_do_not_help():
    far = Molecule([1, 1], [[0, 0, 0], [0, 0, 5.0]], bonds=[[0, 1, 1]])
    assert score_molecules([far]).molecule_stability.value == 0
