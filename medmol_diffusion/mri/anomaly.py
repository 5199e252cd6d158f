"""Anomaly detection by reconstruction error: restore -> residual -> postprocess -> calibrate -> score.

Each stage is a small function; a method is a name for a way to restore. Noise levels are given as gamma, so that they
mean the same for every schedule: t = 250 and 500 of the DDPM-linear schedule with 1000 steps are gamma = -0.09 and
2.46.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import binary_erosion, median_filter
from torch import Tensor

from medmol_diffusion.core import Streams
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.batch import VolumeBatch
from medmol_diffusion.mri.model import VolumeDiffusion
from medmol_diffusion.mri.transforms import foreground_mask
from medmol_diffusion.mri.volume import Volume

Restore = Callable[[VolumeDiffusion, VolumeBatch, int], Tensor]
"""(model, scans, seed of the noise) -> restored scans [B, 1, X, Y, Z]."""


def one_shot(model: VolumeDiffusion, batch: VolumeBatch, seed: int) -> Tensor:
    """One network call: E[v | z] at gamma = 2.46, t = 500 of 1000 (Kascenas et al. 2023; Behrendt et al. 2024)."""
    return model.restore(batch, gamma=2.46, steps=0, streams=Streams(seed, batch.index))


def partial(model: VolumeDiffusion, batch: VolumeBatch, seed: int, repeats: int = 3, steps: int = 25) -> Tensor:
    """Noise to gamma = -0.09, t = 250 of 1000, and denoise to the data; the mean of ``repeats``.

    AnoDDPM (Wyatt et al. 2022) with Gaussian noise. The repeats run as one batch.
    """
    copies = VolumeBatch(
        batch.data.repeat(repeats, 1, 1, 1, 1),
        batch.mask.repeat(repeats, 1, 1, 1, 1),
        batch.index.repeat(repeats),
        batch.names * repeats,
        batch.covariates * repeats,
    )
    streams = Streams(seed, torch.arange(repeats * len(batch)))
    restored = model.restore(copies, -0.09, steps, streams, "ancestral")
    return restored.unflatten(0, (repeats, len(batch))).mean(0)


def smoothing(model: VolumeDiffusion, batch: VolumeBatch, seed: int, sigma: float = 2.0) -> Tensor:
    """The baseline without a model: a Gaussian blur of ``sigma`` voxels, normalised so that no padding bleeds in."""
    radius = int(3 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=batch.data.device) / sigma) ** 2)

    def blur(v: Tensor) -> Tensor:
        for shape in ((1, 1, -1, 1, 1), (1, 1, 1, -1, 1), (1, 1, 1, 1, -1)):
            padding = tuple(radius if size == -1 else 0 for size in shape[2:])
            v = torch.nn.functional.conv3d(v, kernel.reshape(shape), padding=padding)
        return v

    counted = batch.mask.to(batch.data)
    return blur(batch.data * counted) / blur(counted).clamp(min=1e-6)


METHODS: dict[str, Restore] = {"one_shot": one_shot, "partial": partial, "smoothing": smoothing}


def residual(scan: Tensor, restored: Tensor) -> Tensor:
    """|v - r|, [B, 1, X, Y, Z] in the model's units, where the range of intensities is 2."""
    return (scan - restored).abs()


def postprocess(anomaly: np.ndarray, inside: np.ndarray, median: int = 3) -> np.ndarray:
    """Median filter of ``median`` voxels, then zero outside ``inside`` eroded by 1/25 of the smallest size."""
    layers = round(min(inside.shape) / 25)
    eroded = binary_erosion(inside, iterations=layers) if layers else inside
    return np.where(eroded, median_filter(anomaly, size=median), 0.0).astype(np.float32)


def scan_score(anomaly: np.ndarray, inside: np.ndarray, top: float = 0.01) -> float:
    """Mean of the highest ``top`` share of the map inside the mask."""
    values = np.sort(anomaly[inside])
    return float(values[-max(1, round(top * len(values))) :].mean())


@dataclass(frozen=True)
class Detection:
    """What a detector says of one scan; every volume lies on the scan's own grid.

    Attributes:
        scan: the scan, in its own units.
        map: anomaly of every voxel, in the model's units (the range of intensities is 2); 0 outside the head.
        restored: the model's healthy version, in the scan's own units.
        inside: bool, the voxels that are scored.
        score: of the whole scan.
        percentile: share of the calibration scans with a lower score, in percent; None before calibration.
    """

    scan: Volume
    map: Volume
    restored: Volume
    inside: np.ndarray
    score: float
    percentile: float | None = None

    def to_nifti(self) -> object:
        """The map as a nibabel image."""
        return self.map.to_nifti()


class AnomalyDetector:
    """A model and a method.

    Args:
        model: trained on healthy scans.
        method: a name in METHODS.
        seed: of the noise.

    Raises:
        InputError: an unknown method.
    """

    def __init__(self, model: VolumeDiffusion, method: str = "one_shot", seed: int = 0) -> None:
        if method not in METHODS:
            raise InputError(f"unknown method '{method}': choose one of {', '.join(METHODS)}")
        if not isinstance(model, VolumeDiffusion):
            raise InputError(f"anomalies are found in scans: a {type(model).__name__} knows none")
        self.model, self.method, self.seed = model, method, seed
        self.threshold: float | None = None
        self.healthy_scores: np.ndarray | None = None

    def detect(self, scan: Volume | str | Path, brain: Volume | None = None) -> Detection:
        """Anomaly map and score of a scan of any size and orientation.

        Args:
            scan: the scan or its file.
            brain: where to look, above 0; the whole head, found by its brightness, when left out.

        Raises:
            InputError: the file cannot be read as a scan.
        """
        volume = scan if isinstance(scan, Volume) else Volume.read(scan)
        name = volume.provenance.get("source", "scan")
        prepared = self.model.grid.prepare(volume)
        values = torch.from_numpy(prepared.volume.data)[None, None]
        counted = torch.from_numpy(prepared.mask)[None, None]
        batch = VolumeBatch(values, counted, torch.zeros(1, dtype=torch.int64), [name]).to(self.model.device)
        restored = METHODS[self.method](self.model, batch, self.seed)
        if brain is None:
            inside = foreground_mask(prepared.volume.data) & prepared.mask
        else:
            inside = (brain.resample(like=prepared.volume, order=0).data > 0) & prepared.mask
            if not inside.any():
                raise InputError(f"the brain mask of {name} marks no voxel of the model's grid: check its affine")
        found = postprocess(residual(batch.data, restored)[0, 0].cpu().numpy(), inside)
        score = scan_score(found, inside)
        on_grid = replace(prepared.volume, provenance={"source": name, "method": self.method})
        healthy = prepared.intensities(restored[0, 0].cpu().numpy())
        own = [
            replace(on_grid, data=data).resample(like=volume, order=order, value=value)
            for data, order, value in ((found, 1, 0.0), (healthy, 1, prepared.window[0]), (inside, 0, 0.0))
        ]
        percentile = None if self.healthy_scores is None else float((self.healthy_scores < score).mean() * 100)
        return Detection(volume, own[0], own[1], own[2].data > 0.5, score, percentile)

    def calibrate(
        self,
        healthy: Sequence[Volume | str | Path],
        quantile: float = 0.99,
        brains: Sequence[Volume] | None = None,
    ) -> None:
        """Fix the threshold at a quantile of the maps' voxels over healthy scans, and keep their scores for
        percentiles.

        Raises:
            InputError: no scans are given.
        """
        if not healthy:
            raise InputError("calibration needs at least one healthy scan")
        masks: Sequence[Volume | None] = brains if brains is not None else [None] * len(healthy)
        found = [self.detect(scan, brain) for scan, brain in zip(healthy, masks, strict=True)]
        self.threshold = float(np.quantile(np.concatenate([d.map.data[d.inside] for d in found]), quantile))
        self.healthy_scores = np.array([d.score for d in found])
