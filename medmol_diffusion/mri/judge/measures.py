"""Every measure between two folders of scans, with its interval and its floor."""

import math
from functools import partial

import numpy as np
import torch

from medmol_diffusion.judging.bootstrap import Bootstrap, TwoSets
from medmol_diffusion.judging.wasserstein import Transport, wasserstein
from medmol_diffusion.mri.judge.extractor import Extractor, Spread
from medmol_diffusion.mri.judge.floor import Figure, Floor, floors
from medmol_diffusion.mri.judge.frechet import frechet_distance
from medmol_diffusion.mri.judge.manifold import NEIGHBOURS, Manifold, manifold
from medmol_diffusion.mri.judge.measure import Anatomy, Measured
from medmol_diffusion.mri.judge.mmd import kernel, median_bandwidth, mmd
from medmol_diffusion.mri.judge.power import BANDS, band_means
from medmol_diffusion.mri.judge.tissue import CLASSES
from medmol_diffusion.mri.ssim import max_scales, pairwise_ms_ssim

DRAWS = 200
"""Bootstrap samples."""
VOLUMES = ("head, ml", *(f"{name}, % of head" for name in CLASSES))
SHARES = ("precision", "recall", "density", "coverage")


def pooled_features(generated: Measured, real: Measured, extractor: Extractor) -> np.ndarray:
    """(n + m, d): the generated scans' features, then the real ones', in the real ones' spreads if the extractor says
    so."""
    both = np.concatenate([generated.features, real.features])
    return Spread(real.features)(both) if extractor.in_spreads else both


def feature_distances(pooled: np.ndarray, n: int, seed: int = 0) -> list[Figure]:
    """Frechet distance and RBF-MMD of the first n rows from the rest; the intervals resample both sides.

    The bandwidth of the MMD is the median distance within the real set, so that models judged by one real set share it.

    Raises:
        InputError: fewer than two scans on a side.
    """
    a, b = pooled[:n], pooled[n:]
    sets = TwoSets(n, len(b), DRAWS, seed)
    found = frechet_distance(a, b)
    (frechet_floor,) = floors(lambda i, j: np.array([frechet_distance(pooled[i], pooled[j])]), 1, n, len(b), seed=seed)
    low, high = sets.centred(found, lambda v, w: frechet_distance(a, b, v, w))
    bandwidth = median_bandwidth(b)
    k = kernel(pooled, bandwidth)

    def apart(i: np.ndarray, j: np.ndarray) -> np.ndarray:
        both = np.concatenate([i, j])
        return np.array([mmd(k[np.ix_(both, both)], len(i))])

    (mmd_floor,) = floors(apart, 1, n, len(b), seed=seed)
    limits = sets.interval(lambda v, w: mmd(k, n, v, w))
    return [
        Figure("Frechet distance", found, float(low), float(high), frechet_floor),
        Figure(f"RBF-MMD squared, bandwidth {bandwidth:.3g}", mmd(k, n), float(limits[0]), float(limits[1]), mmd_floor),
    ]


def shares(pooled: np.ndarray, n: int, seed: int = 0) -> list[Figure]:
    """Precision, recall, density and coverage; the intervals resample what each is a mean over, the balls held fixed.

    NaN where a side has too few scans for its neighbours.
    """
    m = len(pooled) - n
    if min(n, m) <= NEIGHBOURS:
        return [Figure(name, math.nan, math.nan, math.nan, Floor.unknown(0, 0)) for name in SHARES]

    def means(found: Manifold) -> np.ndarray:
        return np.array([getattr(found, name).mean() for name in SHARES])

    found = manifold(pooled[:n], pooled[n:])
    every = floors(
        lambda i, j: means(manifold(pooled[i], pooled[j])), len(SHARES), n, m, fewest=NEIGHBOURS + 1, seed=seed
    )
    figures = []
    for name, value, floor in zip(SHARES, means(found).tolist(), every, strict=True):
        part = getattr(found, name).astype(np.float64)
        bootstrap = Bootstrap(len(part), seed=seed)
        limits = (bootstrap.ratio if name == "density" else bootstrap.fraction)(part, np.ones(len(part)))
        figures.append(Figure(name, value, float(limits[0]), float(limits[1]), floor))
    return figures


def diversity(scans: np.ndarray, seed: int = 0) -> tuple[float, float, float, int]:
    """Mean MS-SSIM over pairs of (k, X, Y, Z), low, high, and its scales: NaN for one scan or scans too small for any.

    High is monotonous, and it says something only beside the real set's own.
    """
    scales = max_scales(scans.shape[1:])
    if len(scans) < 2 or not scales:
        return math.nan, math.nan, math.nan, scales
    similar = np.nan_to_num(pairwise_ms_ssim(torch.from_numpy(scans), scales))  # the diagonal has weight 0

    def mean(weights: np.ndarray) -> float:
        pairs = np.outer(weights, weights)
        np.fill_diagonal(pairs, 0)
        return float((pairs * similar).sum() / total) if (total := pairs.sum()) else math.nan

    low, high = Bootstrap(len(scans), DRAWS, seed).interval(mean)
    return mean(np.ones(len(scans))), float(low), float(high), scales


def intensity_distance(generated: Anatomy, real: Anatomy, seed: int = 0) -> Figure:
    r"""Wasserstein-1 between the mean histograms of intensities inside the head, in percent of the intensity range.

    $W_1 = \frac{1}{255} \sum_k |F(k) - G(k)|$ of the distribution functions over 256 intensities.
    """
    a, b = generated.histograms, real.histograms
    both = np.concatenate([a, b])

    def apart(first: np.ndarray, second: np.ndarray) -> float:
        return float(100 * np.abs(np.cumsum(first - second)[:-1]).sum() / (len(first) - 1))

    value = apart(a.mean(0), b.mean(0))
    sets = TwoSets(len(a), len(b), DRAWS, seed)
    low, high = sets.centred(value, lambda v, w: apart(v @ a / v.sum(), w @ b / w.sum()))
    (floor,) = floors(lambda i, j: np.array([apart(both[i].mean(0), both[j].mean(0))]), 1, len(a), len(b), seed=seed)
    intensity = 100 * np.arange(a.shape[1]) / (a.shape[1] - 1)
    means = (float(a.mean(0) @ intensity), float(b.mean(0) @ intensity))
    return Figure("intensities, % of range", value, float(low), float(high), floor, ".3g", *means)


def volume_distances(generated: Anatomy, real: Anatomy, seed: int = 0) -> list[Figure]:
    """Wasserstein-1 of the head's volume and of each class's share in it over scans, in ml and percent of the head.

    Shares, because the volumes of the classes all follow the size of the head. The intervals hold the real scans fixed.
    """
    figures = []
    for name, a, b in zip(VOLUMES, _volumes(generated), _volumes(real), strict=True):
        transport = Transport(a, np.arange(len(a)), b)
        value = transport.distance()
        low, high = Bootstrap(len(a), DRAWS, seed).centred(value, transport.distance)
        (floor,) = floors(partial(_apart, np.concatenate([a, b])), 1, len(a), len(b), seed=seed)
        means = (float(a.mean()), float(b.mean()))
        figures.append(Figure(name, value, float(low), float(high), floor, ".3g", *means))
    return figures


def _apart(values: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    return np.array([wasserstein(values[i], values[j])])


def _volumes(anatomy: Anatomy) -> list[np.ndarray]:
    """(n,) of each of VOLUMES: millilitres of the head, percent of it of each class."""
    head = anatomy.volumes.sum(1)
    return [head, *(100 * anatomy.volumes / head[:, None]).T]


def spectrum_differences(generated: Anatomy, real: Anatomy, seed: int = 0) -> list[Figure]:
    """Mean decibels of the generated scans less those of the real ones, for each of BANDS: below 0 is too smooth."""
    a, b = band_means(generated.spectra), band_means(real.spectra)
    both = np.concatenate([a, b])
    sets = TwoSets(len(a), len(b), DRAWS, seed)
    limits = sets.interval(lambda v, w: v @ a / v.sum() - w @ b / w.sum())
    every = floors(lambda i, j: both[i].mean(0) - both[j].mean(0), len(BANDS), len(a), len(b), seed=seed)
    means = zip(a.mean(0).tolist(), b.mean(0).tolist(), strict=True)
    return [
        Figure(f"{band[0]:g} - {band[1]:g}", ours - theirs, float(low), float(high), floor, "+.2f", ours, theirs)
        for band, (ours, theirs), (low, high), floor in zip(BANDS, means, limits.T, every, strict=True)
    ]
