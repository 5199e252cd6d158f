"""The first stage that does nothing: diffusion of the voxels themselves."""

import math
from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor

from medmol_diffusion.core import Masked, Parameterization, Preconditioned, Space
from medmol_diffusion.core.noise import Randomness
from medmol_diffusion.core.observation import DiscretizedGaussian
from medmol_diffusion.mri.batch import VolumeBatch
from medmol_diffusion.mri.first_stages.first_stage import FirstStage, Seen


class VoxelSpace(Masked):
    """Counted voxels: states [B, X, Y, Z, 1], zero where the mask bool [B, 1, X, Y, Z] is false."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask[:, 0], 1)

    def localise(self, v: Tensor) -> Tensor:
        return v.movedim(-1, 1)

    def delocalise(self, v: Tensor) -> Tensor:
        return v.movedim(1, -1)


class IdentityStage(FirstStage):
    """The state is the scan's difference from the guess, voxel by voxel: exact, and as large as the scan.

    The network's output is read as the residual of the best linear denoiser of independent voxels of one variance
    (Karras et al. 2022, eq. 7), measured on the training scans.
    """

    factor = 1
    channels_in = channels_out = 1
    baseline_name = "independent Gaussian voxels round the training scans' mean"
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("std", torch.ones(()))

    def fit(self, scans: Iterable[tuple[VolumeBatch, Tensor]]) -> None:
        squares, count = 0.0, 0
        for batch, guess in scans:
            _, x = self._state(batch, guess)
            squares, count = squares + x.double().square().sum().item(), count + int(batch.mask.sum())
        self.std.fill_(max(math.sqrt(squares / max(1, count)), 1e-3))

    def space(self, mask: Tensor) -> VoxelSpace:
        return VoxelSpace(mask)

    def encode(self, batch: VolumeBatch, guess: Tensor, randomness: Randomness) -> tuple[VoxelSpace, Tensor]:
        return self._state(batch, guess)

    def _state(self, batch: VolumeBatch, guess: Tensor) -> tuple[VoxelSpace, Tensor]:
        space = VoxelSpace(batch.mask)
        return space, space.project(space.delocalise(batch.data.to(guess) - guess))

    def decode(self, x: Tensor, space: Space, guess: Tensor) -> Tensor:
        """The guess itself outside what is counted."""
        return space.localise(x) + guess

    def parameterization(self) -> Parameterization:
        return Preconditioned(self.std)

    def features(self, z: Tensor, space: Space) -> Tensor:
        return space.localise(z)

    def output(self, answer: Tensor, features: Tensor, space: Space) -> Tensor:
        return space.project(space.delocalise(answer))

    def observed(self, batch: VolumeBatch, guess: Tensor, levels: int, randomness: Randomness) -> Seen:
        space, x = self._state(batch, guess)
        observation = DiscretizedGaussian(levels, partial(self.decode, space=space, guess=guess))
        return Seen(space, x, observation, (batch.data, batch.mask), {"log_volume": torch.zeros_like(space.dim())})

    def baseline(self, batch: VolumeBatch, guess: Tensor, levels: int) -> Tensor:
        r"""[B] nats of voxels N(guess, std^2), spread evenly over their bins of width w:
        $\sum \tfrac12 [(x^2 + w^2/12) / \lambda + \log 2 \pi \lambda] - \log w$, $\lambda = s^2 + w^2/12$."""
        space, x = self._state(batch, guess)
        width = 2 / (levels - 1)
        variance = self.std.double().square() + width**2 / 12
        squares = x.double().square() + width**2 / 12
        return space.sum(0.5 * (squares / variance + (2 * math.pi * variance).log()) - math.log(width))
