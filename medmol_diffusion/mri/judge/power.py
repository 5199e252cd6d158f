r"""Power spectra of scans: where a blurred set, or one of too coarse a texture, shows.

With the scan x under a Hann window along each axis, less its mean there, $P(\rho)$ is the mean of $|\hat x(f)|^2$ over
frequencies f of one shell of $\rho = |f| / f_N$, each axis in units of its own Nyquist frequency (half a cycle a
voxel).
Sets are compared by the mean of $10 \log_{10} P$ over scans, in decibels: -3 dB is half the power, -20 dB a hundredth.
"""

from functools import lru_cache

import numpy as np
from scipy.fft import rfftn

BANDS = ((0.0, 0.125), (0.125, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))
"""Shells of rho, open below and closed above; the corners beyond 1 are left out."""
SHELLS = 32
"""Equal shells of the curve that is drawn."""


def power_spectrum(data: np.ndarray) -> np.ndarray:
    """(SHELLS,) decibels of the mean power in each of the equal shells of rho up to 1; NaN in an empty one."""
    hann = [np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2 for size in data.shape]
    window = np.einsum("x,y,z->xyz", *hann)
    data = (data - (window * data).sum() / window.sum()) * window
    shells, times, counts = _shells(data.shape)
    power = np.abs(rfftn(data.astype(np.float32))).astype(np.float64) ** 2 * times
    sums = np.bincount(shells.ravel(), power.ravel(), minlength=SHELLS + 1)[:SHELLS]
    mean = np.divide(sums, counts, out=np.full(SHELLS, np.nan), where=counts > 0)
    return 10 * np.log10(mean / data.size + 1e-12)  # the floor of float32: an empty band is no minus infinity


def band_means(spectra: np.ndarray) -> np.ndarray:
    """Decibels (..., SHELLS) averaged over the shells of each of BANDS: (..., len(BANDS)), NaN for one without any."""
    centre = (np.arange(SHELLS) + 0.5) / SHELLS
    bands = [spectra[..., (centre > low) & (centre <= high)] for low, high in BANDS]
    sums, counts = [np.stack([of(band).sum(-1) for band in bands], -1) for of in (np.nan_to_num, np.isfinite)]
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


@lru_cache(maxsize=4)
def _shells(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of every frequency of rfftn: its shell (SHELLS where it has none) and how many of fftn it stands for. And how
    many of fftn each shell has."""
    axes = [2 * np.fft.fftfreq(size) for size in shape[:-1]] + [2 * np.fft.rfftfreq(shape[-1])]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    rho = np.sqrt(x**2 + y**2 + z**2)
    shells = np.where((rho > 0) & (rho <= 1), np.ceil(rho * SHELLS).astype(np.int64) - 1, SHELLS)
    last = np.arange(z.size)
    times = np.where((last == 0) | (2 * last == shape[-1]), 1.0, 2.0)  # but for these, its conjugate has been left out
    counts = np.bincount(shells.ravel(), np.broadcast_to(times, shells.shape).ravel(), minlength=SHELLS + 1)
    return shells, times, counts[:SHELLS]
