"""The noise level as features that a network can read."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class NoiseEmbedding(nn.Module):
    r"""Features of the noise level: an MLP on $(\sin \omega_k \gamma, \cos \omega_k \gamma)$, (B,) -> (B, width).

    The frequencies $\omega_k$ grow geometrically from 0.05 to 5 radians per nat, so that one period spans the whole
    range of gamma = -log SNR (about -15 to 15) and the shortest still tells 0.2 nat apart.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        frequencies = torch.logspace(math.log10(0.05), math.log10(5.0), width // 4, dtype=torch.float64)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.frequencies: Tensor
        self.enter = nn.Linear(2 * (width // 4), width)
        self.leave = nn.Linear(width, width)

    def forward(self, gamma: Tensor) -> Tensor:
        # float64 angles: after `module.half()` gamma would otherwise lose the digits that matter.
        angles = gamma.double()[:, None] * self.frequencies.double()
        features = torch.cat([angles.sin(), angles.cos()], dim=1)
        return self.leave(F.silu(self.enter(features.to(self.enter.weight.dtype))))
