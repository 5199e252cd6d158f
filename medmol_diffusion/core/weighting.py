"""Loss weights: factors on the squared error of the network's own output.

A weighting is declared as w(gamma) on |eps - eps_hat|^2. On the error of the output it is w c^2, eps - eps_hat =
c * error (Prediction.eps_scale). Where w grows like 1 / SNR, its share is taken on |x - x_hat|^2 = |eps - eps_hat|^2 /
SNR with the x_scale instead, so that the factor is finite at zero SNR for every output that is. Levels are drawn as
the objective has it: a weight that names gamma' = d gamma / du is divided by the density of the levels and weighs
gamma itself; the others weigh gamma by the density it is drawn with.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medmol_diffusion.core.schedule import per_example
from medmol_diffusion.core.shapes import Factor, PerExample, Scale


class Weighting(ABC):
    """The factor on the squared error of the output, and what is added to the loss."""

    @abstractmethod
    def __call__(self, gamma: PerExample, gamma_derivative: PerExample, eps_scale: Scale, x_scale: Scale) -> Factor:
        """The factor, broadcastable against a state.

        Args:
            gamma: [B] float64.
            gamma_derivative: [B] float64, d gamma / du of the levels at u ~ U(0, 1): one over their density.
            eps_scale, x_scale: of the prediction, broadcastable against a state.
        """

    def offset(self, gamma: PerExample) -> PerExample:
        """[B] what is added to the loss per degree of freedom; zero unless the weight is learned."""
        return torch.zeros_like(gamma)


class Simple(Weighting):
    """w = 1: |eps - eps_hat|^2 (Ho et al. 2020, eq. 14). With gamma drawn uniformly this is the bound itself, up to a
    constant."""

    def __call__(self, gamma: PerExample, gamma_derivative: PerExample, eps_scale: Scale, x_scale: Scale) -> Factor:
        return eps_scale.square()


class Native(Weighting):
    """|target - output|^2, the output's own error, w = 1 / c^2: for Preconditioned, the weight of Karras et al. 2022,
    table 1, on data of that standard deviation."""

    def __call__(self, gamma: PerExample, gamma_derivative: PerExample, eps_scale: Scale, x_scale: Scale) -> Factor:
        return eps_scale.new_ones(())


class VLB(Weighting):
    """w = gamma' / 2, the continuous bound (Kingma et al. 2021, eq. 17): for any levels that span the schedule, the
    expected loss times the degrees of freedom is the diffusion term, in nats."""

    def __call__(self, gamma: PerExample, gamma_derivative: PerExample, eps_scale: Scale, x_scale: Scale) -> Factor:
        return 0.5 * per_example(_measure(gamma, gamma_derivative), eps_scale) * eps_scale.square()


class MinSNR(Weighting):
    """w = min(SNR, bound) / SNR = min(1, bound e^gamma), which is min(SNR, bound) on |x - x_hat|^2 (Hang et al. 2023).

    Raises:
        ValueError: the bound is not positive.
    """

    def __init__(self, bound: float = 5.0) -> None:
        self.log_bound = math.log(_positive("bound", bound))

    def __call__(self, gamma: PerExample, gamma_derivative: PerExample, eps_scale: Scale, x_scale: Scale) -> Factor:
        return per_example(torch.exp((gamma + self.log_bound).clamp(max=0)), eps_scale) * eps_scale.square()


class P2(Weighting):
    """w = (k + SNR)^-power (Choi et al. 2022; the weight they divide is that of Simple).

    Raises:
        ValueError: k is not positive.
    """

    def __init__(self, k: float = 1.0, power: float = 1.0) -> None:
        self.log_k, self.power = math.log(_positive("k", k)), power

    def __call__(self, gamma: PerExample, gamma_derivative: PerExample, eps_scale: Scale, x_scale: Scale) -> Factor:
        log_sum = self.log_k + F.softplus(-gamma - self.log_k)  # log(k + SNR)
        return per_example(torch.exp(-self.power * log_sum), eps_scale) * eps_scale.square()


class EDM(Weighting):
    """w = 1 + e^gamma / s^2 (Karras et al. 2022, table 1), |eps - eps_hat|^2 + |x - x_hat|^2 / s^2.

    Their noise level is e^(gamma / 2), and their weight (e^gamma + s^2) / (e^gamma s^2) is on |x - x_hat|^2 = e^gamma
    |eps - eps_hat|^2. For Preconditioned with the same s the factor is one: that is Native.

    Args:
        data_std: s.

    Raises:
        ValueError: s is not positive.
    """

    def __init__(self, data_std: float = 0.5) -> None:
        self.data_std = _positive("data_std", data_std)

    def __call__(self, gamma: PerExample, gamma_derivative: PerExample, eps_scale: Scale, x_scale: Scale) -> Factor:
        return eps_scale.square() + (x_scale / self.data_std).square()


class SigmoidWeighting(Weighting):
    """w = gamma' / 2 sigmoid(gamma + bias) (Kingma & Gao 2023; Hoogeboom et al. 2024, Simpler Diffusion).

    Theirs is the bound, 1/2 integral |eps - eps_hat|^2 d lambda over the log-SNR lambda = -gamma, weighed by
    sigmoid(bias - lambda): levels where the signal is plain, lambda > bias, count less.
    """

    def __init__(self, bias: float = 2.0) -> None:
        self.bias = bias

    def __call__(self, gamma: PerExample, gamma_derivative: PerExample, eps_scale: Scale, x_scale: Scale) -> Factor:
        weight = 0.5 * _measure(gamma, gamma_derivative) * torch.sigmoid(gamma + self.bias)
        return per_example(weight, eps_scale) * eps_scale.square()


class LearnedUncertainty(nn.Module, Weighting):
    """w = e^(-u(gamma)) times another weighting, and u(gamma) is added to the loss (Karras et al. 2024, eq. 21; Kendall
    & Gal 2018).

    e^(-u) L + u is least at u = log L: every noise level is weighed by one over the loss it is left with. u is a sum of
    ``count`` cosines of sigmoid(gamma / 4), which is finite at both ends of gamma, and begins as zero, where the loss
    is that of the other weighting.

    Args:
        base: the weighting that u multiplies; Native when left out.
        count: of the cosines.
    """

    def __init__(self, base: Weighting | None = None, count: int = 16) -> None:
        super().__init__()
        self.base = Native() if base is None else base
        self.coefficients = nn.Parameter(torch.zeros(count))

    def offset(self, gamma: PerExample) -> PerExample:
        """[B] u(gamma)."""
        place = math.pi * torch.sigmoid(gamma / 4)
        waves = torch.cos(place[:, None] * torch.arange(len(self.coefficients), device=gamma.device))
        return waves @ self.coefficients.to(waves)

    def forward(self, gamma: PerExample, gamma_derivative: PerExample, eps_scale: Scale, x_scale: Scale) -> Factor:
        """The factor, e^(-u) times that of the base."""
        factor = self.base(gamma, gamma_derivative, eps_scale, x_scale)
        return per_example(torch.exp(-self.offset(gamma)), eps_scale) * factor


def _measure(gamma: Tensor, gamma_derivative: Tensor) -> Tensor:
    """gamma', and zero at gamma = inf, where gamma' c^2 is inf * 0: one moment has no share in an integral."""
    return gamma_derivative.masked_fill(gamma == math.inf, 0.0)


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{name} = {value} must be positive")
    return value


WEIGHTINGS: dict[str, type[Weighting]] = {
    "simple": Simple,
    "native": Native,
    "vlb": VLB,
    "min-snr": MinSNR,
    "p2": P2,
    "edm": EDM,
    "sigmoid": SigmoidWeighting,
    "learned": LearnedUncertainty,
}
