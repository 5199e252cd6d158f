"""How close restored scans are to the scans they were made of, inside the mask."""

import math

import torch
from torch import Tensor

from medmol_diffusion.mri.ssim import max_scales, ms_ssim

RANGE = 2.0
"""Of intensities, which lie in [-1, 1]."""


def psnr(made: Tensor, real: Tensor, mask: Tensor) -> Tensor:
    """[B] peak signal-to-noise ratio 10 log10(4 / MSE) over the masked voxels of (B, 1, X, Y, Z), in dB; infinite where
    nothing differs."""
    squares = ((made - real).double().square() * mask).flatten(1).sum(1) / mask.flatten(1).sum(1)
    return 10 * torch.log10(RANGE**2 / squares)


def ssim(made: Tensor, real: Tensor, mask: Tensor) -> Tensor:
    """[B] structural similarity (mri.ssim at one scale) in the box that the mask fills; NaN where it is below 7 voxels
    wide."""
    found = []
    for one, other, counted in zip(made[:, 0], real[:, 0], mask[:, 0], strict=True):
        places = counted.nonzero()
        box = tuple(slice(a, b + 1) for a, b in zip(places.amin(0).tolist(), places.amax(0).tolist(), strict=True))
        a, b = one[box][None], other[box][None]
        found.append(ms_ssim(a.cpu(), b.cpu(), 1, RANGE).item() if max_scales(a.shape[1:], 1) else math.nan)
    return torch.tensor(found, dtype=torch.float64)
