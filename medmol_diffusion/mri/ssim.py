"""Multi-scale structural similarity of scans, and how alike the scans of a set are."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medmol_diffusion.errors import InputError

WINDOW = 7  # voxels, of the Gaussian window of SSIM
Moments = list[tuple[Tensor, Tensor, Tensor]]  # at each scale: scans, windowed means, windowed variances
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang, Simoncelli & Bovik 2003


def ms_ssim(a: Tensor, b: Tensor, scales: int = 3, data_range: float = 2.0, within: Tensor | None = None) -> Tensor:
    """Multi-scale SSIM of pairs of scans a, b (N, X, Y, Z) -> (N,).

    Gaussian window of 7^3 voxels (sigma 1.5), K = (0.01, 0.03), halving by 2^3 means, the first `scales` weights of
    Wang et al. made to sum to 1, negative contrast terms set to 0. `max_scales` is how many a size allows.

    Args:
        within: bool (N, X, Y, Z): windows count whose middle lies there, at coarser scales by the share of it that
            does; NaN where none does. All of them count without.

    Raises:
        InputError: the scans are too small for so many scales.
    """
    _check_scales(a, scales)
    shares = None if within is None else _shares(within, scales)
    return _ms_ssim(_moments(a, scales), _moments(b, scales), scales, data_range, shares)


def ssim_map(a: Tensor, b: Tensor, data_range: float = 2.0) -> Tensor:
    """SSIM of the windows round every voxel of pairs of scans a, b (N, X, Y, Z), of the same shape (Wang et al. 2004,
    eq. 13); windows as for `ms_ssim`, scans continued by their border."""
    sides = (WINDOW // 2,) * 6
    (x, mean_x, var_x), (y, mean_y, var_y) = (
        _moments(F.pad(v[:, None].float(), sides, mode="replicate")[:, 0], 1)[0] for v in (a, b)
    )
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    contrast = (2 * (_window(x * y) - mean_x * mean_y) + c2) / (var_x + var_y + c2)
    return contrast * (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)


def max_scales(shape: tuple[int, ...] | torch.Size, limit: int = 3) -> int:
    """How many scales MS-SSIM has room for, at most `limit`: the window must fit in the coarsest."""
    scales = 0
    while scales < limit and min(shape) // 2**scales >= WINDOW:
        scales += 1
    return scales


def pairwise_ms_ssim(
    volumes: Tensor, scales: int, data_range: float = 2.0, pairs: int | None = None, seed: int = 0
) -> np.ndarray:
    """MS-SSIM of every two scans of (N, X, Y, Z): symmetric (N, N), NaN on the diagonal and where a pair was not drawn.

    Raises:
        InputError: fewer than two scans, or too small for so many scales.
    """
    if len(volumes) < 2:
        raise InputError(f"MS-SSIM between scans needs at least 2 of them, not {len(volumes)}.")
    _check_scales(volumes, scales)
    moments = _moments(volumes, scales)  # once a scan, not once a pair
    first, second = np.triu_indices(len(volumes), 1)
    if pairs is not None and pairs < len(first):
        chosen = np.random.default_rng(seed).choice(len(first), size=pairs, replace=False)
        first, second = first[chosen], second[chosen]
    matrix = np.full((len(volumes), len(volumes)), np.nan)
    for i, j in zip(first.tolist(), second.tolist(), strict=True):  # a pair at a time stays in the cache
        matrix[i, j] = matrix[j, i] = float(_ms_ssim(_one(moments, i), _one(moments, j), scales, data_range))
    return matrix


def mean_of_pairs(matrix: np.ndarray, units: np.ndarray) -> float:
    """Mean of a symmetric matrix over pairs of different units among `units`; what is NaN does not count."""
    pairs = matrix[np.ix_(units, units)][units[:, None] != units[None, :]]
    known = pairs[~np.isnan(pairs)]
    return float(known.mean()) if len(known) else float("nan")


def _one(moments: Moments, i: int) -> Moments:
    return [(x[i : i + 1], mean[i : i + 1], variance[i : i + 1]) for x, mean, variance in moments]


def _check_scales(volumes: Tensor, scales: int) -> None:
    if scales < 1 or max_scales(volumes.shape[1:], scales) < scales:
        raise InputError(
            f"MS-SSIM with {scales} scales needs at least {WINDOW * 2 ** max(scales - 1, 0)} voxels along each axis, "
            f"not {tuple(volumes.shape[1:])}: use fewer scales or larger scans."
        )


def _moments(volumes: Tensor, scales: int) -> Moments:
    """At each scale: the scans, their windowed means and their windowed variances, (N, X, Y, Z) each."""
    moments = []
    x = volumes.float()
    for scale in range(scales):
        x = F.avg_pool3d(x[:, None], 2)[:, 0] if scale else x
        mean = _window(x)
        moments.append((x, mean, _window(x * x) - mean * mean))
    return moments


def _shares(within: Tensor, scales: int) -> list[Tensor]:
    """At each scale: how much every window counts, (N, X - 6, Y - 6, Z - 6)."""
    shares, x, edge = [], within.float(), WINDOW // 2
    for scale in range(scales):
        x = F.avg_pool3d(x[:, None], 2)[:, 0] if scale else x
        shares.append(x[:, edge:-edge, edge:-edge, edge:-edge])
    return shares


def _ms_ssim(a: Moments, b: Moments, scales: int, data_range: float, shares: list[Tensor] | None = None) -> Tensor:
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    weights = np.array(SCALE_WEIGHTS[:scales]) / sum(SCALE_WEIGHTS[:scales])
    product = torch.ones(())
    for scale, ((x, mean_x, var_x), (y, mean_y, var_y)) in enumerate(zip(a, b, strict=True)):
        term = (2 * (_window(x * y) - mean_x * mean_y) + c2) / (var_x + var_y + c2)
        if scale == scales - 1:
            term = term * (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
        if shares is None:
            mean = term.mean((1, 2, 3))
        else:
            mean = (shares[scale] * term).sum((1, 2, 3)) / shares[scale].sum((1, 2, 3))
        product = product * mean.clamp(min=0) ** weights[scale]
    return product


def _window(x: Tensor) -> Tensor:
    """Gaussian-weighted means over all windows inside the scan: (N, X, Y, Z) -> (N, X - 6, Y - 6, Z - 6)."""
    offsets = torch.arange(WINDOW) - WINDOW // 2
    weights = (-(offsets**2) / (2 * 1.5**2)).exp()
    weights = (weights / weights.sum()).to(x.dtype)

    def band(size: int) -> Tensor:
        """(size - 6, size): each row is one window. Products with it are several times faster than a convolution."""
        rows = torch.zeros(size - WINDOW + 1, size, dtype=x.dtype)
        for k in range(len(rows)):
            rows[k, k : k + WINDOW] = weights
        return rows

    _, size_x, size_y, size_z = x.shape
    x = band(size_y) @ (x @ band(size_z).T)
    return (band(size_x) @ x.flatten(2)).unflatten(2, x.shape[2:])
