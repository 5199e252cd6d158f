"""The training objective: draw noise levels, add noise, weigh the error of the output."""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from medmol_diffusion.core.denoiser import Denoiser, Prediction
from medmol_diffusion.core.elbo import diffuse
from medmol_diffusion.core.learned_schedule import LearnedSchedule, variance_loss
from medmol_diffusion.core.noise import Randomness, stratified_uniforms
from medmol_diffusion.core.schedule import Schedule
from medmol_diffusion.core.space import Space
from medmol_diffusion.core.weighting import Weighting


class Levels(ABC):
    """The distribution of training noise levels, as a map of a uniform u in [0, 1] to gamma."""

    schedule: Schedule

    @abstractmethod
    def __call__(self, u: Tensor) -> Tensor:
        """[B] uniforms -> [B] gamma, float64."""

    @abstractmethod
    def log_density(self, gamma: Tensor) -> Tensor:
        """[B] log q(gamma) of what is drawn, float64."""


class UniformTime(Levels):
    """gamma(t) of the schedule at t ~ U(0, 1)."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def __call__(self, u: Tensor) -> Tensor:
        return self.schedule.gamma(u)

    def log_density(self, gamma: Tensor) -> Tensor:
        return self.schedule.log_density(gamma)


class NormalGamma(Levels):
    """gamma ~ N(mean, std^2) cut to the schedule's range: the log-normal noise levels of Karras et al. 2022, gamma = 2
    log sigma.

    Args:
        schedule: its end points are the cut.
        mean, std: of gamma; Karras's log sigma ~ N(-1.2, 1.2^2) is mean -2.4, std 2.4.
    """

    def __init__(self, schedule: Schedule, mean: float, std: float) -> None:
        self.schedule, self.mean, self.std = schedule, mean, std

    def _cut(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The end points, and the normal distribution function at each."""
        ends = torch.tensor([self.schedule.gamma_0, self.schedule.gamma_1], dtype=torch.float64, device=like.device)
        low, high = torch.special.ndtr((ends - self.mean) / self.std)
        return ends, low, high

    def __call__(self, u: Tensor) -> Tensor:
        ends, low, high = self._cut(u)
        return (self.mean + self.std * torch.special.ndtri(low + (high - low) * u.double())).clamp(*ends.tolist())

    def log_density(self, gamma: Tensor) -> Tensor:
        _, low, high = self._cut(gamma)
        normal = -0.5 * ((gamma.double() - self.mean) / self.std).square() - math.log(self.std * math.sqrt(2 * math.pi))
        return normal - torch.log(high - low)


def draw(
    denoiser: Denoiser, levels: Levels, space: Space, x: Tensor, generator: Randomness, condition: Any = None
) -> tuple[Prediction, Tensor]:
    """A prediction at one stratified noise level per example, and the eps that was added: (prediction, eps)."""
    # A learned schedule moves by schedule_loss alone, never to where the network's error happens to be small.
    gamma = levels(stratified_uniforms(len(x), 1, generator)[0].to(x.device)).detach()
    eps = space.noise(x, generator)
    return denoiser(diffuse(x, eps, gamma), gamma, space, condition), eps


def weighted_error(prediction: Prediction, x: Tensor, eps: Tensor, weighting: Weighting) -> Tensor:
    """Weighted squared error per element, of the state's shape: weighting(c) * (target - output)^2, on the space."""
    # Projected before it is squared: what the network says outside the space is never seen again, so it costs nothing.
    error = weighting(prediction.eps_scale()).sqrt() * prediction.error(x, eps)
    return prediction.space.project(error).square()


def schedule_loss(levels: Levels, prediction: Prediction, x: Tensor, eps: Tensor) -> Tensor:
    """[B] zeros, whose gradient lowers the variance of the bound where the schedule is learned; plain zeros elsewhere.

    The gradient is that of log E[variance_loss] over the batch: without unit, so that one learning rate serves every
    number of dimensions. It reaches the schedule's parameters only, and the value leaves the training loss as it was.
    """
    schedule, space = levels.schedule, prediction.space
    if not isinstance(schedule, LearnedSchedule):
        return prediction.z.new_zeros(len(prediction.z))
    with torch.no_grad():
        error = space.squared_norm(prediction.eps_error(x, eps))
        log_q = levels.log_density(prediction.gamma)
    second = variance_loss(schedule, prediction.gamma, error, log_q)
    relative = second / second.detach().mean().clamp(min=torch.finfo(torch.float64).tiny)
    return (relative - relative.detach()).to(prediction.z)


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
    loss = space.sum(weighted_error(prediction, x, eps, weighting)) / space.dim().to(x)
    return loss + schedule_loss(levels, prediction, x, eps)
