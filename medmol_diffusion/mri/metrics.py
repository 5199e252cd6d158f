"""How good generated scans and anomaly maps are: pure functions of arrays, with bootstrap intervals.

Distances between sets of scans are those between features. Nothing can be downloaded, so the features come from a
fixed, declared extractor; distances under different extractors must not be compared, which is why its name and hash
stand beside every figure.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy.linalg import qr, svdvals
from scipy.spatial.distance import cdist
from scipy.stats import rankdata
from torch import Tensor, nn

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.first_stage import Haar
from medmol_diffusion.mri.ssim import max_scales, mean_of_pairs, pairwise_ms_ssim
from medmol_diffusion.mri.transforms import common_grid
from medmol_diffusion.mri.volume import Volume


@dataclass(frozen=True)
class Estimate:
    """A figure with its bootstrap interval, by default of 95%."""

    value: float
    low: float
    high: float


def bootstrap(
    statistic: Callable[..., float],
    *counts: int,
    draws: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    method: Literal["percentile", "centred"] = "percentile",
) -> Estimate:
    """Interval of a statistic of independent units (subjects, scans) by drawing units with replacement.

    Args:
        statistic: of one array of unit indices for each of `counts`; its value is that of all units, once each.
        counts: how many units there are in each set; the sets are drawn apart.
        method: "percentile" takes the quantiles of the draws. "centred" moves them so that the draws' mean is the
            value: for statistics that repeated units shift, such as the Frechet distance, of which only the spread of
            the draws means something.
    """
    rng = np.random.default_rng(seed)
    value = statistic(*(np.arange(count) for count in counts))
    drawn = [statistic(*(rng.integers(count, size=count) for count in counts)) for _ in range(draws)]
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2]) if draws else (np.nan, np.nan)
    if method == "centred":
        low, high = low + value - np.nanmean(drawn), high + value - np.nanmean(drawn)
    return Estimate(float(value), float(low), float(high))


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    r"""Frechet distance between Gaussians fitted to features a (n, d) and b (m, d).

    $|\mu_a - \mu_b|^2 + \mathrm{tr}(C_a + C_b) - 2\,\mathrm{tr}(C_a C_b)^{1/2}$ (Heusel et al. 2017). With centred data
    A and B such that $C = A^\top A$, the last trace is the sum of the singular values of $A B^\top$: no square root of
    a matrix is taken, so it is exact for fewer scans than features too. It is still biased upwards when they are few.

    Raises:
        InputError: fewer than two scans on a side.
    """
    if min(len(a), len(b)) < 2:
        raise InputError(f"A Frechet distance needs at least 2 scans on each side, not {len(a)} and {len(b)}.")
    shift = a.mean(0) - b.mean(0)
    centred_a, centred_b = ((x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (a, b))
    (factor_a,), (factor_b,) = (qr(x, mode="r", check_finite=False) for x in (centred_a, centred_b))
    common = svdvals(factor_a @ factor_b.T).sum()
    return float(max(0.0, shift @ shift + np.square(centred_a).sum() + np.square(centred_b).sum() - 2 * common))


def median_bandwidth(a: np.ndarray, b: np.ndarray) -> float:
    """The median distance between two different rows of both sets together: the bandwidth of `rbf_mmd`."""
    pooled = np.concatenate([a, b])
    distances = cdist(pooled, pooled)[np.triu_indices(len(pooled), 1)]
    return max(float(np.median(distances)), np.finfo(float).tiny)


def rbf_mmd(a: np.ndarray, b: np.ndarray, bandwidth: float | None = None) -> float:
    r"""Unbiased estimate of the squared maximum mean discrepancy of a (n, d) and b (m, d), for
    $k(x, y) = \exp(-|x - y|^2 / 2 h^2)$ (Gretton et al. 2012, eq. 3). It can be below 0 when the sets are alike.

    Args:
        bandwidth: h; None takes the median heuristic, `median_bandwidth`.

    Raises:
        InputError: fewer than two scans on a side.
    """
    if min(len(a), len(b)) < 2:
        raise InputError(f"An MMD needs at least 2 scans on each side, not {len(a)} and {len(b)}.")
    kernel = _kernel(np.concatenate([a, b]), median_bandwidth(a, b) if bandwidth is None else bandwidth)
    return _mmd(kernel, np.arange(len(a)), len(a) + np.arange(len(b)))


class FeatureExtractor(nn.Module):
    """The declared features: statistics of a fixed random convolutional network, and energies of Haar bands.

    Three 3^3 convolutions of stride 2 (16, 32, 64 channels, leaky ReLU) with He-normal weights from a fixed generator;
    the mean and the standard deviation of every channel of every layer (224 features; random features of this kind tell
    textures apart well, Ustyuzhaninov et al. 2016). Beside them the mean of the coarsest low-pass and the logarithm of
    the mean square of the 7 high-pass bands of each of 3 Haar levels, divided by 10 (22 features). Weights depend on
    `seed` alone; `hash` is the SHA-256 of their bytes and tells when a library draws them otherwise.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.convolutions = nn.ModuleList()
        for narrow, wide in pairwise((1, 16, 32, 64)):
            convolution = nn.Conv3d(narrow, wide, 3, stride=2, padding=1, bias=False)
            weight = torch.randn(convolution.weight.shape, generator=generator)
            convolution.weight = nn.Parameter(weight * (2 / (27 * narrow)) ** 0.5, requires_grad=False)
            self.convolutions.append(convolution)
        self.haar = Haar(1)
        self.name = f"random-conv3d-16-32-64+haar-3, seed {seed}"
        weights = [parameter.numpy().astype("<f4").tobytes() for parameter in self.parameters()]
        self.hash = hashlib.sha256(b"".join(weights)).hexdigest()

    @torch.no_grad()
    def forward(self, volumes: Tensor) -> Tensor:
        """(N, X, Y, Z) in [-1, 1] -> (N, 246). Sizes are padded to multiples of 8 by repeating the border."""
        x = volumes[:, None].float()
        z, y, x_ = ((-size) % 8 for size in reversed(x.shape[2:]))
        x = F.pad(x, (0, z, 0, y, 0, x_), mode="replicate")
        features = []
        h = x
        for convolution in self.convolutions:
            h = F.leaky_relu(convolution(h), 0.2)
            features += [h.mean((2, 3, 4)), h.flatten(2).std(2, correction=0)]
        low = x
        for _ in range(3):
            bands = self.haar.encode(low)
            low = bands[:, :1] / 8**0.5  # back on the scale of the scan: the mean of each block
            features.append((bands[:, 1:].square().mean((2, 3, 4)) + 1e-6).log() / 10)
        return torch.cat([*features, low.mean((2, 3, 4))], dim=1)

    def extract(self, volumes: Tensor, batch: int = 16) -> np.ndarray:
        """The same in batches, as a float64 array."""
        return torch.cat([self(part) for part in volumes.split(batch)]).double().numpy()


@dataclass(frozen=True)
class VolumeScores:
    """Generated scans beside real ones. Lower is better for the first two; the MS-SSIMs should be alike.

    Attributes:
        frechet: Frechet distance of the features.
        mmd: squared RBF-MMD of the features, unbiased.
        ms_ssim, ms_ssim_reference: mean pairwise MS-SSIM of the generated and of the real scans.
        generated, reference: numbers of scans.
        extractor, extractor_hash: what made the features.
        bandwidth: of the MMD.
        scales: of the MS-SSIM.
    """

    frechet: Estimate
    mmd: Estimate
    ms_ssim: Estimate
    ms_ssim_reference: Estimate
    generated: int
    reference: int
    extractor: str
    extractor_hash: str
    bandwidth: float
    scales: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Score, value, interval and numbers of scans, for a table."""
        both = f"{self.generated} + {self.reference}"
        figures = [
            ("Frechet distance", self.frechet, both),
            (f"RBF-MMD squared, bandwidth {self.bandwidth:.3g}", self.mmd, both),
            (f"MS-SSIM between generated, {self.scales} scales", self.ms_ssim, str(self.generated)),
            (f"MS-SSIM between real, {self.scales} scales", self.ms_ssim_reference, str(self.reference)),
        ]
        rows = [(name, f"{e.value:.4g}", f"{e.low:.4g} to {e.high:.4g}", count) for name, e, count in figures]
        return [*rows, ("feature extractor", self.extractor, f"sha256 {self.extractor_hash[:12]}", "")]


def score_volumes(
    generated: Tensor | Sequence[Volume],
    reference: Tensor | Sequence[Volume],
    extractor: FeatureExtractor | None = None,
    draws: int = 200,
    pairs: int = 1000,
    seed: int = 0,
) -> VolumeScores:
    """Score generated scans against real ones.

    Both are (N, X, Y, Z) in [-1, 1] on one grid, or scans of any kind, which are put on the smallest common grid of all
    and normalised, each by its own percentiles. Intervals come from `draws` bootstrap samples of the scans of both
    sides. MMD and MS-SSIM leave out pairs of a scan with itself there too; the Frechet distance, which has no such
    remedy, gets centred intervals. MS-SSIM takes at most `pairs` pairs of a side.

    Raises:
        InputError: fewer than two scans on a side, other sizes on the two sides, or scans below 7 voxels.
    """
    if not isinstance(generated, Tensor) and not isinstance(reference, Tensor):
        grid = common_grid([*generated, *reference])
        generated, reference = (
            torch.stack([torch.from_numpy(grid.prepare(volume).volume.data) for volume in volumes])
            for volumes in (generated, reference)
        )
    if not isinstance(generated, Tensor) or not isinstance(reference, Tensor):
        raise TypeError("score_volumes takes two tensors or two sequences of Volume, not one of each")
    if generated.shape[1:] != reference.shape[1:]:
        raise InputError(
            f"Generated scans of {tuple(generated.shape[1:])} voxels cannot be scored against real ones of "
            f"{tuple(reference.shape[1:])}: put both on one grid."
        )
    extractor = extractor or FeatureExtractor()
    a, b = extractor.extract(generated), extractor.extract(reference)
    n, m = len(a), len(b)
    scales = max_scales(generated.shape[1:])
    bandwidth = median_bandwidth(a, b)
    kernel = _kernel(np.concatenate([a, b]), bandwidth)
    similar_a = pairwise_ms_ssim(generated, scales, 2.0, pairs, seed)
    similar_b = pairwise_ms_ssim(reference, scales, 2.0, pairs, seed)

    return VolumeScores(
        frechet=bootstrap(lambda i, j: frechet_distance(a[i], b[j]), n, m, draws=draws, seed=seed, method="centred"),
        mmd=bootstrap(lambda i, j: _mmd(kernel, i, n + j), n, m, draws=draws, seed=seed),
        ms_ssim=bootstrap(lambda i: mean_of_pairs(similar_a, i), n, draws=draws, seed=seed),
        ms_ssim_reference=bootstrap(lambda i: mean_of_pairs(similar_b, i), m, draws=draws, seed=seed),
        generated=n,
        reference=m,
        extractor=extractor.name,
        extractor_hash=extractor.hash,
        bandwidth=bandwidth,
        scales=scales,
    )


def auroc(score: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Area under the ROC curve over the voxels of `mask`: P(score of a lesion voxel > of a healthy one), ties half.

    NaN where only one class is there (Mann & Whitney 1947).
    """
    score, truth = _inside(score, truth, mask)
    positive, negative = int(truth.sum()), int((~truth).sum())
    if not positive or not negative:
        return float("nan")
    ranks = rankdata(score)[truth].sum()
    return float((ranks - positive * (positive + 1) / 2) / (positive * negative))


def auprc(score: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Average precision over the voxels of `mask`: the sum of precision times gain in recall, over falling thresholds.

    Ties share a threshold. A map of no use gets the share of lesion voxels. NaN where there is no lesion.
    """
    _, hits, flagged, positive = _sweep(*_inside(score, truth, mask))
    if not positive:
        return float("nan")
    return float((np.diff(hits, prepend=0) / positive * (hits / flagged)).sum())


def dice(prediction: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> float:
    """2 |P and T| / (|P| + |T|) of boolean arrays over the voxels of `mask`; NaN where both are empty."""
    p, t = _inside(prediction.astype(bool), truth, mask)
    total = int(p.sum() + t.sum())
    return float(2 * (p & t).sum() / total) if total else float("nan")


def best_dice(score: np.ndarray, truth: np.ndarray, mask: np.ndarray | None = None) -> tuple[float, float]:
    """The *best possible* Dice of any threshold chosen with the truth at hand, and that threshold (score >= it).

    An upper bound, not a result: mark it so wherever it is shown. NaN where there is no lesion.
    """
    thresholds, hits, flagged, positive = _sweep(*_inside(score, truth, mask))
    if not positive:
        return float("nan"), float("nan")
    values = 2 * hits / (flagged + positive)
    best = int(values.argmax())
    return float(values[best]), float(thresholds[best])


def _inside(values: np.ndarray, truth: np.ndarray, mask: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    if values.shape != truth.shape or (mask is not None and mask.shape != truth.shape):
        raise InputError(
            f"A map of {values.shape} voxels cannot be held against a truth of {truth.shape}"
            f"{'' if mask is None else f' in a mask of {mask.shape}'}: put all on one grid."
        )
    inside = slice(None) if mask is None else mask.astype(bool).ravel()
    return values.ravel()[inside], truth.astype(bool).ravel()[inside]


def _sweep(score: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """For every distinct threshold, falling: itself, lesion voxels at or above it, all voxels at or above it."""
    order = np.argsort(-score, kind="stable")
    falling, hits = score[order], np.cumsum(truth[order])
    last = np.flatnonzero(np.append(falling[1:] != falling[:-1], True)) if len(score) else np.array([], dtype=int)
    return falling[last], hits[last], last + 1, int(truth.sum())


def _kernel(x: np.ndarray, bandwidth: float) -> np.ndarray:
    return np.exp(-cdist(x, x, "sqeuclidean") / (2 * bandwidth**2))


def _mmd(kernel: np.ndarray, i: np.ndarray, j: np.ndarray) -> float:
    """Unbiased MMD^2 between rows i and j of the pooled kernel; a unit drawn twice is no pair with itself."""
    return float(mean_of_pairs(kernel, i) + mean_of_pairs(kernel, j) - 2 * kernel[np.ix_(i, j)].mean())
