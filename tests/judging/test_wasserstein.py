"""W1 on the line against scipy, on the circle against every way of pairing the points."""

import numpy as np
import pytest
from scipy.stats import wasserstein_distance

from medmol_diffusion.judging.wasserstein import Transport, wasserstein


def test_on_the_line_it_is_scipys_with_weights_too() -> None:
    draw = np.random.default_rng(0)
    values, reference, owner = draw.normal(size=40), draw.normal(1, 2, size=25), draw.integers(7, size=40)
    transport = Transport(values, owner, reference)
    assert transport.distance() == pytest.approx(wasserstein_distance(values, reference), rel=1e-12)
    weights = draw.integers(4, size=7).astype(float)
    exact = wasserstein_distance(values, reference, u_weights=weights[owner])
    assert transport.distance(weights) == pytest.approx(exact, rel=1e-12)
    assert np.isnan(transport.distance(np.zeros(7)))


@pytest.mark.parametrize("seed", range(5))
def test_on_the_circle_it_is_the_best_pairing_of_all(seed: int) -> None:
    """Of equally many points an optimal plan is a permutation: scipy's assignment with the cost of the shorter arc."""
    from scipy.optimize import linear_sum_assignment

    draw = np.random.default_rng(seed)
    a, b = draw.vonmises(3, 1, size=30) * 180 / np.pi, draw.vonmises(2.5, 2, size=30) * 180 / np.pi
    arc = np.abs(a[:, None] - b) % 360
    cost = np.minimum(arc, 360 - arc)
    exact = cost[linear_sum_assignment(cost)].mean()
    assert wasserstein(a, b, period=360) == pytest.approx(exact, rel=1e-9)
    assert wasserstein(a, b) > exact + 1  # the line sees the cut


def test_the_circle_has_no_beginning() -> None:
    draw = np.random.default_rng(1)
    a, b = draw.uniform(0, 90, 20), draw.uniform(30, 200, 33)
    turned = [wasserstein(a + angle, b + angle, period=360) for angle in (0, 77.7, 300)]
    assert turned == pytest.approx([turned[0]] * 3, rel=1e-9)
    assert wasserstein(np.array([179.0]), np.array([-179.0]), period=360) == pytest.approx(2)
    assert wasserstein(np.array([10.0]), np.array([190.0]), period=360) == pytest.approx(180)


def test_a_shift_is_its_own_distance() -> None:
    values = np.random.default_rng(2).normal(size=50)
    assert wasserstein(values, values) == pytest.approx(0, abs=1e-12)
    assert wasserstein(values + 0.3, values) == pytest.approx(0.3)


def test_an_empty_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one value"):
        wasserstein(np.empty(0), np.ones(1))
