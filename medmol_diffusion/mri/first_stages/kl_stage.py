"""The autoencoder as a first stage: diffusion of its latents, with a bound in voxel space."""

from collections.abc import Iterable, Mapping
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from medmol_diffusion.core import Dense, Parameterization, Space, Streams, V
from medmol_diffusion.core.noise import Randomness
from medmol_diffusion.core.observation import Gaussian
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.autoencoder import Autoencoder, draw_posterior, standard_kl
from medmol_diffusion.mri.batch import VolumeBatch
from medmol_diffusion.mri.first_stages.first_stage import FirstStage, Seen
from medmol_diffusion.training.folder import find_model
from medmol_diffusion.training.saved import named_class, read_model_config


class KLStage(FirstStage):
    r"""States x = (u - m) / s of a trained autoencoder's latents u ~ q(u | v), frozen.

    With m and s the mean and the standard deviation of each channel of u over the training scans (the latent scale,
    stored with the weights), the bound in voxel space is term by term (Vahdat et al. 2021, eq. 5)

    $-\log p(v) \le -E \log p(v \mid u) - H[q(u \mid v)] + E[\text{bound on} -\log p_x(x)] + N \sum_c \log s_c$:

    first_stage_reconstruction, latent_entropy (subtracted), the core's prior, diffusion and reconstruction, the last of
    which is the density N(x; x_hat(z_0), e^gamma_0), and log_volume = -N sum log s (subtracted), N places a channel.
    Each is read off the same one draw of u, the entropy as -log q(u | v): where q is the true posterior, what one draw
    adds to a term another takes away. A network that outputs zero is the exact denoiser of x ~ N(0, I), so before
    training the bound is that of the baseline, and what diffusion gains is what the latents are not independent
    Gaussians.

    The autoencoder's weights are buffers of this stage: not trained, decayed or averaged, but saved with the model,
    which needs the autoencoder's folder for training only. ``medmol fit`` writes its architecture into the run's
    config.yaml.

    Args:
        path: a run folder, an exported folder or a shipped name of an Autoencoder.
        autoencoder: one itself, trained; or, beside a path, its architecture, into which the weights come from the
            path when training begins, or else with those of the whole model.
        tile: sides of the cubes, in voxels, in which large scans are encoded and decoded; in one piece when None.

    Raises:
        InputError: neither, no autoencoder at the path, or tiles narrower than two of its factors.
    """

    baseline_name = "autoencoder with independent Gaussian latents"
    shift: Tensor
    scale: Tensor

    def __init__(
        self, path: str | None = None, autoencoder: Autoencoder | None = None, tile: int | None = None
    ) -> None:
        super().__init__()
        if autoencoder is None:
            if path is None:
                raise InputError("KLStage needs the path of a trained autoencoder")
            self.path, autoencoder = None, Autoencoder.from_pretrained(path)
        else:
            self.path = path
        self.factor, channels = autoencoder.factor, autoencoder.latent_channels
        if tile is not None and tile < 2 * self.factor:
            raise InputError(f"tile = {tile} must be at least two factors of the autoencoder, {2 * self.factor} voxels")
        self.channels_in = self.channels_out = channels
        self.tile = tile
        self.autoencoder = frozen(autoencoder)
        self.register_buffer("shift", torch.zeros(channels, 1, 1, 1))
        self.register_buffer("scale", torch.ones(channels, 1, 1, 1))

    @staticmethod
    def settle(arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What a run's config.yaml has to say beside a path: the autoencoder's architecture."""
        path = arguments.get("path")
        if path is None or arguments.get("autoencoder") is not None:
            return {}
        config = read_model_config(find_model(path))
        kind = named_class(str(config["class_path"]))
        if kind is None or not issubclass(kind, Autoencoder):
            raise InputError(f"first_stage.path {path} is a {config['class_path']}, no Autoencoder")
        return {"autoencoder": config}

    def train(self, mode: bool = True) -> Self:
        """The autoencoder stays as it is."""
        super().train(mode)
        self.autoencoder.eval()
        return self

    @torch.no_grad()
    def fit(self, scans: Iterable[tuple[VolumeBatch, Tensor]]) -> None:
        if self.path is not None:
            trained = Autoencoder.from_pretrained(self.path)
            try:
                self.autoencoder.load_state_dict(trained.state_dict())
            except RuntimeError as error:
                raise InputError(
                    f"{self.path} is another autoencoder than first_stage.autoencoder describes: leave that out"
                ) from error
        count, total, squares = 0, torch.zeros(()), torch.zeros(())
        for batch, _ in scans:
            mu, sigma = self._posterior(batch)
            mu, sigma = mu[0].flatten(1).double().cpu(), sigma[0].flatten(1).double().cpu()
            count += mu.shape[1]
            total = total + mu.sum(1)
            squares = squares + (mu.square() + sigma.square()).sum(1)  # of u ~ q: E u^2 = mu^2 + sigma^2
        mean = total / count
        self.shift.copy_(mean.view_as(self.shift))
        self.scale.copy_((squares / count - mean.square()).clamp(min=1e-12).sqrt().view_as(self.scale))

    def _posterior(self, batch: VolumeBatch) -> tuple[Tensor, Tensor]:
        return self.autoencoder.posterior(batch.data.to(self.shift), self.tile)

    def space(self, mask: Tensor) -> Dense:
        sizes = self.autoencoder.latent_sizes(mask.shape[2:])
        return Dense(torch.empty(len(mask), self.channels_in, *sizes, device=mask.device))

    @torch.no_grad()
    def encode(self, batch: VolumeBatch, guess: Tensor, randomness: Randomness) -> tuple[Dense, Tensor]:
        u, _ = draw_posterior(*self._posterior(batch), randomness)
        x = (u - self.shift) / self.scale
        return Dense(x), x

    def decode(self, x: Tensor, space: Space, guess: Tensor) -> Tensor:
        """The mean of p(v | u); the guess is not used."""
        return self.autoencoder.decode(x * self.scale + self.shift, guess.shape[2:], self.tile)

    def parameterization(self) -> Parameterization:
        return V()

    def features(self, z: Tensor, space: Space) -> Tensor:
        return z

    def output(self, answer: Tensor, features: Tensor, space: Space) -> Tensor:
        return answer

    @torch.no_grad()
    def observed(self, batch: VolumeBatch, guess: Tensor, levels: int, randomness: Randomness) -> Seen:
        u, log_q = draw_posterior(*self._posterior(batch), randomness)
        x = (u - self.shift) / self.scale
        terms = {
            "first_stage_reconstruction": self.autoencoder.restored_nats(batch, u, levels, self.tile),
            "latent_entropy": -log_q,
            "log_volume": self._log_volume(u).expand(len(u)),
        }
        return Seen(Dense(x), x, Gaussian(), x, terms)

    def _log_volume(self, u: Tensor) -> Tensor:
        """log |dx / du| of one state."""
        return -self.scale.double().log().sum() * u[0, 0].numel()

    @torch.no_grad()
    def baseline(self, batch: VolumeBatch, guess: Tensor, levels: int) -> Tensor:
        """[B] nats of the bound with u ~ N(m, s^2), independent; one draw of u, always the same of a scan."""
        mu, sigma = self._posterior(batch)
        u, _ = draw_posterior(mu, sigma, Streams(0, batch.index))
        kl = standard_kl((mu - self.shift).double() / self.scale, sigma.double() / self.scale)
        return self.autoencoder.restored_nats(batch, u, levels, self.tile) + kl

    def known(self, voxels: Tensor) -> Tensor:
        """A latent is known where its block of voxels and the blocks round it are."""
        z, y, x = (-size % self.factor for size in reversed(voxels.shape[2:]))
        hidden = F.max_pool3d(F.pad((~voxels).float(), (0, z, 0, y, 0, x)), self.factor)
        hidden = F.max_pool3d(hidden, 3, stride=1, padding=1)
        return (hidden == 0).expand(-1, self.channels_in, -1, -1, -1)


def frozen(module: Autoencoder) -> Autoencoder:
    """The module with its parameters turned into buffers."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, parameter.detach())
    return module.eval()
