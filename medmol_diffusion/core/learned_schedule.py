"""A schedule that learns: the end points are given, the path between them lowers the variance of the bound.

The continuous-time bound depends on the end points alone (V6), its Monte Carlo estimate on the path. Source: Kingma et
al. 2021, Variational Diffusion Models, section 5.2 and appendices H and I; derivation in docs/theory/schedules.md.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from medmol_diffusion.core.schedule import Schedule, check_ends
from medmol_diffusion.core.shapes import PerExample, Times


class LearnedSchedule(Schedule):
    """gamma(t) = gamma_0 + (gamma_1 - gamma_0) (n(t) - n(0)) / (n(1) - n(0)), n a monotone network.

    n(t) = w t + sum_k a_k sigmoid(b_k t - c_k) with positive w, a, b: the network of Kingma et al. 2021, appendix H.
    The derivative is a formula, and the end points do not move. It starts close to linear. Its parameters are float64
    and stay so when a model is cast.

    Args:
        gamma_0, gamma_1: the end points, kept.
        hidden: how many sigmoids.

    Raises:
        ValueError: the end points are not finite and increasing, or there is no hidden unit.
    """

    def __init__(self, gamma_0: float = -13.3, gamma_1: float = 5.0, hidden: int = 64) -> None:
        super().__init__()
        check_ends(gamma_0, gamma_1)
        if hidden < 1:
            raise ValueError(f"hidden = {hidden} must be at least 1")
        self.ends = (gamma_0, gamma_1)
        # Sigmoids side by side, each of the width of its place: together they are nearly a line.
        place = (torch.arange(hidden, dtype=torch.float64) + 0.5) / hidden
        rate = torch.full_like(place, float(hidden))
        self.log_slope = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.log_height = nn.Parameter(torch.full_like(place, 1 / hidden).log())
        self.log_rate = nn.Parameter(rate.log())
        self.shift = nn.Parameter(rate * place)

    @property
    def gamma_0(self) -> float:
        return self.ends[0]

    @property
    def gamma_1(self) -> float:
        return self.ends[1]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "LearnedSchedule":
        # A cast of the model moves the parameters to its device, but takes none of their digits.
        super()._apply(lambda v: v.to(fn(v).device), recurse)  # type: ignore[no-untyped-call]
        return self

    def _units(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """w, a, b and b t - c [..., hidden], on the device of ``t``."""
        slope, height, rate, shift = (
            v.to(t.device) for v in (self.log_slope.exp(), self.log_height.exp(), self.log_rate.exp(), self.shift)
        )
        return slope, height, rate, rate * t.double()[..., None] - shift

    def _network(self, t: Tensor) -> Tensor:
        slope, height, _, inner = self._units(t)
        return slope * t.double() + (height * torch.sigmoid(inner)).sum(-1)

    def _range(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """n(0) and n(1)."""
        low, high = self._network(torch.arange(2, dtype=torch.float64, device=t.device)).unbind()
        return low, high

    def gamma(self, t: Times) -> Times:
        (start, end), (low, high) = self.ends, self._range(t)
        return start + (end - start) * (self._network(t) - low) / (high - low)

    def derivative(self, t: Times) -> Times:
        (start, end), (low, high) = self.ends, self._range(t)
        slope, height, rate, inner = self._units(t)
        rise = slope + (height * rate * torch.sigmoid(inner) * torch.sigmoid(-inner)).sum(-1)
        return (end - start) * rise / (high - low)


def variance_loss(
    schedule: LearnedSchedule, gamma: PerExample, error: PerExample, log_density: PerExample | None = None
) -> PerExample:
    """[B] (error / 2)^2 / (p(gamma) q(gamma)): its mean is the second moment of the bound's estimate, nats^2.

    The estimate is 1/2 gamma'(t) |eps - eps_hat|^2 at t ~ U(0, 1), that is error / (2 p(gamma)) at gamma ~ p, the
    density of gamma(t). Its mean is the diffusion term, which no interior of a schedule moves; so the gradient of its
    second moment is that of its variance. At fixed gamma only p depends on the parameters: the network is not asked
    again.

    Args:
        schedule: its parameters get the gradient, and nothing else does.
        gamma: [B] where the errors were taken.
        error: [B] |eps - eps_hat|^2 at gamma.
        log_density: [B] log q, the density gamma was drawn from; that of the schedule itself when left out.
    """
    log_p = schedule.log_density(gamma.detach())
    log_q = log_p if log_density is None else log_density
    return (error.detach().double() / 2).square() * torch.exp(-log_p - log_q.detach())
