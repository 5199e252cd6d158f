"""Noise schedules gamma(t) = -log SNR(t) in the variance-preserving frame.

Every z in the package is z = alpha x + sigma eps with alpha^2 = sigmoid(-gamma), sigma^2 = sigmoid(gamma), and t in
[0, 1] runs from data (gamma_0, very negative) to noise (gamma_1, positive). Everything is float64; 1 - alpha^2 is
never formed. Source of the frame: Kingma et al. 2021, Variational Diffusion Models, eqs. 2-4.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medmol_diffusion.core.shapes import Grid, PerExample, Scale, State, Times


def log_alpha_squared(gamma: Times) -> Times:
    """log alpha^2 = log sigmoid(-gamma) = -softplus(gamma)."""
    return -F.softplus(gamma)


def log_sigma_squared(gamma: Times) -> Times:
    """log sigma^2 = log sigmoid(gamma) = -softplus(-gamma)."""
    return -F.softplus(-gamma)


def alpha(gamma: Times) -> Times:
    """alpha = sigmoid(-gamma)^(1/2)."""
    return torch.exp(0.5 * log_alpha_squared(gamma))


def sigma(gamma: Times) -> Times:
    """sigma = sigmoid(gamma)^(1/2)."""
    return torch.exp(0.5 * log_sigma_squared(gamma))


def per_example(value: PerExample, like: State) -> Scale:
    """[B] -> [B, 1, ..., 1] in the dtype and on the device of ``like`` (B, ...)."""
    return value.to(like).reshape(-1, *[1] * (like.dim() - 1))


class Schedule(nn.Module, ABC):
    """A monotone map t in [0, 1] -> gamma."""

    @abstractmethod
    def gamma(self, t: Times) -> Times:
        """gamma(t) in float64, same shape as ``t``."""

    @abstractmethod
    def derivative(self, t: Times) -> Times:
        """d gamma / dt in float64, same shape as ``t``."""

    @property
    def gamma_0(self) -> float:
        """gamma at the data end, t = 0."""
        return self.gamma(torch.zeros((), dtype=torch.float64)).item()

    @property
    def gamma_1(self) -> float:
        """gamma at the noise end, t = 1."""
        return self.gamma(torch.ones((), dtype=torch.float64)).item()

    @torch.no_grad()
    def time(self, gamma: Times) -> Times:
        """t with gamma(t) = ``gamma``, by bisection to the last bit of t; 0 or 1 beyond the ends."""
        low, high = torch.zeros_like(gamma, dtype=torch.float64), torch.ones_like(gamma, dtype=torch.float64)
        for _ in range(torch.finfo(torch.float64).bits - 10):
            middle = (low + high) / 2
            below = self.gamma(middle) < gamma
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2

    def log_density(self, gamma: Times) -> Times:
        """log p(gamma) of gamma(t), t ~ U(0, 1): -log gamma'(t(gamma)), of the shape of ``gamma``, float64.

        Its gradient in the schedule's parameters is taken at fixed gamma: t(gamma) moves with them.
        """
        t = self.time(gamma)
        # gamma(t; eta) = constant gives dt / d eta = -(d gamma / d eta) / gamma'. The value of t does not change.
        value, slope = self.gamma(t), self.derivative(t)
        return -self.derivative(t - (value - value.detach()) / slope.detach()).log()


def check_ends(gamma_0: float, gamma_1: float) -> None:
    """Raise ValueError unless the end points are finite and increasing."""
    if not (math.isfinite(gamma_0) and math.isfinite(gamma_1) and gamma_0 < gamma_1):
        raise ValueError(f"gamma_0 = {gamma_0} must be finite and below gamma_1 = {gamma_1}; noise grows with t")


class LinearGamma(Schedule):
    """gamma(t) = gamma_0 + (gamma_1 - gamma_0) t.

    The defaults are the initial end points of Kingma et al. 2021, appendix B.

    Raises:
        ValueError: the end points are not finite and increasing.
    """

    def __init__(self, gamma_0: float = -13.3, gamma_1: float = 5.0) -> None:
        super().__init__()
        check_ends(gamma_0, gamma_1)
        self.ends = (gamma_0, gamma_1)

    def gamma(self, t: Times) -> Times:
        start, end = self.ends
        return start + (end - start) * t.double()

    def derivative(self, t: Times) -> Times:
        start, end = self.ends
        return torch.full_like(t, end - start, dtype=torch.float64)


class Cosine(Schedule):
    """gamma(t) = 2 log tan(a + (b - a) t), with tan a = exp(gamma_0 / 2) and tan b = exp(gamma_1 / 2).

    The cosine schedule of Nichol & Dhariwal 2021, alpha = cos(theta), cut at finite end points as in Hoogeboom et al.
    2023 (simple diffusion), section 3.1.

    Raises:
        ValueError: the end points are not finite and increasing.
    """

    def __init__(self, gamma_0: float = -13.3, gamma_1: float = 10.0) -> None:
        super().__init__()
        check_ends(gamma_0, gamma_1)
        self.angles = (math.atan(math.exp(gamma_0 / 2)), math.atan(math.exp(gamma_1 / 2)))

    def gamma(self, t: Times) -> Times:
        start, end = self.angles
        return 2 * torch.log(torch.tan(start + (end - start) * t.double()))

    def derivative(self, t: Times) -> Times:
        start, end = self.angles
        return 4 * (end - start) / torch.sin(2 * (start + (end - start) * t.double()))


class Tabulated(Schedule):
    """Piecewise-linear interpolation of a table of gammas at t = 0, 1/n, ..., 1.

    A discrete-time model with n transitions is met exactly at T = n. The last entry may be +inf, zero terminal SNR;
    in the cell before it the SNR is linear instead: gamma = gamma_{n-1} - log(1 - f), f the place in the cell, finite
    for every t < 1.

    Raises:
        ValueError: the table is not increasing, or not finite before its last entry.
    """

    table: Grid

    def __init__(self, table: Tensor) -> None:  # of any shape: one that is no vector is refused below
        super().__init__()
        table = table.double()
        finite = torch.isfinite(table)
        if table.dim() != 1 or finite.sum() < 2 or not finite[:-1].all() or not (table.diff() > 0).all():
            raise ValueError(
                "a table of gammas must be an increasing vector of two finite entries or more; the last may be +inf"
            )
        # Rebuilt by the constructor, so it does not travel in the state dict; a half-precision cast of the model must
        # not touch it either, so it is a plain attribute moved by hand in `_at`.
        self.table = table

    @property
    def transitions(self) -> int:
        """n, the number of transitions of the discrete-time model."""
        return len(self.table) - 1

    def _at(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.table.device != t.device:
            self.table = self.table.to(t.device)
        place = t.double() * self.transitions
        left = place.floor().clamp(0, self.transitions - 1).long()
        return self.table[left], self.table[left + 1], place - left

    def gamma(self, t: Times) -> Times:
        left, right, fraction = self._at(t)
        terminal = right.isinf()
        step, gone = torch.where(terminal, 0.0, right - left), torch.where(terminal, fraction, 0.0)
        return left + step * fraction - torch.log1p(-gone)

    def derivative(self, t: Times) -> Times:
        left, right, fraction = self._at(t)
        return torch.where(right.isinf(), 1 / (1 - fraction), right - left) * self.transitions


def zero_terminal_snr(log_alpha2: Grid) -> Grid:
    """log alpha^2 of a table, alpha shifted and stretched so that its last entry is 0 and its first is kept.

    alpha_i <- (alpha_i - alpha_n) alpha_0 / (alpha_0 - alpha_n) (Lin et al. 2023, algorithm 1).
    """
    # alpha_i - alpha_n = alpha_i (1 - alpha_n / alpha_i).
    shift = 2 * torch.log(-torch.expm1((log_alpha2[-1] - log_alpha2) / 2))
    return log_alpha2 + (shift - shift[0])


def gammas_of(beta: Grid, zero_snr: bool = False) -> Grid:
    """The gammas of alpha_i^2 = prod_{j <= i} (1 - beta_j)."""
    log_alpha2 = torch.log1p(-beta).cumsum(0)
    if zero_snr:
        log_alpha2 = zero_terminal_snr(log_alpha2)
    return torch.log(-torch.expm1(log_alpha2)) - log_alpha2


class DDPMLinear(Tabulated):
    """The beta-linear schedule of Ho et al. 2020, section 4: alpha_i^2 = prod_{j <= i} (1 - beta_j).

    beta runs linearly from ``beta_start`` to ``beta_end`` over ``steps`` levels; t = 0 is the first noisy level (whose
    decoder is the reconstruction term), so ``transitions`` is steps - 1. ``zero_snr`` moves the last level to pure
    noise, gamma_1 = +inf (``zero_terminal_snr``).
    """

    def __init__(
        self, beta_start: float = 1e-4, beta_end: float = 2e-2, steps: int = 1000, zero_snr: bool = False
    ) -> None:
        super().__init__(gammas_of(torch.linspace(beta_start, beta_end, steps, dtype=torch.float64), zero_snr))


class ScaledLinear(Tabulated):
    """The schedule of latent diffusion: beta^(1/2) linear, alpha_i^2 = prod_{j <= i} (1 - beta_j).

    Rombach et al. 2022: beta from 0.0015 to 0.0195 over 1000 levels in their configurations (linear_start, linear_end),
    which MONAI's 3-D brain tutorial keeps (schedule="scaled_linear_beta"); Pinaya et al. 2022's brain model ends at
    0.0205. t = 0 is the first noisy level, as in DDPMLinear; so is ``zero_snr``.
    """

    def __init__(
        self, beta_start: float = 0.0015, beta_end: float = 0.0195, steps: int = 1000, zero_snr: bool = False
    ) -> None:
        root = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64)
        super().__init__(gammas_of(root.square(), zero_snr))


class Polynomial(Tabulated):
    """The `polynomial_p` schedule of EDM for molecules (Hoogeboom et al. 2022, appendix B).

    With n = T + 1 and u = linspace(0, n, n): a = (1 - (u / n)^p)^2, its step ratios clipped to [0.001, 1] and
    multiplied up, alpha^2 = (1 - 2 s) a + s. With p = 2, s = 1e-5, T = 1000: gamma_0 = -11.5129, gamma_T = +11.5125.
    """

    def __init__(self, power: float = 2.0, precision: float = 1e-5, steps: int = 1000) -> None:
        if not power > 0:
            raise ValueError(f"power = {power} must be positive: noise grows with t")
        n = steps + 1
        u = torch.linspace(0, n, n, dtype=torch.float64)
        a = (1 - (u / n) ** power) ** 2
        ratios = (a / torch.cat([torch.ones(1, dtype=torch.float64), a[:-1]])).clamp(0.001, 1.0)
        alpha2 = (1 - 2 * precision) * ratios.cumprod(0) + precision
        super().__init__(torch.log1p(-alpha2) - torch.log(alpha2))
