"""MONAI's schedulers and its likelihood beside ours, on data whose every answer is known in closed form.

    python -m tests.benchmarks.monai_oracle [--seed 0]

The data are N(0, 0.3^2) in each of 16^3 voxels of 8 scans, the noise schedule is the beta-linear one of Ho et al. 2020
with 1000 levels, and the network is E[eps | z], exactly. Both sides are given that same network, called as MONAI calls
one: whatever differs is the sampler or the bound. MONAI's clipping of x_hat to [-1, 1] is off.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass

import monai
import torch
from monai.inferers import DiffusionInferer
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler, PNDMScheduler
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from medmol_diffusion.core import (
    STEPPERS,
    Denoiser,
    Dense,
    Elbo,
    GaussianDenoiser,
    LinearGamma,
    Schedule,
    Streams,
    elbo,
)
from medmol_diffusion.core.observation import DiscretizedGaussian
from medmol_diffusion.mri import MonaiDiffusion, MonaiSchedule

STD, SCANS, SIZE, LEVELS = 0.3, 8, 16, 256
SHAPE, VOXELS = (1, SIZE, SIZE, SIZE), SIZE**3
STEPS = (1000, 250, 100, 50, 10)
SCHEDULE = MonaiSchedule("linear_beta", 1000)


class ExactNetwork(nn.Module):
    """E[eps | z] = sigma z / (alpha^2 s^2 + sigma^2) for data N(0, s^2), called as MONAI calls a DiffusionModelUNet.

    Args:
        learned_variance: append as many channels again, the variance of MONAI's ``learned``; zeros, as it is not read.
    """

    in_channels = 1

    def __init__(self, learned_variance: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.learned_variance = learned_variance

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor | None = None) -> Tensor:
        place = timesteps.double() / SCHEDULE.transitions
        sigma2 = SCHEDULE.gamma(place).sigmoid().reshape(-1, 1, 1, 1, 1)
        eps = x * (sigma2.sqrt() / (STD**2 * (1 - sigma2) + sigma2)).to(x)
        return torch.cat([eps, torch.zeros_like(eps)], 1) if self.learned_variance else eps


@dataclass(frozen=True)
class Figure:
    """A mean and its standard error."""

    mean: float
    error: float

    @classmethod
    def of(cls, values: Tensor) -> "Figure":
        return cls(values.mean().item(), values.std().item() / math.sqrt(len(values)))

    def __str__(self) -> str:
        return f"{self.mean:.3f} +- {self.error:.3f}"


def noise(seed: int) -> Tensor:
    return torch.randn(SCANS, *SHAPE, generator=torch.Generator().manual_seed(seed))


def monai_sample(scheduler: nn.Module, steps: int, seed: int) -> Tensor:
    """DiffusionInferer.sample, as MONAI's tutorials call it."""
    scheduler.set_timesteps(steps)
    torch.manual_seed(seed)  # DDPMScheduler.step draws from the global generator
    return DiffusionInferer(scheduler).sample(noise(seed), ExactNetwork(), scheduler, verbose=False)


def deviation(samples: Tensor) -> str:
    """Root mean square of the values."""
    return f"{samples.square().mean().sqrt().item():.3f}"


def sampling(seed: int) -> Table:
    title = f"standard deviation of the samples, {STD} is true"
    table = Table("sampler, grid; timesteps", *(str(steps) for steps in STEPS), title=title)
    # DDPMScheduler.step goes from t to t - 1 whatever set_timesteps was told: with fewer than 1000 timesteps most of
    # the noise is never taken out.
    # DDIMScheduler.step goes to t - 1000 // steps, though set_timesteps laid the grid out by linspace.
    # PNDMScheduler.set_timesteps sets num_inference_steps to the number of calls, which for 1000 steps is above 1000,
    # so that the stride of step_prk and step_plms, 1000 // num_inference_steps, is 0.
    theirs: dict[str, Callable[[], nn.Module]] = {
        "MONAI DDPMScheduler": lambda: DDPMScheduler(1000, clip_sample=False),
        "MONAI DDIMScheduler": lambda: DDIMScheduler(1000, clip_sample=False),
        "MONAI PNDMScheduler": lambda: PNDMScheduler(1000),
    }
    for name, scheduler in theirs.items():
        table.add_row(name, *(deviation(monai_sample(scheduler(), steps, seed)) for steps in STEPS))
    table.add_section()
    model = MonaiDiffusion(ExactNetwork(), SCHEDULE)
    for spacing in ("time", "gamma"):
        for name in STEPPERS:
            drawn = (model.sample(SCANS, SHAPE, steps, name, seed, spacing, batch_size=SCANS) for steps in STEPS)
            table.add_row(f"ours, {name}, {spacing}", *map(deviation, drawn))
        table.add_section()
    return table


def grid_facts(seed: int) -> list[str]:
    """What the schedulers do to the timesteps they were told."""
    scheduler = DDIMScheduler(1000)
    scheduler.set_timesteps(50)
    # DDIMScheduler.step: prev_timestep = timestep - num_train_timesteps // num_inference_steps
    landed = scheduler.timesteps[:-1] - scheduler.num_train_timesteps // scheduler.num_inference_steps
    off = int((landed != scheduler.timesteps[1:]).sum())
    moved = (monai_sample(PNDMScheduler(1000), 1000, seed) - noise(seed)).abs().max().item()
    error = STD / math.sqrt(2 * SCANS * VOXELS)
    return [
        f"standard error of the deviation of {SCANS * VOXELS} exact samples: {error:.4f}",
        f"DDIMScheduler, 50 timesteps: {off} of {len(landed)} steps land off the grid it was told",
        f"PNDMScheduler, defaults, 1000 timesteps: no value moves by more than {moved:.1g} in the whole chain",
    ]


def monai_nll(data: Tensor, variance_type: str, seed: int) -> Tensor:
    """[B] nats per voxel of DiffusionInferer.get_likelihood for 8-bit data on [-1, 1]."""
    scheduler = DDPMScheduler(1000, variance_type=variance_type, clip_sample=False)
    network = ExactNetwork(learned_variance=variance_type == "learned")
    torch.manual_seed(seed)  # get_likelihood draws from the global generator
    inferer = DiffusionInferer(scheduler)
    return inferer.get_likelihood(data, network, scheduler, scaled_input_range=(-1, 1), verbose=False)


def our_bound(
    denoiser: Denoiser, schedule: Schedule, data: Tensor, transitions: int, draws: int | None, seed: int
) -> Elbo:
    x = data.double()
    told = (x, torch.ones_like(x, dtype=torch.bool))
    streams = Streams(seed, torch.arange(SCANS))
    return elbo(denoiser, schedule, Dense(x), x, DiscretizedGaussian(LEVELS), told, streams, transitions, draws)


def likelihood(seed: int) -> Table:
    half = 1 / (LEVELS - 1)
    data = (STD * noise(seed + 1)).clamp(-1, 1).add(1).div(2 * half).round().mul(2 * half).sub(1)
    # The mass of N(0, 0.3^2) in the bin of every value, the outermost bins open: the truth, on these very scans.
    observed, values = DiscretizedGaussian(LEVELS), data.double()
    gamma = torch.full((SCANS,), 2 * math.log(STD), dtype=torch.float64)
    truth = observed.nll((values, torch.ones_like(values)), torch.zeros_like(values), gamma, Dense(values)) / VOXELS

    table = Table(
        "likelihood",
        "nats per voxel",
        "above the truth, scan by scan",
        "holds",
        title=f"-log p of {SCANS} scans of {LEVELS} grey levels on [-1, 1]",
    )

    def row(name: str, nats: Tensor, holds: str) -> None:
        table.add_row(name, str(Figure.of(nats)), str(Figure.of(nats - truth)), holds)

    row("truth", truth, "the mass of every bin")
    table.add_section()
    # get_likelihood takes the variance of the posterior q(z_s | z_t, x) from DDPMScheduler._get_variance, which gives
    # that of the model. With fixed_small it is 1e-20 at t = 0, so that the decoder is a spike beside the data; with
    # fixed_large beta takes the place of the posterior's variance, and the divergence loses what their ratio costs.
    # The prior term is nowhere.
    for variance in ("fixed_small", "fixed_large"):
        row(f"MONAI get_likelihood, {variance}", monai_nll(data, variance, seed).double(), "no prior term")
    try:
        row("MONAI get_likelihood, learned", monai_nll(data, "learned", seed).double(), "no prior term")
    except RuntimeError as error:  # `if predicted_variance` asks a tensor of many values for its truth
        table.add_row("MONAI get_likelihood, learned", "an error", "", str(error).partition("\n")[0])
    table.add_section()
    network = MonaiDiffusion(ExactNetwork(), SCHEDULE).denoiser
    optimal = GaussianDenoiser(torch.full((VOXELS,), STD**2, dtype=torch.float64), optimal_variance=True)
    # The exact sum visits every transition once. The continuous bound depends on the ends of the schedule only; along a
    # straight gamma its draws vary the least.
    straight = LinearGamma(SCHEDULE.gamma_0, SCHEDULE.gamma_1)
    ours: dict[str, tuple[Denoiser, Schedule, int, int | None]] = {
        "ours, the same 999 transitions, fixed variance": (network, SCHEDULE, 999, None),
        "ours, the same, optimal variance": (optimal, SCHEDULE, 999, None),
        "ours, continuous time": (network, straight, 0, 1024),
    }
    for name, (denoiser, schedule, transitions, draws) in ours.items():
        bound = our_bound(denoiser, schedule, data, transitions, draws, seed)
        parts = ", ".join(f"{term} {(v / VOXELS).mean().item():.3g}" for term, v in bound.terms.items())
        row(name, bound.nats_per_dim, parts)
    return table


def half_precision(seed: int) -> list[str]:
    """Scheduler.add_noise casts its own table to the precision of the images, and keeps it so."""
    scheduler = DDPMScheduler(1000)
    before, images = scheduler.alphas_cumprod.clone(), STD * noise(seed)
    timesteps = torch.zeros(SCANS, dtype=torch.long)
    scheduler.add_noise(images.half(), noise(seed).half(), timesteps)
    lines = [
        f"alphas_cumprod: {before.dtype} before, {scheduler.alphas_cumprod.dtype} after one call in half precision"
    ]
    scheduler.add_noise(images, noise(seed), timesteps)
    after = scheduler.alphas_cumprod
    silent = int((after == 1).sum())
    wrong = ((1 - after) / (1 - before) - 1).abs().max().item()
    return [
        *lines,
        f"the next call in float32 has a table of {after.dtype} again with the values of half precision: "
        f"{silent} of its levels add no noise at all, and 1 - alphas_cumprod is wrong by up to {wrong:.0%}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    console = Console(width=160)
    console.print(
        f"MONAI {monai.__version__}, torch {torch.__version__}; {SCANS} scans of {SIZE}^3 voxels, seed {seed}"
    )
    with torch.no_grad():
        console.print(sampling(seed))
        for line in grid_facts(seed):
            console.print(line)
        console.print(likelihood(seed))
        for line in half_precision(seed):
            console.print(line)


if __name__ == "__main__":
    main()
