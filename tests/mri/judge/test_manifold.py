"""Precision and recall: by hand, and on planted faults."""

import numpy as np
import pytest

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.judge.manifold import manifold


def cluster(count: int, centre: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal((centre, 0), 1, (count, 2))


def test_on_a_line_by_hand() -> None:
    """k = 1. Real 0, 1, 3 have the radii 1, 1, 2; generated 0.5, 4, 20 have 3.5, 3.5, 16."""
    found = manifold(np.array([[0.5], [4.0], [20.0]]), np.array([[0.0], [1.0], [3.0]]), neighbours=1)
    np.testing.assert_array_equal(found.precision, [True, True, False])
    np.testing.assert_array_equal(found.recall, [True, True, True])
    np.testing.assert_array_equal(found.density, [2, 1, 0])
    np.testing.assert_array_equal(found.coverage, [True, True, True])
    other = manifold(np.array([[9.0], [9.5], [10.0]]), np.array([[0.0], [1.0], [3.0]]), neighbours=1)
    assert not any(getattr(other, name).any() for name in ("precision", "recall", "density", "coverage"))


def test_mode_collapse_lowers_recall_and_invention_lowers_precision() -> None:
    real = np.concatenate([cluster(60, 0, 1), cluster(60, 50, 2)])
    half = manifold(cluster(120, 0, 3), real)
    assert half.precision.mean() > 0.9
    assert half.recall.mean() <= 0.5
    assert half.coverage.mean() <= 0.5
    invented = manifold(np.concatenate([cluster(60, 0, 3), cluster(60, 50, 4), cluster(60, 500, 5)]), real)
    assert invented.precision.mean() <= 2 / 3
    assert invented.recall.mean() > 0.9
    one = manifold(np.tile(real[:1], (120, 1)), real)  # the same scan over and over
    assert one.precision.mean() == 1
    assert one.recall.mean() == pytest.approx(1 / 120)


def test_one_outlier_lifts_precision_and_recall_but_not_density_and_coverage() -> None:
    real, far = cluster(100, 0, 1), cluster(100, 30, 2)
    with_outlier = np.concatenate([real, [[60.0, 0.0]]])  # its ball is as wide as the way back
    found = manifold(far, with_outlier)
    assert found.precision.mean() > 0.9
    assert found.density.mean() < 0.5
    other = manifold(np.concatenate([real, [[60.0, 0.0]]]), far)
    assert other.recall.mean() > 0.9
    assert other.coverage.mean() < 0.1


def test_too_few_scans_are_refused() -> None:
    with pytest.raises(InputError, match="more scans"):
        manifold(np.zeros((3, 2)), np.zeros((9, 2)))
