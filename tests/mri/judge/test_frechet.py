import numpy as np
import pytest
from scipy.linalg import sqrtm

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.judge.frechet import frechet_distance


def gaussian(count: int, mean: np.ndarray, factor: np.ndarray, seed: int = 0) -> np.ndarray:
    """Draws whose sample mean and covariance are exactly `mean` and factor^T factor."""
    x = np.random.default_rng(seed).standard_normal((count, len(mean)))
    x -= x.mean(0)
    x = x @ np.linalg.inv(np.linalg.cholesky(x.T @ x / (count - 1)).T)
    return mean + x @ factor


def test_frechet_distance_of_two_gaussians_is_the_closed_form() -> None:
    rng = np.random.default_rng(3)
    factor_a, factor_b = rng.standard_normal((2, 5, 5))
    mean_a, mean_b = rng.standard_normal((2, 5))
    cov_a, cov_b = factor_a.T @ factor_a, factor_b.T @ factor_b
    expected = np.square(mean_a - mean_b).sum() + np.trace(cov_a + cov_b - 2 * np.real(sqrtm(cov_a @ cov_b)))
    a, b = gaussian(40, mean_a, factor_a), gaussian(70, mean_b, factor_b, seed=1)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-10)


def test_frechet_distance_with_fewer_scans_than_features() -> None:
    x = np.random.default_rng(0).standard_normal((6, 50))
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(x, x + 2) == pytest.approx(50 * 4)
    # One direction each, at right angles: no common part, so both variances count whole.
    a, b = np.zeros((4, 50)), np.zeros((4, 50))
    a[:, 0] = b[:, 1] = [-1, 1, -1, 1]
    assert frechet_distance(a, b) == pytest.approx(8 / 3)


def test_weights_count_rows_as_often_as_they_say() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((8, 3)), rng.standard_normal((6, 3))
    v, w = np.array([2, 0, 1, 1, 3, 0, 1, 0]), np.array([1, 1, 0, 2, 2, 0])
    expected = frechet_distance(np.repeat(a, v, axis=0), np.repeat(b, w, axis=0))
    assert frechet_distance(a, b, v, w) == pytest.approx(expected, rel=1e-12)


def test_it_grows_as_scans_get_fewer_and_one_scan_is_refused() -> None:
    rng = np.random.default_rng(0)
    means = [np.mean([frechet_distance(*rng.standard_normal((2, n, 4))) for _ in range(40)]) for n in (10, 40, 160)]
    assert means[0] > 2.5 * means[1] > 6 * means[2] > 0
    with pytest.raises(InputError, match="at least 2 scans"):
        frechet_distance(np.zeros((1, 4)), np.zeros((3, 4)))
