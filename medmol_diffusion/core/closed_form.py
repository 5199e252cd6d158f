"""Schedules in closed form that come from other frames: sigmoid, Karras, variance exploding, rectified flow, sub-VP.

Each is known here by gamma(t) alone; core/frame.py takes their states and denoisers to and fro.
"""

import math

import torch
from torch import Tensor

from medmol_diffusion.core.schedule import LinearGamma, Schedule, check_ends
from medmol_diffusion.core.shapes import Times


def _check_sigmas(sigma_min: float, sigma_max: float) -> None:
    if not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(f"sigma_min = {sigma_min} must be positive and below sigma_max = {sigma_max}, which is finite")


def _line(start: float, end: float, t: Tensor) -> Tensor:
    """From start to end, both met exactly."""
    t = t.double()
    return start * (1 - t) + end * t


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def _log_cosh(x: float) -> float:
    return _softplus(2 * x) - x - math.log(2)


def _log_sinh(x: Tensor) -> Tensor:
    """log sinh x, x > 0."""
    return x + torch.log(-torch.expm1(-2 * x)) - math.log(2)


def _sinh_ratio_root(length: float, log_ratio: float) -> float:
    """x with sinh x = e^log_ratio sinh(length - x): e^(2 x) = 1 + 2 sinh(length) / (e^-log_ratio + e^-length)."""
    log_sinh2 = length + math.log(-math.expm1(-2 * length))
    log_sum = _softplus(length - log_ratio) - length
    return 0.5 * _softplus(log_sinh2 - log_sum)


class Sigmoid(Schedule):
    """alpha^2(u) = (S(end) - S(u)) / (S(end) - S(start)), S(u) = sigmoid(u / temperature), u linear in t.

    The sigmoid schedule of Chen 2023 (On the importance of noise scheduling) and Jabri et al. 2022.
    There u runs over all of [start, end] and SNR from infinity to 0; here it is cut to the piece on which gamma runs
    from gamma_0 to gamma_1. As S(a) - S(b) = sinh((a - b) / 2) / (2 cosh(a / 2) cosh(b / 2)) in units of temperature,

        gamma = log sinh((u - start) / 2) - log sinh((end - u) / 2) + log cosh(end / 2) - log cosh(start / 2).

    Raises:
        ValueError: the end points are not finite and increasing, start is not below end, or temperature not positive.
    """

    def __init__(
        self,
        gamma_0: float = -13.3,
        gamma_1: float = 10.0,
        start: float = -3.0,
        end: float = 3.0,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        check_ends(gamma_0, gamma_1)
        if not (start < end and temperature > 0):
            raise ValueError(f"start = {start} must be below end = {end}, and temperature = {temperature} positive")
        a, b = start / (2 * temperature), end / (2 * temperature)
        self.offset = _log_cosh(b) - _log_cosh(a)
        # Half the way from start, and half the way to end, each at t = 0 and t = 1: both are kept, so that neither is
        # formed as a difference.
        low, high = gamma_0 - self.offset, gamma_1 - self.offset
        self.risen = (_sinh_ratio_root(b - a, low), _sinh_ratio_root(b - a, high))
        self.left = (_sinh_ratio_root(b - a, -low), _sinh_ratio_root(b - a, -high))

    def _places(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return _line(*self.risen, t), _line(*self.left, t)

    def gamma(self, t: Times) -> Times:
        risen, left = self._places(t)
        return _log_sinh(risen) - _log_sinh(left) + self.offset

    def derivative(self, t: Times) -> Times:
        risen, left = self._places(t)
        return (self.risen[1] - self.risen[0]) * (1 / torch.tanh(risen) + 1 / torch.tanh(left))


class RectifiedFlow(Schedule):
    """gamma(t) = 2 log(u / (1 - u)), u linear in t from sigmoid(gamma_0 / 2) to sigmoid(gamma_1 / 2).

    The path z = (1 - u) x + u eps of rectified flow (Liu et al. 2022, eq. 1; Lipman et al. 2022 with sigma_min = 0),
    cut at finite end points; core/frame.py has its frame.

    Raises:
        ValueError: the end points are not finite and increasing.
    """

    def __init__(self, gamma_0: float = -13.3, gamma_1: float = 10.0) -> None:
        super().__init__()
        check_ends(gamma_0, gamma_1)
        self.noise = (math.exp(-_softplus(-gamma_0 / 2)), math.exp(-_softplus(-gamma_1 / 2)))
        self.signal = (math.exp(-_softplus(gamma_0 / 2)), math.exp(-_softplus(gamma_1 / 2)))

    def _places(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return _line(*self.noise, t), _line(*self.signal, t)

    def gamma(self, t: Times) -> Times:
        noise, signal = self._places(t)
        return 2 * (noise.log() - signal.log())

    def derivative(self, t: Times) -> Times:
        noise, signal = self._places(t)
        return 2 * (self.noise[1] - self.noise[0]) * (1 / noise + 1 / signal)


class Karras(Schedule):
    """gamma(t) = 2 log s(t), s^(1 / rho) linear in t from sigma_min^(1 / rho) to sigma_max^(1 / rho).

    The noise levels of EDM (Karras et al. 2022, eq. 5, with t for 1 - i / (N - 1)): s = sigma / alpha is the standard
    deviation in the variance-exploding frame.

    Raises:
        ValueError: the standard deviations are not positive and increasing, or rho is not positive.
    """

    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> None:
        super().__init__()
        _check_sigmas(sigma_min, sigma_max)
        if not rho > 0:
            raise ValueError(f"rho = {rho} must be positive")
        self.roots: tuple[float, float] = (sigma_min ** (1 / rho), sigma_max ** (1 / rho))
        self.rho = rho

    def gamma(self, t: Times) -> Times:
        return 2 * self.rho * _line(*self.roots, t).log()

    def derivative(self, t: Times) -> Times:
        start, end = self.roots
        return 2 * self.rho * (end - start) / _line(start, end, t)


class VE(LinearGamma):
    """s(t) = sigma_min (sigma_max / sigma_min)^t: the geometric noise levels of the VE SDE (Song et al. 2021, app. C).

    gamma = 2 log s is linear in t: LinearGamma under the names of its own frame, the same curve.

    Raises:
        ValueError: the standard deviations are not positive and increasing.
    """

    def __init__(self, sigma_min: float = 0.01, sigma_max: float = 50.0) -> None:
        _check_sigmas(sigma_min, sigma_max)
        super().__init__(2 * math.log(sigma_min), 2 * math.log(sigma_max))


class SubVP(Schedule):
    """gamma = 2 log(2 sinh(B / 2)), B(u) = beta_min u + (beta_max - beta_min) u^2 / 2, u linear in t from t_min to 1.

    The sub-VP SDE of Song et al. 2021, eq. 29: z = e^(-B / 2) x + (1 - e^-B) eps. Only the ratio of the two counts
    here; z itself is that of this package times a number (SubVPFrame). So nothing is left of what the paper proposed it
    for, a variance below that of the VP SDE: the continuous bound depends on the end points alone (V6), and the prior
    N(0, I) of the common frame has variance e^-B + (1 - e^-B)^2 in its own. Where it does not make sense: as noise
    grows like u and not like sqrt u, gamma_0 is very low, -18.2 with the paper's sampling cut t_min = 1e-3 and -27.6
    with its likelihood cut 1e-5, a resolution that grey levels and coordinates do not have; and it comes from no
    discrete table, so zero terminal SNR has no meaning.

    Raises:
        ValueError: the betas are not positive and increasing, or t_min is not in (0, 1).
    """

    def __init__(self, beta_min: float = 0.1, beta_max: float = 20.0, t_min: float = 1e-3) -> None:
        super().__init__()
        if not 0 < beta_min <= beta_max:
            raise ValueError(f"beta_min = {beta_min} must be positive and at most beta_max = {beta_max}")
        if not 0 < t_min < 1:
            raise ValueError(f"t_min = {t_min} must lie in (0, 1): at 0 gamma is minus infinity")
        self.beta, self.t_min = (beta_min, beta_max), t_min

    def _time(self, t: Tensor) -> Tensor:
        return self.t_min + (1 - self.t_min) * t.double()

    def _half_beta(self, u: Tensor) -> Tensor:
        low, high = self.beta
        return (low * u + (high - low) * u.square() / 2) / 2

    def gamma(self, t: Times) -> Times:
        return 2 * (_log_sinh(self._half_beta(self._time(t))) + math.log(2))

    def derivative(self, t: Times) -> Times:
        (low, high), u = self.beta, self._time(t)
        return (1 - self.t_min) * (low + (high - low) * u) / torch.tanh(self._half_beta(u))
