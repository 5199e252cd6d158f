"""Bits per voxel of Gaussian models on the data of an MRI run beside the run's own model, scan by scan.

    python -m tests.benchmarks.gaussian_bits RUN [--data PATH] [--draws 32]

The differences are paired by scan: scans differ more from each other than models do. Both Gaussians are fitted on the
run's training scans and measured on its test scans, on the same grey levels and the same counted voxels as
`medmol validate RUN`. Per voxel: independent Gaussians, mean and variance of each voxel of the common grid, in exact
discretised mass. Spectrum: the scan less the mean of each voxel, in the orthonormal cosine basis of its own box, with
one variance for each bin of the three frequencies; a density, so the data are dequantised uniformly, and the figure is
an upper bound of the model's own discrete code length.
"""

import argparse
import math

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.fft import dctn

from medmol_diffusion.core.observation import log_gaussian_mass
from medmol_diffusion.mri import VolumeDiffusion
from medmol_diffusion.mri.volume_set import VolumeSet
from medmol_diffusion.training.validation import open_data, validate_model

FREQUENCY_BINS = 14


def moments(train: VolumeSet) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of every voxel of the grid over the scans that count it, shrunk where few do.

    Each is averaged with 4 scans' worth of the figure over all voxels.
    """
    data = np.stack([train[i][0][0].numpy().astype(np.float64) for i in range(len(train))])
    mask = np.stack([train[i][1][0].numpy() for i in range(len(train))])
    overall, prior = data[mask].mean(), 4.0
    count = mask.sum(0)
    mean = ((data * mask).sum(0) + prior * overall) / (count + prior)
    spread = ((data - overall) ** 2)[mask].mean()
    variance = ((((data - mean) ** 2) * mask).sum(0) + prior * spread) / (count + prior)
    return mean, np.sqrt(variance)


def own_box(values: np.ndarray, box: np.ndarray) -> np.ndarray:
    return values[tuple(slice(start, stop) for start, stop in box)]


def frequency_bin(shape: tuple[int, ...]) -> np.ndarray:
    """The bin of every cosine coefficient of a box: its three frequencies on a scale where fine steps are at the low
    end."""
    places = [np.minimum((np.sqrt(np.arange(n) / n) * FREQUENCY_BINS).astype(int), FREQUENCY_BINS - 1) for n in shape]
    return np.ravel_multi_index(np.meshgrid(*places, indexing="ij"), (FREQUENCY_BINS,) * 3)


def spectrum(train: VolumeSet, mean: np.ndarray) -> np.ndarray:
    """Variance of the cosine coefficients in every frequency bin; empty bins take the smallest variance there is."""
    total, count = np.zeros(FREQUENCY_BINS**3), np.zeros(FREQUENCY_BINS**3)
    for i in range(len(train)):
        part = own_box(train[i][0][0].numpy() - mean, train.boxes[i])
        bins = frequency_bin(part.shape).ravel()
        total += np.bincount(bins, (dctn(part, norm="ortho") ** 2).ravel(), minlength=len(total))
        count += np.bincount(bins, minlength=len(total))
    variance = total / np.maximum(count, 1)
    return np.where(count > 0, variance, variance[count > 0].min())


def per_voxel_bits(scans: VolumeSet, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    half = 1 / (scans.levels - 1)
    bits = []
    for i in range(len(scans)):
        value, mu, sd = (
            torch.from_numpy(own_box(v, scans.boxes[i])) for v in (scans[i][0][0].double().numpy(), mean, std)
        )
        lower = torch.where(value <= -1 + half, -torch.inf, (value - half - mu) / sd)
        upper = torch.where(value >= 1 - half, torch.inf, (value + half - mu) / sd)
        bits.append(-log_gaussian_mass(lower, upper).mean().item() / math.log(2))
    return np.array(bits)


def spectrum_bits(scans: VolumeSet, mean: np.ndarray, variance: np.ndarray, seed: int = 0) -> np.ndarray:
    width, draw = 2 / (scans.levels - 1), np.random.default_rng(seed)
    bits = []
    for i in range(len(scans)):
        part = own_box(scans[i][0][0].double().numpy() - mean, scans.boxes[i])
        coefficients = dctn(part + width * (draw.random(part.shape) - 0.5), norm="ortho")
        expected = variance[frequency_bin(part.shape)]
        nats = 0.5 * (coefficients**2 / expected + np.log(2 * np.pi * expected)) - math.log(width)
        bits.append(nats.mean() / math.log(2))
    return np.array(bits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a run folder of a VolumeDiffusion")
    parser.add_argument("--data", help="where the run's data are now")
    parser.add_argument("--split", default="test", choices=("validation", "test"), help="what to measure on")
    parser.add_argument("--draws", type=int, default=32, help="noise draws per scan of the model's bound")
    options = parser.parse_args()
    model = VolumeDiffusion.from_pretrained(options.run)
    data, _ = open_data(model, options.run, options.data, options.split)
    scans = getattr(data, options.split)
    mean, std = moments(data.train)
    own = validate_model(model, data, options.split, 0, options.draws, seed=0).bits_per_dim.numpy()
    baselines = {
        "Gaussian, independent per voxel": per_voxel_bits(scans, mean, std),
        "Gaussian with the data's spectrum": spectrum_bits(scans, mean, spectrum(data.train, mean)),
    }
    title = f"bits per counted voxel, {len(scans)} {options.split} scans, mean and standard error"
    table = Table("model", "bits", "less the diffusion bound, paired", "scans where the bound is lower", title=title)
    table.add_row(f"diffusion bound, {options.draws} draws", with_error(own), "", "")
    for name, bits in baselines.items():
        table.add_row(name, with_error(bits), with_error(bits - own), f"{(bits > own).sum()} of {len(own)}")
    Console().print(table)


def with_error(values: np.ndarray) -> str:
    return f"{values.mean():.4f} +- {values.std(ddof=1) / math.sqrt(len(values)):.4f}"


if __name__ == "__main__":
    main()
