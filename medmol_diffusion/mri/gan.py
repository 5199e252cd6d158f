"""GAN: a Wasserstein GAN of scans, the baseline without a likelihood."""

import math
from typing import Any, Literal, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.batch import VolumeBatch
from medmol_diffusion.mri.one_shot import OneShot
from medmol_diffusion.training.adversarial import Attempt


class GAN(OneShot):
    r"""A 3-D Wasserstein GAN with a gradient penalty (Gulrajani et al. 2017).

    The critic D minimises $D(g) - D(v) + \lambda (|\nabla D(w)| - 1)^2$, w drawn uniformly between a generated scan g
    and a real one v; the generator minimises -D(g). In training g takes the padding of v, so that sizes tell nothing,
    and what is excluded of v, so that it need not be made. Convolutions alone: 3^3 after
    nearest-neighbour upsampling in the generator, 4^3 of stride 2 in the critic, which has no normalisation, for the
    penalty is one of every scan by itself.

    Args:
        shape: voxels of a scan, any sizes: the generator makes the next multiple of 2^levels and crops.
        intensity_levels: grey levels of the data on [-1, 1].
        latent_size: how many normal numbers a scan is made of.
        channels: of each level of the generator, coarsest first; the critic has the same, the other way round.
        critic_steps: of the critic for one of the generator.
        penalty: lambda.
        spacing: voxel size of the grid in mm.

    Raises:
        InputError: a size, the penalty or the number of steps is out of range.
    """

    without_likelihood = "a GAN has no likelihood: judge its samples by medmol sample and medmol score"

    def __init__(
        self,
        shape: list[int],
        intensity_levels: int = 256,
        latent_size: int = 64,
        channels: list[int] = [64, 64, 32],  # noqa: B006 (a list is what a config can write; it is never changed)
        critic_steps: int = 5,
        penalty: float = 10.0,
        spacing: float = 1.0,
    ) -> None:
        super().__init__(shape, intensity_levels, spacing)
        if not channels or min(*channels, latent_size, critic_steps) < 1 or not 0 <= penalty < math.inf:
            raise InputError(
                f"channels {channels}, latent_size {latent_size} and critic_steps {critic_steps} start at 1, "
                f"penalty {penalty} at 0"
            )
        self.latent_size, self.channels, self.critic_steps, self.penalty = latent_size, channels, critic_steps, penalty
        self.coarse = [-(-size // 2 ** len(channels)) for size in shape]
        layers: list[nn.Module] = [
            nn.Linear(latent_size, channels[0] * math.prod(self.coarse)),
            nn.Unflatten(1, (channels[0], *self.coarse)),
        ]
        for narrow, wide in zip(channels, [*channels[1:], channels[-1]], strict=True):
            layers += [nn.Upsample(scale_factor=2), nn.Conv3d(narrow, wide, 3, padding=1)]
            layers += [nn.GroupNorm(math.gcd(8, wide), wide), nn.LeakyReLU(0.2)]
        self.network = nn.Sequential(*layers, nn.Conv3d(channels[-1], 1, 3, padding=1), nn.Tanh())

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (self.latent_size,)

    def make(self, noise: Tensor) -> Tensor:
        x, y, z = self.grid.shape
        made: Tensor = self.network(noise)[:, :, :x, :y, :z]
        return made

    def critic(self) -> nn.Module:
        layers: list[nn.Module] = []
        for narrow, wide in zip([1, *self.channels[:0:-1]], self.channels[::-1], strict=True):
            layers += [nn.Conv3d(narrow, wide, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(self.channels[0] * math.prod(self.coarse), 1))

    def _judge(self, critic: nn.Module, scans: Tensor) -> Tensor:
        """[B] the critic's answers; sizes are padded to a multiple of 2^levels with background."""
        z, y, x = (-size % 2 ** len(self.channels) for size in reversed(scans.shape[2:]))
        return critic(F.pad(scans, (0, z, 0, y, 0, x), value=-1.0))[:, 0]

    def attempt(self, batch: VolumeBatch, generator: torch.Generator) -> Attempt:
        self.grid.check_shape(batch.data)
        noise = torch.randn(len(batch), self.latent_size, generator=generator, device=batch.data.device)
        return Attempt(torch.where(batch.mask & batch.kept, self.make(noise), batch.data), batch.data, {})

    def critic_loss(self, critic: nn.Module, attempt: Attempt, generator: torch.Generator) -> Tensor:
        made, real = attempt.made, attempt.real
        share = torch.rand(len(real), 1, 1, 1, 1, generator=generator, device=real.device)
        between = (share * real + (1 - share) * made).requires_grad_()
        (slope,) = torch.autograd.grad(self._judge(critic, between).sum(), between, create_graph=True)
        penalty = (slope.flatten(1).norm(dim=1) - 1).square()
        return self._judge(critic, made) - self._judge(critic, real) + self.penalty * penalty

    def adversarial_term(self, critic: nn.Module, attempt: Attempt) -> Tensor:
        return -self._judge(critic, attempt.made)

    def nll(
        self,
        batch: Any,
        method: str = "bound",
        steps: int | None = None,
        draws: int | Literal["exact"] | None = None,
        seed: int = 0,
        conditional: bool = False,
    ) -> NoReturn:
        raise InputError(self.without_likelihood)
