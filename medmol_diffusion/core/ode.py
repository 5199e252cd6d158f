"""Runge-Kutta solvers of dy/dt = f(t, y) for a batch of independent equations.

Every example has its own t and, in the adaptive solver, its own step: what is found for it does not know its batch.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from medmol_diffusion.core.shapes import Flat, PerExample

Field = Callable[[Tensor, Tensor], Tensor]
"""f(t [B], y [B, n]) -> dy/dt [B, n]."""


@dataclass(frozen=True)
class Tableau:
    """The coefficients of an explicit Runge-Kutta method.

    k_i = f(t + c_i h, y + h sum_j a_ij k_j), and y + h sum_i b_i k_i is the next point. The c_i are the row sums of a.
    """

    order: int
    a: tuple[tuple[float, ...], ...]
    b: tuple[float, ...]

    def stages(self, f: Field, t: PerExample, y: Flat, h: PerExample, first: Flat | None = None) -> list[Tensor]:
        """k_1, k_2, ...; ``first`` is k_1 where it is known already."""
        k = [f(t, y) if first is None else first]
        for row in self.a:
            k.append(f(t + sum(row) * h, y + h[:, None] * _combine(row, k)))
        return k


TABLEAUS = {
    "heun": Tableau(2, ((1.0,),), (0.5, 0.5)),
    "rk4": Tableau(4, ((0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}

# Dormand & Prince 1980, table 2, RK5(4)7M. The last stage is taken at the new point, so it is the next step's first.
_DOPRI5 = Tableau(
    5,
    (
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0),
)
_DOPRI4 = (5179 / 57600, 0.0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40)
_DOPRI_ERROR = tuple(high - low for high, low in zip(_DOPRI5.b, _DOPRI4, strict=True))


class Solver(ABC):
    """Takes y from t = start to t = end."""

    @property
    @abstractmethod
    def settings(self) -> dict[str, float]:
        """What the result depends on, by name."""

    @abstractmethod
    def __call__(self, f: Field, y: Flat, start: PerExample, end: PerExample) -> Flat:
        """y [B, n] at ``end`` from y at ``start``, both [B]; everything in y's own type."""


class FixedGrid(Solver):
    """``steps`` equal steps of one method.

    Args:
        steps: how many.
        method: "rk4" (four calls of f a step, order 4) or "heun" (two calls, order 2).

    Raises:
        ValueError: fewer than one step, or an unknown method.
    """

    def __init__(self, steps: int = 64, method: str = "rk4") -> None:
        if steps < 1:
            raise ValueError(f"steps = {steps} of a solver must be at least 1")
        if method not in TABLEAUS:
            raise ValueError(f"unknown method '{method}': choose one of {', '.join(TABLEAUS)}")
        self.steps, self.tableau = steps, TABLEAUS[method]

    @property
    def settings(self) -> dict[str, float]:
        return {"steps": float(self.steps), "order": float(self.tableau.order)}

    def __call__(self, f: Field, y: Flat, start: PerExample, end: PerExample) -> Flat:
        h = (end - start) / self.steps
        for i in range(self.steps):
            y = y + h[:, None] * _combine(self.tableau.b, self.tableau.stages(f, start + i * h, y, h))
        return y


class DormandPrince(Solver):
    """The adaptive pair of orders 5 and 4 of Dormand & Prince 1980, with a step of its own for every example.

    A step is accepted where the largest error / (atol + rtol max(|y_old|, |y_new|)) over the entries of y is at most
    1 (the largest, so that entries of zeros change nothing), and the next one is 0.9 error^(-1/5) as long, between 0.2
    and 5 times (Hairer, Norsett & Wanner 1993, section II.4). The batch goes on until its last example has arrived; the
    step sizes are constants to autograd.

    Args:
        rtol, atol: relative and absolute tolerance of one step. What f computes in float32 has no digits below 1e-6.
        max_steps: accepted and refused steps of one example.

    Raises:
        ValueError: a tolerance is not positive; or, in a call, an example needs more than ``max_steps``.
    """

    def __init__(self, rtol: float = 1e-5, atol: float = 1e-5, max_steps: int = 1000) -> None:
        if not (rtol > 0 and atol > 0):
            raise ValueError(f"rtol = {rtol} and atol = {atol} of a solver must be positive")
        self.rtol, self.atol, self.max_steps = rtol, atol, max_steps

    @property
    def settings(self) -> dict[str, float]:
        return {"rtol": self.rtol, "atol": self.atol}

    def __call__(self, f: Field, y: Flat, start: PerExample, end: PerExample) -> Flat:
        t, h = start, (end - start) / 100
        first = f(t, y)
        for _ in range(self.max_steps):
            if not (t != end).any():
                return y
            last = (end - t - h).sign() * h.sign() <= 0  # the step reaches the end or goes past it
            h = torch.where(last, end - t, h)
            k = _DOPRI5.stages(f, t, y, h, first)
            new = y + h[:, None] * _combine(_DOPRI5.b, k)
            with torch.no_grad():
                scale = self.atol + self.rtol * torch.maximum(y.abs(), new.abs())
                error = (h[:, None] * _combine(_DOPRI_ERROR, k) / scale).abs().amax(1)
                accepted = error <= 1
                factor = (0.9 * error.clamp(min=1e-10) ** -0.2).clamp(0.2, 5.0)
            y = torch.where(accepted[:, None], new, y)
            first = torch.where(accepted[:, None], k[-1], first)
            t = torch.where(accepted, torch.where(last, end, t + h), t)
            h = h * factor.nan_to_num(0.2)
        if not (t != end).any():
            return y
        raise ValueError(
            f"the solver did not arrive in max_steps = {self.max_steps}: loosen rtol = {self.rtol} and atol = "
            f"{self.atol}, or take a fixed grid"
        )


def _combine(weights: tuple[float, ...], k: list[Tensor]) -> Tensor:
    """sum_i weights_i k_i, zeros left out."""
    used = [(w, v) for w, v in zip(weights, k, strict=True) if w]
    return sum((w * v for w, v in used[1:]), used[0][0] * used[0][1])
