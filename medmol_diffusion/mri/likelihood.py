"""p(v | u) of an autoencoder: independent grey levels round the restored scan, of one learned scale."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medmol_diffusion.core.observation import log_gaussian_mass
from medmol_diffusion.errors import InputError

FAMILIES = ("logistic", "gaussian")
"""Discretised densities. Restored scans miss by little in most places and by much at few edges: tails as heavy as the
logistic's cost fewer bits there."""


class VoxelLikelihood(nn.Module):
    r"""The mass of a density of scale s round the mean, in the bin of each grey level.

    $p(v \mid \mu) = F((v + w/2 - \mu) / s) - F((v - w/2 - \mu) / s)$ with w = 2 / (levels - 1); the first and the last
    bin are open to the outside, so the masses sum to one. F is the logistic function (Salimans et al. 2017, section
    2.1) or that of the standard Gaussian. s is one number for all voxels, learned.

    Args:
        family: "logistic" or "gaussian".

    Raises:
        InputError: another family.
    """

    def __init__(self, family: str = "logistic") -> None:
        super().__init__()
        if family not in FAMILIES:
            raise InputError(f"unknown observation '{family}': choose one of {', '.join(FAMILIES)}")
        self.family = family
        self.log_scale = nn.Parameter(torch.tensor(math.log(0.1)))

    def forward(self, values: Tensor, mean: Tensor, levels: int) -> Tensor:
        """-log p of every voxel, nats, in the shape and precision of ``mean``; ``values`` are bin centres."""
        half, inverse = 1 / (levels - 1), torch.exp(-self.log_scale.to(mean))
        centre = values.to(mean)
        lower, upper = (centre - half - mean) * inverse, (centre + half - mean) * inverse
        if self.family == "logistic":
            below, above = F.logsigmoid(upper), F.logsigmoid(-lower)
            # F(b) - F(a) = F(b) F(-a) (1 - e^(a - b)): no difference of nearly equal numbers.
            inside = below + above + torch.log(-torch.expm1(lower - upper))
        else:
            below, above = torch.special.log_ndtr(upper), torch.special.log_ndtr(-lower)
            inside = log_gaussian_mass(lower, upper)
        edges = torch.where(centre < 0, below, above)
        return -torch.where(centre.abs() >= 1 - half, edges, inside)
