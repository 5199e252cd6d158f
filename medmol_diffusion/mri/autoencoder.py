"""Autoencoder: a variational autoencoder of scans, with its own bound, as a model and as a first stage."""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medmol_diffusion.core import Elbo, Streams
from medmol_diffusion.core.noise import Randomness, standard_normal
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.batch import VolumeBatch
from medmol_diffusion.mri.fidelity import psnr, ssim
from medmol_diffusion.mri.likelihood import VoxelLikelihood
from medmol_diffusion.mri.one_shot import OneShot
from medmol_diffusion.mri.perceptual import BandAmplitudes
from medmol_diffusion.mri.tiles import in_tiles
from medmol_diffusion.training.adversarial import Attempt

RECONSTRUCTIONS = ("likelihood", "l1")


class Autoencoder(OneShot):
    r"""A KL autoencoder of scans (MONAI's AutoencoderKL network; Kingma & Welling 2014, Rombach et al. 2022).

    q(u | v) = N(mu(v), sigma(v)^2), p(u) = N(0, I), and a declared p(v | u) on the grey levels (VoxelLikelihood), so
    that -log p(v) <= reconstruction + kl with reconstruction = -E_q log p(v | u) and kl = KL(q(u | v) || p(u)) is a
    bound on the same discrete data as that of every other model of scans, in nats, whatever it was trained on. Scans of
    any size are padded to the factor with background and cropped again: a voxel comes out for every one that goes in.

    The loss of a scan, per counted voxel that is not excluded, is

        reconstruction + kl_weight KL + perceptual_weight (amplitudes of wavelet bands) + adversarial_weight (critic).

    With "likelihood" and kl_weight = 1 and nothing else it is the bound itself. With "l1", |v - v_hat|, the scale of
    p(v | u) is fitted beside it and changes nothing else.

    Args:
        shape: voxels of a scan, any sizes.
        intensity_levels: grey levels of the data on [-1, 1].
        channels: of each level of the network, finest first; the factor is 2^(levels - 1).
        blocks: residual blocks of each level.
        latent_channels: channels of u.
        attention: whether the coarsest level attends to itself.
        observation: "logistic" or "gaussian": the density of p(v | u).
        reconstruction: "likelihood" or "l1".
        kl_weight, perceptual_weight, adversarial_weight: of these losses; a weight of zero leaves the loss out.
        adversarial_start: the step at which the discriminator begins (MONAI's PatchDiscriminator, least squares: Mao et
            al. 2017).
        critic_channels, critic_layers: of the discriminator.
        spacing: voxel size of the grid in mm.

    Raises:
        InputError: a weight is negative, an unknown name, or sizes that the network does not take.
    """

    def __init__(
        self,
        shape: list[int],
        intensity_levels: int = 256,
        channels: list[int] = [32, 64, 64],  # noqa: B006 (a list is what a config can write; it is never changed)
        blocks: int = 1,
        latent_channels: int = 4,
        attention: bool = False,
        observation: str = "logistic",
        reconstruction: str = "likelihood",
        kl_weight: float = 1.0,
        perceptual_weight: float = 0.0,
        adversarial_weight: float = 0.0,
        adversarial_start: int = 0,
        critic_channels: int = 32,
        critic_layers: int = 2,
        spacing: float = 1.0,
    ) -> None:
        super().__init__(shape, intensity_levels, spacing)
        if reconstruction not in RECONSTRUCTIONS:
            raise InputError(f"unknown reconstruction '{reconstruction}': choose one of {', '.join(RECONSTRUCTIONS)}")
        weights = {"kl": kl_weight, "perceptual": perceptual_weight, "adversarial": adversarial_weight}
        for name, weight in weights.items():
            if not 0 <= weight < math.inf:
                raise InputError(f"{name}_weight = {weight} must be a number of at least 0")
        if not channels or min(*channels, blocks, latent_channels) < 1:
            raise InputError(f"channels {channels}, blocks {blocks} and latent_channels {latent_channels} start at 1")
        self.weights, self.reconstruction, self.critic_start = weights, reconstruction, adversarial_start
        self.critic_sizes = (critic_channels, critic_layers)
        self.factor, self.latent_channels = 2 ** (len(channels) - 1), latent_channels
        self.likelihood = VoxelLikelihood(observation)
        self.bands = BandAmplitudes() if perceptual_weight else None
        from monai.networks.nets import AutoencoderKL

        self.network: Any = AutoencoderKL(
            spatial_dims=3,
            channels=channels,
            num_res_blocks=[blocks] * len(channels),
            attention_levels=[False] * len(channels),
            latent_channels=latent_channels,
            norm_num_groups=math.gcd(8, *channels),
            with_encoder_nonlocal_attn=attention,
            with_decoder_nonlocal_attn=attention,
        )

    @property
    def vocabulary(self) -> dict[str, Any]:
        return {**super().vocabulary, "latent_channels": self.latent_channels, "factor": self.factor}

    @property
    def noise_shape(self) -> tuple[int, ...]:
        return (self.latent_channels, *self.latent_sizes(self.grid.shape))

    def latent_sizes(self, shape: tuple[int, ...] | torch.Size) -> tuple[int, ...]:
        """Of u, for scans of these voxels: divided by the factor, and rounded up."""
        return tuple(-(-size // self.factor) for size in shape)

    def posterior(self, v: Tensor, tile: int | None = None) -> tuple[Tensor, Tensor]:
        """Scans (B, 1, X, Y, Z) -> (mu, sigma) of q(u | v), (B, C, ceil(X/f), ...) each.

        Args:
            tile: sides of the cubes, in voxels, that a large scan is encoded in; in one piece when None.
        """
        z, y, x = (-size % self.factor for size in reversed(v.shape[2:]))
        padded = F.pad(v, (0, z, 0, y, 0, x), value=-1.0)
        mu, log_sigma = self._tiled(self._encode, padded, tile, 1).chunk(2, 1)
        return mu, log_sigma.exp()

    def _encode(self, v: Tensor) -> Tensor:
        mu, sigma = self.network.encode(v)
        return torch.cat([mu, sigma.log()], 1)

    def decode(self, u: Tensor, shape: tuple[int, ...] | torch.Size, tile: int | None = None) -> Tensor:
        """u (B, C, ...) -> the mean of p(v | u), scans (B, 1, X, Y, Z) of ``shape`` voxels."""
        v = self._tiled(self.network.decode, u, tile, self.factor)
        return v[:, :, : shape[0], : shape[1], : shape[2]]

    def _tiled(self, function: Any, x: Tensor, tile: int | None, voxels: int) -> Tensor:
        """``function`` of x, whose places are so many ``voxels`` wide, in cubes of ``tile`` voxels; of x's type under
        autocast too, for a likelihood has no number for a voxel in bf16."""
        if tile is None:
            return function(x).to(x.dtype)
        latents = -(-tile // self.factor)
        unit = self.factor // voxels
        return in_tiles(function, x, latents * unit, max(1, latents // 4) * unit).to(x.dtype)

    def make(self, noise: Tensor) -> Tensor:
        return self.decode(noise, self.grid.shape)

    def critic(self) -> nn.Module | None:
        if not self.weights["adversarial"]:
            return None
        from monai.networks.nets import PatchDiscriminator

        channels, layers = self.critic_sizes
        # One group: the statistics of a batch would tie its scans together.
        norm = ("GROUP", {"num_groups": 1})
        return PatchDiscriminator(3, channels, in_channels=1, num_layers_d=layers, norm=norm)

    def attempt(self, batch: VolumeBatch, generator: torch.Generator) -> Attempt:
        self.grid.check_shape(batch.data)
        v, counted = batch.data, batch.mask & batch.kept
        count = counted.flatten(1).sum(1).clamp(min=1)
        mu, sigma = self.posterior(v)
        mean = self.decode(mu + sigma * standard_normal(mu, generator), v.shape[2:])

        def per_voxel(values: Tensor) -> Tensor:
            return (values * counted).flatten(1).sum(1) / count

        if self.reconstruction == "l1":
            terms = {
                "reconstruction": per_voxel((v - mean).abs()),
                "scale": per_voxel(self.likelihood(v, mean.detach(), self.grid.levels)),
            }
        else:
            terms = {"reconstruction": per_voxel(self.likelihood(v, mean, self.grid.levels))}
        terms["kl"] = self.weights["kl"] * standard_kl(mu, sigma) / count
        made = torch.where(counted, mean, v)  # what does not count, padding too, looks as it does in the scan
        if self.bands is not None:
            terms["perceptual"] = self.weights["perceptual"] * self.bands(made, v)
        return Attempt(made, v, terms)

    def critic_loss(self, critic: nn.Module, attempt: Attempt, generator: torch.Generator) -> Tensor:
        made, real = _patches(critic, attempt.made, False, True), _patches(critic, attempt.real, True, True)
        return (made + real) / 2

    def adversarial_term(self, critic: nn.Module, attempt: Attempt) -> Tensor:
        return self.weights["adversarial"] * _patches(critic, attempt.made, True, False)

    @torch.no_grad()
    def nll(
        self,
        batch: VolumeBatch,
        method: str = "bound",
        steps: int | None = None,
        draws: int | Literal["exact"] | None = None,
        seed: int = 0,
        conditional: bool = False,
    ) -> Elbo:
        """The bound on -log p of every scan, nats; ``draws`` of u for each. bits_per_dim is bits per counted voxel.

        Raises:
            InputError: another method than the bound, steps, no number of draws, or scans of other sizes.
        """
        if method != "bound" or steps or conditional:
            raise InputError("an autoencoder has the bound of its one draw of u: leave out method, steps and condition")
        count = self.default_draws if draws is None else draws
        if count == "exact" or count < 1:
            raise InputError(f"draws = {draws}: an autoencoder needs a number of draws of u, at least 1")
        self.grid.check_shape(batch.data)
        mu, sigma = self.posterior(batch.data)
        streams, levels = Streams(seed, batch.index), self.grid.levels
        draws_of_u = (mu + sigma * standard_normal(mu, streams) for _ in range(count))
        nats = torch.stack([self.restored_nats(batch, u, levels) for u in draws_of_u])
        return Elbo(
            terms={"kl": standard_kl(mu.double(), sigma.double()), "reconstruction": nats.mean(0)},
            dim=batch.mask.flatten(1).sum(1).double(),
            draw_variance=nats.var(0) / count if count > 1 else nats[0] * torch.nan,
            settings={"draws": float(count), "scale": self.likelihood.log_scale.exp().item()},
        )

    def restored_nats(self, batch: VolumeBatch, u: Tensor, levels: int, tile: int | None = None) -> Tensor:
        """[B] -log p(v | u) over the counted voxels, float64."""
        mean = self.decode(u, batch.data.shape[2:], tile).double()
        return (self.likelihood(batch.data, mean, levels) * batch.mask).flatten(1).sum(1)

    def measures(self, batch: VolumeBatch, seed: int = 0) -> dict[str, Tensor]:
        """PSNR and SSIM of what is restored from the mean of q(u | v)."""
        made = self.restore(batch.data)
        return {"PSNR, dB": psnr(made, batch.data, batch.mask).cpu(), "SSIM": ssim(made, batch.data, batch.mask)}

    @torch.no_grad()
    def restore(self, v: Tensor, tile: int | None = None) -> Tensor:
        """Scans (B, 1, X, Y, Z) through the mean of q(u | v) and back, clipped to [-1, 1]."""
        return self.decode(self.posterior(v, tile)[0], v.shape[2:], tile).clamp(-1, 1)


def standard_kl(mu: Tensor, sigma: Tensor) -> Tensor:
    """[B] KL(N(mu, sigma^2) || N(0, I)) = 1/2 sum (mu^2 + sigma^2 - 1 - log sigma^2)."""
    return 0.5 * (mu.square() + sigma.square() - 1 - 2 * sigma.log()).flatten(1).sum(1)


def draw_posterior(mu: Tensor, sigma: Tensor, randomness: Randomness) -> tuple[Tensor, Tensor]:
    """(u ~ N(mu, sigma^2), [B] log q(u), float64)."""
    eps = standard_normal(mu, randomness)
    log_q = -0.5 * (eps.double().square() + math.log(2 * math.pi)) - sigma.double().log()
    return mu + sigma * eps, log_q.flatten(1).sum(1)


def _patches(critic: nn.Module, scans: Tensor, real: bool, for_critic: bool) -> Tensor:
    """[B] least squares of a patch discriminator's answers from what they should be."""
    from monai.losses import PatchAdversarialLoss

    loss = PatchAdversarialLoss(reduction="none", criterion="least_squares", no_activation_leastsq=True)
    (found,) = loss(critic(scans)[-1], target_is_real=real, for_discriminator=for_critic)
    return found.flatten(1).mean(1)
