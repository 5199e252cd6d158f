r"""Guidance: denoisers round denoisers, whose score is moved towards what is asked for.

The scale is w in grad log p(z) + w grad log p(y | z): 0 is the unconditional model, 1 the conditional one, more
sharpens (Ho & Salimans 2022 write 1 + w for it). It holds inside ``interval``, the levels gamma_low <= gamma <=
gamma_high; outside, the guided denoiser is the plain one bit for bit (Kynkaanniemi et al. 2024). The choice is made
element-wise on the device, so both network calls are made at every level.

Two predictions are combined in the output of the first. For every parameterization that is linear in its output this is
the combination of their scores, and nothing is divided by alpha or sigma that was not divided before.

Only at w = 0 or 1 are the guided scores those of a density diffused: p(z) p(y | z)^w at two levels are no noised
versions of one another, and what a sampler brings is not drawn from p(x) p(y | x)^w (Du et al. 2023, section 4).
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from medmol_diffusion.core.denoiser import Denoiser, Prediction
from medmol_diffusion.core.schedule import alpha, per_example, sigma
from medmol_diffusion.core.shapes import PerExample, State
from medmol_diffusion.core.space import Space

Interval = tuple[float, float]
LogProb = Callable[[Tensor, Tensor, Space, Any], Tensor]
"""(z, gamma [B], space, condition) -> [B] log p(y | z), the y of each example being what the condition asks for."""


class ClassifierFree(Denoiser):
    """eps = eps(z) + w [eps(z | y) - eps(z)] (Ho & Salimans 2022, eq. 6, with 1 + w for w).

    Var[x | z] is the conditional's: exact at w = 1 and outside the interval.

    Args:
        denoiser: trained with the condition and without it.
        scale: w.
        unconditional: the condition that stands for none.
        interval: (gamma_low, gamma_high) inside which w holds, outside which it is 1; everywhere when left out.

    Raises:
        ValueError: the interval is upside down.
    """

    def __init__(
        self, denoiser: Denoiser, scale: float, unconditional: Any = None, interval: Interval | None = None
    ) -> None:
        super().__init__()
        self.denoiser, self.scale, self.unconditional = denoiser, scale, unconditional
        self.interval = _checked(interval)

    def forward(self, z: State, gamma: PerExample, space: Space, condition: Any = None) -> Prediction:
        conditional = self.denoiser(z, gamma, space, condition)
        unconditional = self.denoiser(z, gamma, space, self.unconditional)
        return _away_from(unconditional, conditional, _excess(self.scale - 1, gamma, self.interval))


class Autoguidance(Denoiser):
    """eps = eps_bad(z) + w [eps_good(z) - eps_bad(z)]: away from a worse model of the same data (Karras et al. 2024).

    Var[x | z] is the good model's: exact at w = 1 and outside the interval.

    Args:
        good: the model.
        bad: a smaller or less trained one; its output may be read in another way.
        scale: w; 1 is the good model alone.
        interval: as for ClassifierFree.

    Raises:
        ValueError: the interval is upside down.
    """

    def __init__(self, good: Denoiser, bad: Denoiser, scale: float, interval: Interval | None = None) -> None:
        super().__init__()
        self.good, self.bad, self.scale = good, bad, scale
        self.interval = _checked(interval)

    def forward(self, z: State, gamma: PerExample, space: Space, condition: Any = None) -> Prediction:
        good, bad = (denoiser(z, gamma, space, condition) for denoiser in (self.good, self.bad))
        return _away_from(bad, good, _excess(self.scale - 1, gamma, self.interval))


class Classifier(Denoiser):
    """eps = eps(z) - w sigma P grad log p(y | z), P the projection onto the space, which every prediction makes
    (Dhariwal & Nichol 2021, algorithm 2).

    Hence x = x(z) + w (sigma^2 / alpha) P grad log p(y | z): where x_hat is asked for near pure noise, the gradient of
    a classifier should fall with alpha, as that of the exact one does. Var[x | z] is dropped, for it is that of all
    classes.

    Args:
        denoiser: a model of all classes. The condition is passed on to it and to ``log_prob``.
        log_prob: of the noisy state, differentiable in z.
        scale: w; 0 is the denoiser alone.
        interval: (gamma_low, gamma_high) inside which w holds, outside which it is 0; everywhere when left out.

    Raises:
        ValueError: the interval is upside down.
    """

    def __init__(
        self, denoiser: Denoiser, log_prob: LogProb, scale: float = 1.0, interval: Interval | None = None
    ) -> None:
        super().__init__()
        self.denoiser, self.log_prob, self.scale = denoiser, log_prob, scale
        self.interval = _checked(interval)

    @property
    def needs_signal(self) -> bool:
        """At zero SNR the gradient is zero, and what it means for x_hat is 0 / 0."""
        return self.denoiser.needs_signal or self.interval is None or self.interval[1] == math.inf

    def forward(self, z: State, gamma: PerExample, space: Space, condition: Any = None) -> Prediction:
        with torch.enable_grad():
            state = z.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self.log_prob(state, gamma, space, condition).sum(), state)
        weight = _excess(self.scale, gamma, self.interval)
        to_x = torch.where(weight == 0, 0.0, weight * sigma(gamma).square() / alpha(gamma))
        plain = self.denoiser(z, gamma, space, condition)
        output, reading = plain.parameterization.linear(plain.output, z, gamma, space)
        # The target is linear in (x, eps), so the output changes by the target of their changes.
        change = reading.target(
            per_example(to_x, z) * slope, per_example(-weight * sigma(gamma), z) * slope, gamma, space
        )
        return replace(plain, output=output + change, parameterization=reading, x_variance=None)


def _away_from(bad: Prediction, good: Prediction, excess: Tensor) -> Prediction:
    """good + excess (good - bad), in the output of ``good``; excess is w - 1, [B]."""
    z, gamma, space = good.z, good.gamma, good.space
    output, reading = good.parameterization.linear(good.output, z, gamma, space)
    if bad.parameterization is good.parameterization:
        other, _ = bad.parameterization.linear(bad.output, z, gamma, space)
    else:
        other = bad.in_terms_of(reading)
    return replace(good, output=output + per_example(excess, z) * (output - other), parameterization=reading)


def _excess(scale: float, gamma: Tensor, interval: Interval | None) -> Tensor:
    """[B] ``scale`` inside the interval, 0 outside."""
    full = torch.full_like(gamma, scale)
    if interval is None:
        return full
    low, high = interval
    return torch.where((gamma >= low) & (gamma <= high), full, 0.0)


def _checked(interval: Interval | None) -> Interval | None:
    if interval is not None and not interval[0] < interval[1]:
        raise ValueError(f"interval = {interval} must run from a lower gamma to a higher one, from data towards noise")
    return interval
