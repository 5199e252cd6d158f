"""The healthy scans that a score is measured against."""

import torch
from torch import Tensor

from medmol_diffusion.errors import InputError


def mean_and_std(figures: Tensor) -> tuple[Tensor, Tensor]:
    """[K] mean and standard deviation (n - 1) over n healthy scans of K figures, [n, K]; float64.

    A figure that hardly differs between them has a standard deviation of 1e-6 of its size at least: rounding is no
    spread.

    Raises:
        InputError: fewer than two scans.
    """
    if len(figures) < 2:
        raise InputError(f"the spread of healthy scores needs at least 2 healthy scans, not {len(figures)}")
    std, mean = torch.std_mean(figures.double(), 0)
    return mean, std.clamp(min=1e-12).maximum(1e-6 * mean.abs())
