"""The training objective: draw noise levels, add noise, weigh the error of the output."""

import math
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from medmol_diffusion.core.denoiser import Denoiser, Prediction, check_zero_snr
from medmol_diffusion.core.elbo import diffuse, transition_kl
from medmol_diffusion.core.learned_schedule import LearnedSchedule, variance_loss
from medmol_diffusion.core.noise import Randomness, Streams, stratified_uniforms
from medmol_diffusion.core.schedule import Schedule
from medmol_diffusion.core.shapes import PerExample, Places, State
from medmol_diffusion.core.space import Space
from medmol_diffusion.core.weighting import Weighting


class Levels(ABC):
    """The distribution of training noise levels, as a map of a uniform u in [0, 1] to gamma."""

    schedule: Schedule

    @abstractmethod
    def __call__(self, u: PerExample) -> PerExample:
        """[B] uniforms -> [B] gamma, float64."""

    @abstractmethod
    def derivative(self, u: PerExample) -> PerExample:
        """[B] d gamma / du, float64: one over the density of the levels at gamma(u)."""


class UniformTime(Levels):
    """gamma(t) of the schedule at t ~ U(0, 1)."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def __call__(self, u: PerExample) -> PerExample:
        return self.schedule.gamma(u)

    def derivative(self, u: PerExample) -> PerExample:
        return self.schedule.derivative(u)


class NormalGamma(Levels):
    """gamma ~ N(mean, std^2) cut to the schedule's range: the log-normal noise levels of Karras et al. 2022, gamma = 2
    log sigma.

    Args:
        schedule: its end points are the cut.
        mean, std: of gamma; Karras's log sigma ~ N(-1.2, 1.2^2) is mean -2.4, std 2.4.
    """

    def __init__(self, schedule: Schedule, mean: float, std: float) -> None:
        if not std > 0:
            raise ValueError(f"the standard deviation of gamma is {std}: it must be positive")
        self.schedule, self.mean, self.std = schedule, mean, std

    def _cut(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The ends of the schedule and the normal's mass below them."""
        ends = torch.tensor([self.schedule.gamma_0, self.schedule.gamma_1], dtype=torch.float64, device=device)
        return ends, torch.special.ndtr((ends - self.mean) / self.std)

    def __call__(self, u: PerExample) -> PerExample:
        ends, (low, high) = self._cut(u.device)
        quantile: Tensor = torch.special.ndtri(low + (high - low) * u.double())
        return (self.mean + self.std * quantile).clamp(*ends.tolist())

    def derivative(self, u: PerExample) -> PerExample:
        _, (low, high) = self._cut(u.device)
        # std (high - low) / phi(q), phi the normal density; the logs, because both may be tiny
        log_density = -0.5 * ((self(u) - self.mean) / self.std).square() - 0.5 * math.log(2 * math.pi)
        return self.std * torch.exp(torch.log(high - low) - log_density)


def draw(
    denoiser: Denoiser, levels: Levels, space: Space, x: State, generator: Randomness, condition: Any = None
) -> tuple[Prediction, State, PerExample]:
    """A prediction at one stratified noise level per example, the eps that was added, and d gamma / du [B] of the
    levels there: (prediction, eps, gamma_derivative)."""
    u = stratified_uniforms(len(x), 1, generator)[0].to(x.device)
    # A learned schedule moves by schedule_loss alone, never to where the network's error happens to be small.
    gamma, gamma_derivative = levels(u).detach(), levels.derivative(u).detach()
    eps = space.noise(x, generator)
    return denoiser(diffuse(x, eps, gamma), gamma, space, condition), eps, gamma_derivative


def weighted_error(
    prediction: Prediction,
    x: State,
    eps: State,
    weighting: Weighting,
    gamma_derivative: PerExample | None = None,
    part: Places | None = None,
    kept: Places | None = None,
) -> State:
    """Weighted squared error per element, of the state's shape: weighting(...) * (target - output)^2, on the space.

    Where ``kept`` is false the truth is not known, and x - x_hat is taken to be 0 there. x - x_hat is the error times
    x_scale, eps - eps_hat the error times eps_scale, and these two differ by one factor for each example: with
    c^2 = x_scale^2 + eps_scale^2, which is nowhere 0, the error becomes restrict(c error, kept) / c.

    Args:
        prediction: what is weighed.
        x, eps: the truth.
        weighting: of the squared error.
        gamma_derivative: [B] d gamma / du of the levels; one when left out, as if they were uniform in gamma.
        part: bool, of a localised state's shape: only the error there counts (Space.restrict).
        kept: bool, of a localised state's shape: where x counts.
    """
    gamma = prediction.gamma
    density = torch.ones_like(gamma) if gamma_derivative is None else gamma_derivative
    eps_scale, x_scale = prediction.eps_scale(), prediction.x_scale()
    space, error = prediction.space, prediction.error(x, eps)
    if kept is not None:
        scale = torch.hypot(eps_scale, x_scale)
        error = space.restrict(scale * error, kept) / scale
    # Projected before it is squared: what the network says outside the space is never seen again, so it costs nothing.
    error = weighting(gamma, density, eps_scale, x_scale).sqrt() * error
    return (space.project(error) if part is None else space.restrict(error, part)).square()


def schedule_loss(
    levels: Levels,
    prediction: Prediction,
    x: State,
    eps: State,
    gamma_derivative: PerExample,
    generator: Randomness | None = None,
) -> PerExample:
    """[B] zeros, whose gradient lowers the variance of the bound where the schedule is learned; plain zeros elsewhere.

    The gradient is that of log E[variance_loss] over the batch: without unit, so that one learning rate serves every
    number of dimensions. It reaches the schedule's parameters only, and the value leaves the training loss as it was.

    Args:
        levels: whose schedule it is.
        prediction, eps, gamma_derivative: what ``draw`` returned.
        x: [B, ...] the clean state.
        generator: what ``draw`` drew with: streams of one rank's share of a batch know the others (Streams.mean).
    """
    schedule, space = levels.schedule, prediction.space
    if not isinstance(schedule, LearnedSchedule):
        return prediction.z.new_zeros(len(prediction.z))
    with torch.no_grad():
        error = space.squared_norm(prediction.eps_error(x, eps))
    second = variance_loss(schedule, prediction.gamma, error, -gamma_derivative.log())
    held = second.detach()
    mean = generator.mean(held) if isinstance(generator, Streams) else held.mean()
    relative = second / mean.clamp(min=torch.finfo(torch.float64).tiny)
    return (relative - relative.detach()).to(prediction.z)


def denoising_loss(
    denoiser: Denoiser,
    levels: Levels,
    weighting: Weighting,
    space: Space,
    x: State,
    generator: Randomness,
    condition: Any = None,
    part: Places | None = None,
    kept: Places | None = None,
) -> PerExample:
    """[B] weighted squared error per degree of freedom, plus the weighting's offset; of ``part`` alone, and of the x
    that are ``kept``, if given: masks of places (weighted_error)."""
    if denoiser.needs_signal:
        check_zero_snr(denoiser, levels.schedule.gamma_1)
    prediction, eps, gamma_derivative = draw(denoiser, levels, space, x, generator, condition)
    loss = error_per_dim(prediction, x, eps, weighting, gamma_derivative, part, kept)
    return loss + schedule_loss(levels, prediction, x, eps, gamma_derivative, generator)


def hybrid_loss(
    denoiser: Denoiser,
    schedule: Schedule,
    transitions: int,
    weighting: Weighting,
    space: Space,
    x: State,
    generator: Randomness,
    condition: Any = None,
    bound_weight: float = 1e-3,
) -> PerExample:
    """[B] the weighted error, which teaches the mean, plus ``bound_weight`` times the diffusion term of the discrete
    bound, which teaches the reverse variance alone (Nichol & Dhariwal 2021, eq. 16); both per degree of freedom.

    Args:
        denoiser: one that predicts Var[x | z], as VarianceDenoiser.
        schedule: gives the levels, at t = 1/T, ..., 1; one that is learned stays as it is.
        transitions: T of the bound. The best variance is the same for every T.
        weighting: of the squared error.
        space: where x lives.
        x: [B, ...] the clean state.
        generator: draws a step of T for every example (stratified), and the noise.
        condition: passed on to the denoiser.
        bound_weight: lambda of the paper.

    Raises:
        ValueError: fewer than one transition, or the denoiser predicts no variance.
    """
    if transitions < 1:
        raise ValueError(f"transitions = {transitions} must be at least 1: a variance belongs to a transition")
    u = stratified_uniforms(len(x), 1, generator)[0].to(x.device)
    step = (u * transitions).floor().clamp(max=transitions - 1)  # from t = (step + 1) / T to s = step / T
    gamma, eps = schedule.gamma((step + 1) / transitions).detach(), space.noise(x, generator)
    prediction = denoiser(diffuse(x, eps, gamma), gamma, space, condition)
    if prediction.x_variance is None:
        raise ValueError("the hybrid loss teaches a variance that this denoiser does not predict: use VarianceDenoiser")
    error = error_per_dim(prediction, x, eps, weighting, schedule.derivative((step + 1) / transitions).detach())
    # The bound would rather teach the loud levels than the mean: only the variance sees it.
    fixed_mean = replace(prediction, output=prediction.output.detach())
    kl = space.sum(transition_kl(fixed_mean, x, eps, schedule.gamma(step / transitions).detach())) / space.dim().to(x)
    return error + bound_weight * transitions * kl


def error_per_dim(
    prediction: Prediction,
    x: State,
    eps: State,
    weighting: Weighting,
    gamma_derivative: PerExample | None = None,
    part: Places | None = None,
    kept: Places | None = None,
) -> PerExample:
    """[B] weighted squared error per degree of freedom, plus the weighting's offset. Args: as for weighted_error.

    A part counts as so many degrees of freedom as it has its share of the places, padding included: where each place
    is equally likely to be in the part, the mean over parts is the figure of the whole. A place that is not kept, which
    must be one of the space's, is a degree of freedom less.
    """
    space = prediction.space
    dim = space.dim()
    if kept is not None:
        dim = (dim - (~kept).flatten(1).sum(1)).clamp(min=1)
    if part is not None:
        dim = dim * part.flatten(1).double().mean(1)
    error = space.sum(weighted_error(prediction, x, eps, weighting, gamma_derivative, part, kept)) / dim.to(x)
    return error + weighting.offset(prediction.gamma).to(error)
