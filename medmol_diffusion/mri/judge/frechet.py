"""The Frechet distance between two sets of features."""

import numpy as np
from scipy.linalg import qr, svdvals

from medmol_diffusion.errors import InputError


def frechet_distance(
    a: np.ndarray, b: np.ndarray, weights_a: np.ndarray | None = None, weights_b: np.ndarray | None = None
) -> float:
    r"""Frechet distance between Gaussians fitted to features a (n, d) and b (m, d).

    $|\mu_a - \mu_b|^2 + \mathrm{tr}(C_a + C_b) - 2\,\mathrm{tr}(C_a C_b)^{1/2}$ (Heusel et al. 2017). With centred data
    A and B such that $C = A^\top A$, the last trace is the sum of the singular values of $A B^\top$: no square root of
    a matrix is taken, so it is exact for fewer scans than features too.

    It is biased upwards when scans are few, by about c / n with an unknown c (Chong and Forsyth 2020): two sets of one
    distribution are never at distance 0. Compare at equal n, and with the floor.

    Args:
        weights_a, weights_b: (n,) and (m,) how often each counts; by default once. Whole numbers give what as many
            copies of a row would.

    Raises:
        InputError: fewer than two scans on a side.
    """
    if min(len(a), len(b)) < 2:
        raise InputError(f"A Frechet distance needs at least 2 scans on each side, not {len(a)} and {len(b)}.")
    (mean_a, centred_a), (mean_b, centred_b) = _moments(a, weights_a), _moments(b, weights_b)
    shift = mean_a - mean_b
    (factor_a,), (factor_b,) = (qr(x, mode="r", check_finite=False) for x in (centred_a, centred_b))
    common = svdvals(factor_a @ factor_b.T).sum()
    return float(max(0.0, shift @ shift + np.square(centred_a).sum() + np.square(centred_b).sum() - 2 * common))


def _moments(x: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The mean, and rows A such that A^T A is the unbiased covariance."""
    weights = np.ones(len(x)) if weights is None else weights
    total = weights.sum()
    mean = weights @ x / total
    return mean, np.sqrt(weights / (total - 1))[:, None] * (x - mean)
