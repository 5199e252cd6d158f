"""What a network says of a noisy state: a Denoiser maps (z, gamma) to a Prediction."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn

from medmol_diffusion.core.parameterization import Parameterization
from medmol_diffusion.core.schedule import alpha, per_example, sigma
from medmol_diffusion.core.shapes import PerExample, Scale, State
from medmol_diffusion.core.space import Space


@dataclass(frozen=True)
class Prediction:
    """What a denoiser says of z at noise level gamma; every estimate is projected onto the space.

    Attributes:
        output: the network's output, [B, ...].
        z: the noisy state, [B, ...].
        gamma: [B] float64.
        parameterization: how the output is read.
        space: where the state lives.
        x_variance: Var[x | z] per element, where the denoiser knows it; the reverse step and the discrete bound use it.
    """

    output: State
    z: State
    gamma: PerExample
    parameterization: Parameterization
    space: Space
    x_variance: Scale | None = None

    @cached_property
    def x(self) -> State:
        """x_hat = E[x | z]."""
        return self.space.project(self.parameterization.x(self.output, self.z, self.gamma, self.space))

    @cached_property
    def eps(self) -> State:
        """eps_hat = E[eps | z]."""
        return self.space.project(self.parameterization.eps(self.output, self.z, self.gamma, self.space))

    @property
    def v(self) -> State:
        """alpha eps_hat - sigma x_hat."""
        return per_example(alpha(self.gamma), self.z) * self.eps - per_example(sigma(self.gamma), self.z) * self.x

    @property
    def score(self) -> State:
        """grad log p(z) = -eps_hat / sigma."""
        return -self.eps / per_example(sigma(self.gamma), self.z)

    def in_terms_of(self, parameterization: Parameterization) -> State:
        """The output that another parameterization would need to give the same x_hat and eps_hat, on the space."""
        return parameterization.target(self.x, self.eps, self.gamma, self.space)

    def error(self, x: State, eps: State) -> State:
        """target - output, in the output's own units."""
        return self.parameterization.error(self.output, x, eps, self.gamma, self.space)

    def eps_scale(self) -> Scale:
        """c with eps - eps_hat = c * error before projection."""
        return self.parameterization.eps_scale(self.z, self.gamma, self.space)

    def x_scale(self) -> Scale:
        """c with x - x_hat = c * error before projection."""
        return self.parameterization.x_scale(self.z, self.gamma, self.space)

    def eps_error(self, x: State, eps: State) -> State:
        """eps - eps_hat, on the space."""
        return self.space.project(self.eps_scale() * self.error(x, eps))

    def x_error(self, x: State, eps: State) -> State:
        """x - x_hat, on the space."""
        return self.space.project(self.x_scale() * self.error(x, eps))


class Denoiser(nn.Module, ABC):
    """denoiser(z, gamma, space, condition) -> Prediction. Guidance wraps a Denoiser and is one."""

    __call__: Callable[..., Prediction]

    @property
    def needs_signal(self) -> bool:
        """Whether x_hat does not exist at zero SNR (gamma = inf): a wrapper needs what the denoisers it holds need."""
        return any(child.needs_signal for child in self.children() if isinstance(child, Denoiser))

    @abstractmethod
    def forward(self, z: State, gamma: PerExample, space: Space, condition: Any = None) -> Prediction:
        """Args: z [B, ...], gamma [B] float64, the space of z, and whatever the network is conditioned on."""


class NetworkDenoiser(Denoiser):
    """A network and the reading of its output.

    Args:
        network: network(z, gamma, space, condition) -> output of z's shape.
        parameterization: what that output is.
    """

    def __init__(self, network: nn.Module, parameterization: Parameterization) -> None:
        super().__init__()
        self.network, self.parameterization = network, parameterization

    @property
    def needs_signal(self) -> bool:
        return self.parameterization.needs_signal

    def forward(self, z: State, gamma: PerExample, space: Space, condition: Any = None) -> Prediction:
        output = self.network(self.parameterization.scale_input(z, gamma, space), gamma, space, condition)
        return Prediction(output, z, gamma, self.parameterization, space)


def check_zero_snr(denoiser: Denoiser, gamma_1: float) -> None:
    """Refuse a denoiser that says nothing of x at the noise end, before any loop runs.

    Raises:
        ValueError: gamma_1 is inf and the denoiser's x_hat divides by alpha.
    """
    if gamma_1 == math.inf and denoiser.needs_signal:
        raise ValueError("eps prediction says nothing of x at zero terminal SNR (gamma_1 = inf): use v (or x, F)")
