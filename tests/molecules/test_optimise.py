"""Variation and selection: the best never gets worse, only sound molecules are kept, and a known optimum is reached."""

import math
from dataclasses import replace

import numpy as np
import pytest

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import Molecule
from medmol_diffusion.molecules.optimise import optimise, similarity
from medmol_diffusion.molecules.sound import sound
from tests.molecules.geometries import AMMONIUM, ETHENE, ETHYNE, METHANE, METHYL_RADICAL, WATER
from tests.molecules.geometries import BENZENE as BARE
from tests.molecules.test_fragment import AROMATIC as BENZENE

APART = Molecule([8, 1, 1, 8, 1, 1], np.concatenate([WATER.positions, WATER.positions + 9]))


class Ladder:
    """Makes of every molecule the next of a list, or a broken one: what ``vary`` of a model would."""

    def __init__(self, *steps: Molecule) -> None:
        self.steps, self.calls = steps, list[int]()

    def vary(self, molecules: list[Molecule], strength: float, seed: int) -> list[Molecule]:
        self.calls.append(seed)
        broken = [METHYL_RADICAL, APART]
        return [broken[k % 2] if k % 3 else self.steps[seed % len(self.steps)] for k in range(len(molecules))]


def test_the_best_that_was_ever_made_is_returned_with_its_round() -> None:
    ladder = Ladder(METHANE, ETHENE, BENZENE, ETHYNE)  # the round r makes number r
    (best,) = optimise(ladder, [WATER], "num_C", rounds=3, children=4, seed=0)  # type: ignore[arg-type]
    assert best.molecule is BENZENE
    assert (best.score, best.seed_score, best.rounds) == (6, 0, 2)
    assert ladder.calls == [1, 2, 3]
    (least,) = optimise(ladder, [ETHENE], lambda m: float(m.num_atoms), rounds=3, minimise=True)  # type: ignore[arg-type]
    assert least.molecule is ETHYNE
    assert (least.score, least.seed_score) == (4, 6)


def test_broken_children_never_win() -> None:
    (best,) = optimise(Ladder(METHYL_RADICAL), [METHANE], lambda m: -float(m.num_atoms), rounds=2)  # type: ignore[arg-type]
    assert best.molecule is METHANE
    assert (best.rounds, best.similarity) == (0, 1.0)


def test_an_objective_that_cannot_be_computed_loses_to_any_number() -> None:
    ladder = Ladder(METHANE, ETHENE)
    (best,) = optimise(ladder, [WATER], lambda m: 1.0 if m is ETHENE else math.nan, rounds=2)  # type: ignore[arg-type]
    assert best.molecule is ETHENE
    assert math.isnan(best.seed_score)


def test_every_seed_has_a_family_of_its_own() -> None:
    found = optimise(Ladder(METHANE), [WATER, BENZENE], "num_C", rounds=1)  # type: ignore[arg-type]
    assert [one.molecule.name for one in found] == ["methane", "benzene"]


def test_sound_is_valid_whole_and_without_radicals() -> None:
    assert all(sound(molecule) is not None for molecule in (METHANE, WATER, ETHENE, BENZENE, AMMONIUM))
    assert sound(METHYL_RADICAL) is None
    assert sound(APART) is None
    assert sound(BARE) is None  # rule 1 reads single bonds off 1.397 angstrom: three valences of carbon
    five = replace(METHANE, atomic_numbers=np.array([9, 1, 1, 1, 1]))
    assert sound(five) is None


def test_similarity_is_one_to_itself_and_nothing_to_strangers() -> None:
    assert similarity(BENZENE, BENZENE) == 1
    assert similarity(BENZENE, WATER) == 0
    assert 0 <= similarity(ETHENE, ETHYNE) < 1
    assert math.isnan(similarity(BENZENE, APART))


@pytest.mark.parametrize(
    ("options", "fault"),
    [({"rounds": 0}, "rounds = 0"), ({"children": 0}, "children = 0"), ({"objective": "magic"}, "no property 'magic'")],
)
def test_impossible_searches_are_refused(options: dict, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        optimise(Ladder(METHANE), [WATER], **{"objective": "qed"} | options)  # type: ignore[arg-type]
