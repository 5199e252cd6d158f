"""Floors: of equal n on both sides, of the same splits."""

import numpy as np
import pytest

from medmol_diffusion.mri.judge.floor import Figure, floors
from medmol_diffusion.mri.judge.frechet import frechet_distance


def test_splits_are_disjoint_and_of_equal_n() -> None:
    seen = []

    def between(i: np.ndarray, j: np.ndarray) -> np.ndarray:
        seen.append((i, j))
        return np.array([float(i.min() >= 7), len(j)])

    first, second = floors(between, 2, generated=7, real=10)
    assert (first.n, first.rest) == (5, 5)
    assert (first.value, first.equal, second.value, second.low) == (1, 0, 5, 5)
    for real, generated in zip(seen[::2], seen[1::2], strict=True):
        assert sorted([*real[0], *real[1]]) == list(range(7, 17))
        np.testing.assert_array_equal(generated[1], real[1])
        assert len(set(generated[0])) == 5


def test_scans_of_the_real_distribution_stand_at_the_floor_whatever_the_numbers() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((230, 5))  # 30 generated, 200 real
    (floor,) = floors(lambda i, j: np.array([frechet_distance(x[i], x[j])]), 1, 30, 200)
    assert floor.n == 30
    assert floor.low < floor.equal < floor.high
    assert floor.value > 0.1  # few scans of one distribution are far from distance 0
    shifted = x + np.where(np.arange(230) < 30, 1.0, 0.0)[:, None]
    (other,) = floors(lambda i, j: np.array([frechet_distance(shifted[i], shifted[j])]), 1, 30, 200)
    assert other.value == floor.value
    assert other.equal > other.high + 3


def test_too_few_real_scans_have_no_floor_and_a_dash() -> None:
    (floor,) = floors(lambda i, j: np.array([1.0]), 1, 9, 3)
    assert np.isnan([floor.value, floor.equal]).all()
    assert Figure("x", 1.5, float("nan"), float("nan"), floor).row() == ("x", "1.5", "-", "-", "-", "-")


@pytest.mark.parametrize("fewest", [2, 4])
def test_measures_that_need_more_scans_say_so(fewest: int) -> None:
    (floor,) = floors(lambda i, j: np.array([0.0]), 1, 3, 40, fewest=fewest)
    assert np.isnan(floor.value) == (fewest == 4)
