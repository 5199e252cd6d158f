import numpy as np
import pytest

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.judge.mmd import kernel, median_bandwidth, mmd, rbf_mmd


def test_mmd_is_unbiased_and_sees_variance() -> None:
    rng = np.random.default_rng(0)
    same = [rbf_mmd(*rng.standard_normal((2, 20, 3)), bandwidth=2.0) for _ in range(300)]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(300)
    assert min(same) < 0
    wider = [rbf_mmd(rng.standard_normal((20, 3)), 2 * rng.standard_normal((20, 3)), 2.0) for _ in range(50)]
    assert np.mean(wider) > 10 * abs(np.mean(same))


def test_mmd_is_the_sum_over_pairs() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((4, 2)), rng.standard_normal((5, 2))
    h = median_bandwidth(a, b)

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.exp(-np.square(x - y).sum() / (2 * h * h)))

    within_a = np.mean([k(a[i], a[j]) for i in range(4) for j in range(4) if i != j])
    within_b = np.mean([k(b[i], b[j]) for i in range(5) for j in range(5) if i != j])
    across = np.mean([k(x, y) for x in a for y in b])
    assert rbf_mmd(a, b) == pytest.approx(within_a + within_b - 2 * across)


def test_a_row_drawn_twice_is_no_pair_with_itself() -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal((9, 2))
    k = kernel(x, 1.3)
    v, w = np.array([2, 1, 0, 3]), np.array([1, 1, 2, 0, 1])

    def within(part: np.ndarray, weights: np.ndarray) -> float:
        rows = np.repeat(np.arange(len(part)), weights)
        pairs = [(i, j) for i in rows for j in rows if i != j]
        return float(np.mean([part[i, j] for i, j in pairs]))

    across = np.mean(np.repeat(np.repeat(k[:4, 4:], v, axis=0), w, axis=1))
    expected = within(k[:4, :4], v) + within(k[4:, 4:], w) - 2 * across
    assert mmd(k, 4, v, w) == pytest.approx(expected, rel=1e-12)
    assert np.isnan(mmd(k, 4, np.array([4, 0, 0, 0]), w))
    with pytest.raises(InputError, match="at least 2 scans"):
        mmd(k, 1)
