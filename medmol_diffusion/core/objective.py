"""The training objective: draw noise levels, add noise, weigh the error of the output."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from medmol_diffusion.core.denoiser import Denoiser, Prediction
from medmol_diffusion.core.elbo import diffuse
from medmol_diffusion.core.noise import Randomness, stratified_uniforms
from medmol_diffusion.core.schedule import Schedule
from medmol_diffusion.core.space import Space
from medmol_diffusion.core.weighting import Weighting


class Levels(ABC):
    """The distribution of training noise levels, as a map of a uniform u in [0, 1] to gamma."""

    @abstractmethod
    def __call__(self, u: Tensor) -> Tensor:
        """[B] uniforms -> [B] gamma, float64."""


class UniformTime(Levels):
    """gamma(t) of the schedule at t ~ U(0, 1)."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def __call__(self, u: Tensor) -> Tensor:
        return self.schedule.gamma(u)


class NormalGamma(Levels):
    """gamma ~ N(mean, std^2) cut to the schedule's range: the log-normal noise levels of Karras et al. 2022, gamma = 2
    log sigma.

    Args:
        schedule: its end points are the cut.
        mean, std: of gamma; Karras's log sigma ~ N(-1.2, 1.2^2) is mean -2.4, std 2.4.
    """

    def __init__(self, schedule: Schedule, mean: float, std: float) -> None:
        self.schedule, self.mean, self.std = schedule, mean, std

    def __call__(self, u: Tensor) -> Tensor:
        ends = torch.tensor([self.schedule.gamma_0, self.schedule.gamma_1], dtype=torch.float64, device=u.device)
        low, high = torch.special.ndtr((ends - self.mean) / self.std)
        return (self.mean + self.std * torch.special.ndtri(low + (high - low) * u.double())).clamp(*ends.tolist())


def draw(
    denoiser: Denoiser, levels: Levels, space: Space, x: Tensor, generator: Randomness, condition: Any = None
) -> tuple[Prediction, Tensor]:
    """A prediction at one stratified noise level per example, and the eps that was added: (prediction, eps)."""
    gamma = levels(stratified_uniforms(len(x), 1, generator)[0].to(x.device))
    eps = space.noise(x, generator)
    return denoiser(diffuse(x, eps, gamma), gamma, space, condition), eps


def weighted_error(prediction: Prediction, x: Tensor, eps: Tensor, weighting: Weighting) -> Tensor:
    """Weighted squared error per element, of the state's shape: weighting(c) * (target - output)^2, on the space."""
    # Projected before it is squared: what the network says outside the space is never seen again, so it costs nothing.
    error = weighting(prediction.eps_scale()).sqrt() * prediction.error(x, eps)
    return prediction.space.project(error).square()


def denoising_loss(
    denoiser: Denoiser,
    levels: Levels,
    weighting: Weighting,
    space: Space,
    x: Tensor,
    generator: Randomness,
    condition: Any = None,
) -> Tensor:
    """[B] weighted squared error per degree of freedom."""
    prediction, eps = draw(denoiser, levels, space, x, generator, condition)
    return space.sum(weighted_error(prediction, x, eps, weighting)) / space.dim().to(x)
