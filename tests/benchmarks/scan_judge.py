"""What tells degraded scans from real ones: the shipped extractor beside a random 3-D convolutional network.

    python -m tests.benchmarks.scan_judge FOLDER [--pattern "*T1w.nii.gz"] [--splits 8] [--coarsen 2]

The scans of a folder are split at random into two halves, A and B. The floor of a distance is that of A from B; a fault
is put into A, and the figure is by how many standard deviations of the floor (over splits) its distance from B lies
above the mean floor. Random features of this kind tell textures apart well (Ustyuzhaninov et al. 2016): three 3^3
convolutions of stride 2 (16, 32, 64 channels, leaky ReLU, He-normal weights), mean and standard deviation of each.
"""

import argparse
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from medmol_diffusion.mri.judge.extractor import HaarFeatures, Spread
from medmol_diffusion.mri.judge.frechet import frechet_distance
from medmol_diffusion.mri.judge.manifold import manifold
from medmol_diffusion.mri.judge.mmd import rbf_mmd
from medmol_diffusion.mri.judge.power import band_means, power_spectrum
from medmol_diffusion.mri.judge.scans import Reading, ScanFolder, judged_grid

Fault = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]
"""A scan, another one and random numbers -> a scan with the fault."""


class RandomNetwork(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weights = [
            torch.randn(wide, narrow, 3, 3, 3, generator=generator) * (2 / (27 * narrow)) ** 0.5
            for narrow, wide in pairwise((1, 16, 32, 64))
        ]

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, found = x[:, None], []
        for weight in self.weights:
            h = F.leaky_relu(F.conv3d(h, weight, stride=2, padding=1), 0.2)
            found += [h.mean((2, 3, 4)), h.flatten(2).std(2, correction=0)]
        return torch.cat(found, 1)


def blur(sigma: float) -> Fault:
    return lambda x, other, rng: gaussian_filter(x, sigma)


def noise(std: float) -> Fault:
    return lambda x, other, rng: np.clip(x + std * rng.standard_normal(x.shape), -1, 1).astype(np.float32)


def shift(voxels: int) -> Fault:
    return lambda x, other, rng: np.roll(x, (voxels, voxels), (0, 1))


Distance = Callable[[np.ndarray, np.ndarray], float]
FAULTS: dict[str, Fault] = {
    "blur, sigma 0.5 voxels": blur(0.5),
    "blur, sigma 1": blur(1.0),
    "noise, 2.5 % of range": noise(0.05),
    "noise, 5 %": noise(0.1),
    "moved 2 voxels": shift(2),
    "brighter by 5 %": lambda x, other, rng: np.clip(x + 0.1, -1, 1),
    "contrast, power 1.2": lambda x, other, rng: ((x + 1) / 2) ** 1.2 * 2 - 1,
    "upside down": lambda x, other, rng: x[:, :, ::-1].copy(),
    "mean of two scans": lambda x, other, rng: (x + other) / 2,
    "random phases": lambda x, other, rng: _random_phases(x, rng),
    "8^3 voxels missing": lambda x, other, rng: _without_middle(x),
}


def _without_middle(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[tuple(slice(size // 2 - 4, size // 2 + 4) for size in x.shape)] = -1
    return x


def _random_phases(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Clouds of the same spectrum and mean, in the box of what is no padding."""
    x = x.copy()
    box = tuple(slice(places.min(), places.max() + 1) for places in np.nonzero(x > -1))
    inside = x[box]
    phases = np.exp(1j * np.angle(np.fft.fftn(rng.standard_normal(inside.shape))))
    clouds = np.fft.ifftn(np.abs(np.fft.fftn(inside)) * phases).real
    x[box] = np.clip(clouds - clouds.mean() + inside.mean(), -1, 1)
    return x


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pattern", default="*.nii*")
    parser.add_argument("--splits", type=int, default=8)
    parser.add_argument("--coarsen", type=int, default=1, help="block means of so many voxels a side first")
    options = parser.parse_args()
    folder = ScanFolder.survey(options.folder, Reading(options.pattern))
    judged = judged_grid(folder)
    scans = [prepared.volume.data for _, prepared in folder.prepared(judged.grid)]
    if options.coarsen > 1:
        scans = [F.avg_pool3d(torch.from_numpy(x)[None], options.coarsen)[0].numpy() for x in scans]
    count = len(scans)
    rng = np.random.default_rng(0)
    others = [(place + 1 + int(rng.integers(count - 1))) % count for place in range(count)]
    sets = {"real": scans}
    for name, fault in FAULTS.items():
        sets[name] = [fault(x, scans[other], rng) for x, other in zip(scans, others, strict=True)]
    extractors = {"shipped": HaarFeatures(), "random": RandomNetwork()}
    features = {
        (name, kind): torch.cat([extractor(torch.from_numpy(x)[None]) for x in changed]).double().numpy()
        for kind, extractor in extractors.items()
        for name, changed in sets.items()
    }
    top = {name: band_means(np.array([power_spectrum(x) for x in changed]))[:, -1] for name, changed in sets.items()}
    splits = [np.array_split(rng.permutation(count), 2) for _ in range(options.splits)]
    collapsed = [rng.choice(a[:5], len(a)) for a, _ in splits]  # five scans over and over

    def deviations(
        name: str, kind: str, in_spreads: bool, distance: Callable[[np.ndarray, np.ndarray], float]
    ) -> float:
        real = features["real", kind]
        scale = Spread(real) if in_spreads else lambda x: x
        real = scale(real)
        own = [distance(real[a], real[b]) for a, b in splits]
        if name == "five scans repeated":
            found = [distance(real[five], real[b]) for five, (_, b) in zip(collapsed, splits, strict=True)]
        else:
            changed = scale(features[name, kind])
            found = [distance(changed[a], real[b]) for a, b in splits]
        return float((np.mean(found) - np.mean(own)) / np.std(own))

    print(f"{count} scans, {judged}, coarsened {options.coarsen} times; standard deviations above the floor")
    print("| fault | Frechet | MMD | random network | its spreads | precision | recall | top band, dB |")
    print("|---|---|---|---|---|---|---|---|")
    spread = Spread(features["real", "shipped"])
    real = spread(features["real", "shipped"])
    for name in ["real", *FAULTS, "five scans repeated"]:
        if name == "real":
            cells = ["0"] * 4
            pairs = [(real[a], real[b]) for a, b in splits]
        else:
            ways = (("shipped", True, frechet_distance), ("shipped", True, rbf_mmd))
            ways += (("random", False, frechet_distance), ("random", True, frechet_distance))
            cells = [f"{deviations(name, *way):.1f}" for way in ways]
            if name in FAULTS:
                pairs = [(spread(features[name, "shipped"])[a], real[b]) for a, b in splits]
            else:
                pairs = [(real[five], real[b]) for five, (_, b) in zip(collapsed, splits, strict=True)]
        found = [manifold(made, kept) for made, kept in pairs]
        shares = [f"{np.mean([getattr(one, share).mean() for one in found]):.2f}" for share in ("precision", "recall")]
        band = f"{(top.get(name, top['real']) - top['real']).mean():+.1f}"
        print(f"| {name} | {' | '.join([*cells, *shares, band])} |")


if __name__ == "__main__":
    main()
