"""How good generated scans and anomaly maps are: pure functions of arrays, with bootstrap intervals.

Generated scans in memory, scored in one call; folders of scans and every measure of them are for `judge/`.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.judge.extractor import Extractor, HaarFeatures, Spread
from medmol_diffusion.mri.judge.frechet import frechet_distance
from medmol_diffusion.mri.judge.mmd import kernel, median_bandwidth, mmd
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
    extractor: Extractor | None = None,
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
    extractor = extractor or HaarFeatures()
    a, b = (
        torch.cat([extractor(part) for part in volumes.split(16)]).double().numpy()
        for volumes in (generated, reference)
    )
    if extractor.in_spreads:
        spread = Spread(b)
        a, b = spread(a), spread(b)
    n, m = len(a), len(b)
    scales = max_scales(generated.shape[1:])
    bandwidth = median_bandwidth(b)
    pooled = kernel(np.concatenate([a, b]), bandwidth)
    similar_a = pairwise_ms_ssim(generated, scales, 2.0, pairs, seed)
    similar_b = pairwise_ms_ssim(reference, scales, 2.0, pairs, seed)

    def discrepancy(i: np.ndarray, j: np.ndarray) -> float:
        return mmd(pooled, n, np.bincount(i, minlength=n), np.bincount(j, minlength=m))

    return VolumeScores(
        frechet=bootstrap(lambda i, j: frechet_distance(a[i], b[j]), n, m, draws=draws, seed=seed, method="centred"),
        mmd=bootstrap(discrepancy, n, m, draws=draws, seed=seed),
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
