"""MONAI's diffusion models of scans, trained against the clock as MONAI's tutorials train them.

`Latent` is the tutorial 3d_ldm: an AutoencoderKL (L1, 1e-6 KL, and 0.01 of a PatchDiscriminator after half its time),
then a DiffusionModelUNet on its latents times 1 / std. `Voxels` is 3d_ddpm: a DiffusionModelUNet on the scans. Both
predict eps with 1000 levels of the scaled linear schedule, with the tutorials' betas. x_hat is clipped to [-1, 1] where
it is a scan; latents are not clipped, which would spoil them.

What differs from the tutorials gives them more for their time: small networks of few channels; the learning rate, its
warm-up, the clipping of gradients and the averaged weights of our own recipe. The perceptual loss is left out: it needs
a pretrained network that MONAI downloads.
"""

import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from monai.inferers import DiffusionInferer, LatentDiffusionInferer
from monai.losses import PatchAdversarialLoss
from monai.networks.nets import AutoencoderKL, DiffusionModelUNet, PatchDiscriminator
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from medmol_diffusion.mri.volume_module import VolumeModule

TIMESTEPS = 1000
WARMUP = 100
SAVE_EVERY = 60.0
"""Seconds of training between checkpoints."""
KL_WEIGHT, ADVERSARIAL_WEIGHT = 1e-6, 0.01
LATENT_CHANNELS, FACTOR = 8, 4
SCHEDULERS = {"ddpm": DDPMScheduler, "ddim": DDIMScheduler}


class Stage(nn.Module, ABC):
    """A network in training, and the average of its weights, which is what counts in the end.

    Args:
        network: to be trained.
        rate: of Adam, reached after WARMUP steps.
        decay: of the average, with the warm-up of training.ema.EMA.
        seed: of noise and timesteps.
    """

    def __init__(self, network: nn.Module, rate: float, decay: float, seed: int) -> None:
        super().__init__()

        @torch.no_grad()
        def average(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
            d = min(decay, (1 + int(count)) / (10 + int(count)))
            torch._foreach_lerp_(averaged, current, 1 - d)

        self.network, self.average = network, AveragedModel(network, multi_avg_fn=average)
        self.rate = rate
        self.optimizers = [torch.optim.Adam(network.parameters(), rate)]
        self.generator = torch.Generator().manual_seed(seed)
        self.seconds, self.steps, self.epoch = 0.0, 0, 0

    @property
    def trained(self) -> Any:
        return self.average.module.eval()

    @abstractmethod
    def loss(self, scans: Tensor) -> Tensor: ...

    def step(self, scans: Tensor, progress: float) -> None:
        """One step on scans [B, 1, X, Y, Z]; ``progress`` is the share of the time that is spent."""
        self.descend(self.optimizers[0], self.network, self.loss(scans))

    def descend(self, optimizer: torch.optim.Optimizer, network: nn.Module, loss: Tensor) -> None:
        for group in optimizer.param_groups:
            group["lr"] = self.rate * min(1.0, (self.steps + 1) / WARMUP)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    def normal(self, shape: tuple[int, ...] | torch.Size, like: Tensor) -> Tensor:
        return torch.randn(shape, generator=self.generator).to(like)

    def save(self, file: Path) -> None:
        """All at once: a run that is killed while writing keeps the checkpoint before."""
        state = {"modules": self.state_dict(), "optimizers": [one.state_dict() for one in self.optimizers]}
        state |= {"generator": self.generator.get_state(), "seconds": self.seconds}
        state |= {"steps": self.steps, "epoch": self.epoch}
        torch.save(state, file.with_suffix(".part"))
        file.with_suffix(".part").replace(file)

    def restore(self, file: Path, device: str) -> None:
        state = torch.load(file, map_location=device, weights_only=True)
        self.load_state_dict(state["modules"])
        for one, kept in zip(self.optimizers, state["optimizers"], strict=True):
            one.load_state_dict(kept)
        self.generator.set_state(state["generator"].cpu())
        self.seconds, self.steps, self.epoch = state["seconds"], state["steps"], state["epoch"]


def train(stage: Stage, data: VolumeModule, seconds: float, file: Path, device: str) -> None:
    """Until so many seconds of training steps are spent: of the processor, or on a GPU of the clock on the wall. What
    the file has is gone on from."""
    if file.is_file():
        stage.restore(file, device)
    stage.train()
    clock = time.process_time if device == "cpu" else time.perf_counter
    saved, loader = stage.seconds, data.train_dataloader()
    loader.load_state_dict({"epoch": stage.epoch, "served": 0})  # which counts on by itself
    while stage.seconds < seconds:
        stage.epoch += 1
        for batch in loader:
            scans = batch.data.to(device)
            began = clock()
            stage.step(scans, stage.seconds / seconds)
            if device != "cpu":
                torch.cuda.synchronize()
            stage.seconds += clock() - began
            stage.steps += 1
            stage.average.update_parameters(stage.network)
            if stage.seconds - saved > SAVE_EVERY:
                stage.save(file)
                saved = stage.seconds
            if stage.seconds >= seconds:
                break
    stage.save(file)


class Autoencoding(Stage):
    """The first stage of `Latent`."""

    def __init__(self, rate: float, decay: float, seed: int) -> None:
        channels = [32, 64, 64]
        network = AutoencoderKL(
            spatial_dims=3,
            channels=channels,
            num_res_blocks=[1] * len(channels),
            attention_levels=[False] * len(channels),
            latent_channels=LATENT_CHANNELS,
            norm_num_groups=16,
            with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
        )
        super().__init__(network, rate, decay, seed)
        # One group: the statistics of small batches are no use to a critic.
        norm = ("GROUP", {"num_groups": 1})
        self.critic = PatchDiscriminator(3, 32, in_channels=1, num_layers_d=2, norm=norm)
        self.optimizers.append(torch.optim.Adam(self.critic.parameters(), rate))
        self.adversarial = PatchAdversarialLoss(criterion="least_squares", no_activation_leastsq=True)

    def loss(self, scans: Tensor) -> Tensor:
        return self._made(scans)[1]

    def _made(self, scans: Tensor) -> tuple[Tensor, Tensor]:
        mu, sigma = self.network.encode(scans)
        made = self.network.decode(mu + sigma * self.normal(mu.shape, mu))
        kl = 0.5 * (mu.square() + sigma.square() - 2 * sigma.log() - 1).flatten(1).sum(1).mean()
        return made, (made - scans).abs().mean() + KL_WEIGHT * kl

    def step(self, scans: Tensor, progress: float) -> None:
        made, loss = self._made(scans)
        critical = progress > 0.5
        if critical:
            answer = self.critic(made)[-1]
            loss = loss + ADVERSARIAL_WEIGHT * self.adversarial(answer, target_is_real=True, for_discriminator=False)
        self.descend(self.optimizers[0], self.network, loss)
        if critical:
            wrong, right = self.critic(made.detach())[-1], self.critic(scans)[-1]
            apart = self.adversarial(wrong, target_is_real=False, for_discriminator=True)
            apart = (apart + self.adversarial(right, target_is_real=True, for_discriminator=True)) / 2
            self.descend(self.optimizers[1], self.critic, apart)


class Peer(Stage):
    """A model of scans that MONAI's inferers train and sample."""

    betas: tuple[float, float]
    clips: bool

    def __init__(self, channels: list[int], places: int, rate: float, decay: float, seed: int) -> None:
        network = DiffusionModelUNet(
            spatial_dims=3,
            in_channels=places,
            out_channels=places,
            channels=channels,
            attention_levels=[False] * len(channels),
            num_res_blocks=1,
            norm_num_groups=32,
            num_head_channels=32,
        )
        super().__init__(network, rate, decay, seed)

    def scheduler(self, name: str, steps: int = TIMESTEPS) -> Any:
        first, last = self.betas
        options: dict[str, Any] = {"schedule": "scaled_linear_beta", "beta_start": first, "beta_end": last}
        found = SCHEDULERS[name](num_train_timesteps=TIMESTEPS, clip_sample=self.clips, **options)
        found.set_timesteps(steps)
        return found

    @abstractmethod
    def predicted(self, scans: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """(what the network says, the noise that was added)."""

    @abstractmethod
    def draw(self, count: int, scheduler: Any) -> Tensor:
        """[count, 1, X, Y, Z] by the inferer, with torch's own random numbers."""

    def loss(self, scans: Tensor) -> Tensor:
        timesteps = torch.randint(TIMESTEPS, (len(scans),), generator=self.generator).to(scans.device)
        return F.mse_loss(*self.predicted(scans, timesteps))

    def sample(self, count: int, sampler: str, steps: int, seed: int) -> Tensor:
        """Scans [count, X, Y, Z] in [-1, 1]."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.draw(count, self.scheduler(sampler, steps))[:, 0].clamp(-1, 1).cpu()


class Latent(Peer):
    """MONAI's latent diffusion.

    Args:
        autoencoder: trained.
        scans: [B, 1, X, Y, Z] of the first training batch, sizes multiples of 8. The std of their latents makes the
            scale factor, as in the tutorial.
    """

    betas, clips = (0.0015, 0.0195), False
    scale: Tensor

    def __init__(self, autoencoder: nn.Module, scans: Tensor, rate: float, decay: float, seed: int) -> None:
        super().__init__([64, 96], LATENT_CHANNELS, rate, decay, seed)
        self.autoencoder = autoencoder.requires_grad_(False)
        with torch.no_grad():
            self.register_buffer("scale", 1 / autoencoder.encode_stage_2_inputs(scans).std())
        self.places = (LATENT_CHANNELS, *(size // FACTOR for size in scans.shape[2:]))
        self.inferer = LatentDiffusionInferer(self.scheduler("ddpm"), self.scale)

    def predicted(self, scans: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        noise = self.normal((len(scans), *self.places), scans)
        return self.inferer(scans, self.autoencoder.eval(), self.network, noise, timesteps), noise

    def draw(self, count: int, scheduler: Any) -> Tensor:
        noise = torch.randn(count, *self.places).to(self.scale.device)
        return self.inferer.sample(noise, self.autoencoder.eval(), self.trained, scheduler, verbose=False)


class Voxels(Peer):
    """MONAI's diffusion of the scans themselves."""

    betas, clips = (0.0005, 0.0195), True

    def __init__(self, shape: list[int], rate: float, decay: float, seed: int) -> None:
        super().__init__([32, 64, 96], 1, rate, decay, seed)
        self.shape = shape
        self.inferer = DiffusionInferer(self.scheduler("ddpm"))

    def predicted(self, scans: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        noise = self.normal(scans.shape, scans)
        return self.inferer(scans, self.network, noise, timesteps), noise

    def draw(self, count: int, scheduler: Any) -> Tensor:
        noise = torch.randn(count, 1, *self.shape).to(next(self.network.parameters()).device)
        return self.inferer.sample(noise, self.trained, scheduler, verbose=False)
