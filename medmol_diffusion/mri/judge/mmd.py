"""The maximum mean discrepancy between two sets of features, with a Gaussian kernel."""

import numpy as np
from scipy.spatial.distance import cdist

from medmol_diffusion.errors import InputError


def rbf_mmd(a: np.ndarray, b: np.ndarray, bandwidth: float | None = None) -> float:
    r"""Unbiased estimate of the squared maximum mean discrepancy of a (n, d) and b (m, d), for
    $k(x, y) = \exp(-|x - y|^2 / 2 h^2)$ (Gretton et al. 2012, eq. 3). It can be below 0 when the sets are alike: unlike
    the Frechet distance it has no bias for few scans, only noise.

    Args:
        bandwidth: h; None takes the median heuristic over both sets, `median_bandwidth`.

    Raises:
        InputError: fewer than two scans on a side.
    """
    pooled = np.concatenate([a, b])
    return mmd(kernel(pooled, median_bandwidth(pooled) if bandwidth is None else bandwidth), len(a))


def median_bandwidth(*sets: np.ndarray) -> float:
    """The median distance between two different rows of all sets together."""
    pooled = np.concatenate(sets)
    distances = cdist(pooled, pooled)[np.triu_indices(len(pooled), 1)]
    return max(float(np.median(distances)), float(np.finfo(float).tiny))


def kernel(pooled: np.ndarray, bandwidth: float) -> np.ndarray:
    """k of every two rows."""
    return np.exp(-cdist(pooled, pooled, "sqeuclidean") / (2 * bandwidth**2))


def mmd(kernel: np.ndarray, n: int, weights_a: np.ndarray | None = None, weights_b: np.ndarray | None = None) -> float:
    r"""MMD^2 between the first n rows of a pooled kernel and the rest; a row drawn twice is no pair with itself.

    $\frac{\sum_{i \ne j} w_i w_j k_{ij}}{\sum_{i \ne j} w_i w_j}$ within each side, the weighted mean across.

    Raises:
        InputError: fewer than two rows on a side.
    """
    a = np.ones(n) if weights_a is None else weights_a
    b = np.ones(len(kernel) - n) if weights_b is None else weights_b
    if min(len(a), len(b)) < 2:
        raise InputError(f"An MMD needs at least 2 scans on each side, not {len(a)} and {len(b)}.")
    within = sum(_within(kernel[part, part], w) for part, w in ((slice(n), a), (slice(n, None), b)))
    return float(within - 2 * (a @ kernel[:n, n:] @ b) / (a.sum() * b.sum()))


def _within(kernel: np.ndarray, weights: np.ndarray) -> float:
    pairs = weights.sum() ** 2 - (weights**2).sum()  # 0 where a draw took one row alone
    own = (weights**2) @ np.diagonal(kernel)
    return float((weights @ kernel @ weights - own) / pairs) if pairs else float("nan")
