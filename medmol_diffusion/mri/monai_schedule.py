"""MONAI's discrete noise schedules as tables of gamma, and the timesteps that its networks read."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from medmol_diffusion.core.schedule import Tabulated, gammas_of
from medmol_diffusion.errors import InputError


def _linear(steps: int, beta_start: float = 1e-4, beta_end: float = 2e-2) -> Tensor:
    return torch.linspace(beta_start, beta_end, steps, dtype=torch.float64)


def _scaled_linear(steps: int, beta_start: float = 1e-4, beta_end: float = 2e-2) -> Tensor:
    return torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64).square()


def _sigmoid(steps: int, beta_start: float = 1e-4, beta_end: float = 2e-2, sig_range: float = 6.0) -> Tensor:
    gate = torch.sigmoid(torch.linspace(-sig_range, sig_range, steps, dtype=torch.float64))
    return beta_start + (beta_end - beta_start) * gate


def _cosine(steps: int, s: float = 8e-3) -> Tensor:
    u = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    alpha2 = torch.cos((u + s) / (1 + s) * math.pi / 2).square()
    return (1 - alpha2[1:] / alpha2[:-1]).clamp(max=0.999)


BETAS: dict[str, Callable[..., Tensor]] = {
    "linear_beta": _linear,
    "scaled_linear_beta": _scaled_linear,
    "sigmoid_beta": _sigmoid,
    "cosine": _cosine,
}
SPACINGS = ("time", "gamma")


class MonaiSchedule(Tabulated):
    r"""MONAI's discrete schedules: $\gamma_i = \log(1 - \bar\alpha_i) - \log \bar\alpha_i$,
    $\bar\alpha_i = \prod_{j \le i} (1 - \beta_j)$, i = 0 .. n - 1.

    ``linear_beta``: beta linear from beta_start to beta_end (Ho et al. 2020); ``scaled_linear_beta``: its square root
    is linear (Rombach et al. 2022); ``sigmoid_beta``: beta_start + (beta_end - beta_start) sigmoid(u), u from
    -sig_range to sig_range; ``cosine``: alpha-bar = cos^2(pi/2 (i/n + s)/(1 + s)), beta at most 0.999 (Nichol &
    Dhariwal 2021, eq. 17). All in float64; MONAI's own tables are float32.

    Args:
        name: as in MONAI's ``schedule`` argument.
        num_train_timesteps: n.
        arguments: of the formula: beta_start, beta_end, sig_range, s; MONAI's defaults.

    Raises:
        InputError: an unknown name or argument, or a beta outside (0, 1).
    """

    def __init__(self, name: str = "linear_beta", num_train_timesteps: int = 1000, **arguments: float) -> None:
        if name not in BETAS:
            raise InputError(f"unknown MONAI schedule '{name}': choose one of {', '.join(BETAS)}")
        if num_train_timesteps < 2:
            raise InputError(f"num_train_timesteps = {num_train_timesteps} must be at least 2")
        try:
            beta = BETAS[name](num_train_timesteps, **arguments)
        except TypeError as error:
            raise InputError(f"schedule '{name}' does not take {sorted(arguments)}: leave out what it lacks") from error
        if not ((beta > 0) & (beta < 1)).all():
            raise InputError(f"schedule '{name}' with {arguments} leaves (0, 1): every beta must lie inside")
        super().__init__(gammas_of(beta))

    def timestep(self, gamma: Tensor) -> Tensor:
        """[B] float64: the place of ``gamma`` in the table, exact at its entries and linear in gamma between them.

        Beyond the ends it is that of the end: the network knows no other level.
        """
        if self.table.device != gamma.device:
            self.table = self.table.to(gamma.device)
        left = (torch.searchsorted(self.table, gamma.contiguous(), right=True) - 1).clamp(0, self.transitions - 1)
        below, above = self.table[left], self.table[left + 1]
        return left + ((gamma - below) / (above - below)).clamp(0, 1)

    def grid(self, steps: int, spacing: str = "time") -> Tensor:
        """Falling gammas of timesteps the network was trained on, from n - 1 to 0.

        Args:
            steps: how many.
            spacing: "time", the timesteps round(linspace(n - 1, 0, steps)) of MONAI's set_timesteps; or "gamma", those
                nearest to a grid uniform in gamma, each once: fewer than ``steps`` where two fall on the same one.

        Raises:
            InputError: steps is not in 1 .. n, or an unknown spacing.
        """
        if not 1 <= steps <= len(self.table):
            raise InputError(f"steps = {steps} must lie in 1 .. {len(self.table)}, the timesteps the network knows")
        if spacing not in SPACINGS:
            raise InputError(f"unknown spacing '{spacing}': choose one of {', '.join(SPACINGS)}")
        table = self.table.cpu()
        if spacing == "gamma":
            even = torch.linspace(self.gamma_1, self.gamma_0, steps, dtype=torch.float64)
            return table[self.timestep(even).round().long().unique().flip(0)]
        # In float32, so that a tie is rounded to the same side as MONAI rounds it.
        return table[torch.linspace(self.transitions, 0, steps, dtype=torch.float32).round().long()]
