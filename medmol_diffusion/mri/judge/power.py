r"""Power spectra of scans: where a blurred set, or one of too coarse a texture, shows.

With the scan x, less its mean and under a Hann window along each axis, $P(\rho)$ is the mean of $|\hat x(f)|^2$ over
frequencies f of one shell of $\rho = |f| / f_N$, each axis in units of its own Nyquist frequency
(half a cycle a voxel).
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
    data = data - data.mean(dtype=np.float64)
    for axis, size in enumerate(data.shape):
        window = np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2
        data = data * np.expand_dims(window, [other for other in range(3) if other != axis])
    shells, counts = _shells(data.shape)
    power = np.abs(rfftn(data.astype(np.float32))).astype(np.float64) ** 2
    sums = np.bincount(shells.ravel(), power.ravel(), minlength=SHELLS + 1)[:SHELLS]
    mean = np.divide(sums, counts, out=np.full(SHELLS, np.nan), where=counts > 0)
    return 10 * np.log10(mean / data.size + 1e-12)  # the floor of float32: an empty band is no minus infinity


def band_means(spectra: np.ndarray) -> np.ndarray:
    """Decibels (..., SHELLS) averaged over the shells of each of BANDS: (..., len(BANDS))."""
    centre = (np.arange(SHELLS) + 0.5) / SHELLS
    inside = [(centre > low) & (centre <= high) for low, high in BANDS]
    known = np.nan_to_num(spectra)
    there = (~np.isnan(spectra)).astype(np.float64)
    return np.stack([known[..., i].sum(-1) / np.maximum(there[..., i].sum(-1), 1) for i in inside], -1)


@lru_cache(maxsize=4)
def _shells(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The shell of every frequency of rfftn, SHELLS for those without one, and how many frequencies each shell has."""
    axes = [2 * np.fft.fftfreq(size) for size in shape[:-1]] + [2 * np.fft.rfftfreq(shape[-1])]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    rho = np.sqrt(x**2 + y**2 + z**2)
    shells = np.where((rho > 0) & (rho <= 1), np.ceil(rho * SHELLS).astype(np.int64) - 1, SHELLS)
    return shells, np.bincount(shells.ravel(), minlength=SHELLS + 1)[:SHELLS]
