"""Multistep steppers: a polynomial through what the network said before, integrated exactly over the step.

Each integrates w(v) f(v) dv, where f = x_hat or eps_hat is known at the levels visited, v is a variable of the level
and w an exact weight. f is replaced by the polynomial through its last values, in Newton's form, so the levels may lie
as they like. Pure noise is infinitely far in v: its divided differences are zero, and it drops out.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import pad

from medmol_diffusion.core.schedule import alpha, log_alpha_squared, log_sigma_squared
from medmol_diffusion.core.shapes import PerExample, State
from medmol_diffusion.core.stepper import DrawNoise, Past, Predict, Stepper, combine, held, heun_step

# x_hat bends over lambdas of order one: over steps longer than this a parabola says nothing of it.
_BEND = 0.5
# e^-h is zero in double precision from here on; an infinite h in e^-h h^k would be NaN instead.
_FAR = 800.0


class DPMSolver2M(Stepper):
    """DPM-Solver++(2M) (Lu et al. 2022b, algorithm 2): second order with one network call a step.

    With lambda = -gamma / 2, h = lambda_s - lambda_t, r = h_previous / h:
    D = x_hat + (x_hat - x_hat_previous) / (2 r),  z_s = (sigma_s / sigma_t) z_t - alpha_s expm1(-h) D.
    Where h is longer than twice the step before it, D = x_hat: thrown further, the line is worse than none.
    """

    def __call__(
        self, z: State, gamma_t: PerExample, gamma_s: PerExample, predict: Predict, noise: DrawNoise, past: Past | None
    ) -> tuple[State, Past | None]:
        x = predict(z, gamma_t).x
        decay, gain, _ = held(gamma_t, gamma_s)
        remembered = Past((gamma_t,), (x,))
        if past is None:
            return combine((decay, gain), (z, x)), remembered
        reach, known = gamma_t - gamma_s, past.gammas[0] - gamma_t
        slope = torch.where(reach.abs() <= 2 * known.abs(), gain * reach / (2 * known), 0.0)
        return combine((decay, gain + slope, -slope), (z, x, past.values[0])), remembered


class DPMSolver3M(Stepper):
    """DPM-Solver++(3M), SDE (eta > 0) or ODE (eta = 0): the quadratic in lambda through the last three x_hat.

    z_s = decay z_t + alpha_s integral (1 + eta) e^((1 + eta)(lambda - lambda_s)) x_hat(lambda) d lambda + spread eps,
    with ``held``'s decay and spread: eta = 1 has the noise of Ancestral, and is Ancestral on its first step. (Lu et al.
    2022b, section 5, carried to three levels. The weight of the second difference is the integral's own.)

    The order is 3 for eta = 0, whose first step is Heun's, at two network calls. For eta > 0 the variance of Gaussian
    data is reached at order 2 (that of Ancestral at order 1).

    Raises:
        ValueError: eta is negative.
    """

    def __init__(self, eta: float = 1.0) -> None:
        if eta < 0:
            raise ValueError(f"eta = {eta} must be 0 or more: 0 is deterministic, 1 has ancestral noise")
        self.eta, self.inverts = eta, not eta

    def __call__(
        self, z: State, gamma_t: PerExample, gamma_s: PerExample, predict: Predict, noise: DrawNoise, past: Past | None
    ) -> tuple[State, Past | None]:
        prediction = predict(z, gamma_t)
        gammas, values = _remembered(gamma_t, prediction.x, past, 3)
        remembered = Past(gammas, values)
        if past is None and not self.eta:
            return heun_step(z, prediction, gamma_s, predict), remembered
        decay, _, spread = held(gamma_t, gamma_s, self.eta)
        weights = _decaying_weights(gamma_t, gamma_s, gammas, self.eta, _BEND).unbind(1)
        if not self.eta:
            return combine((decay, *weights), (z, *values)), remembered
        return combine((decay, *weights, spread), (z, *values, noise())), remembered


class UniPC(Stepper):
    """UniPC-p on x_hat (Zhao et al. 2023, algorithms 5-8): predictor UniP-p and corrector UniC-p, order p + 1.

    Both are z_s = (sigma_s / sigma_t) z_t + alpha_s integral e^(lambda - lambda_s) x_hat(lambda) d lambda; the
    predictor takes the polynomial through the last p x_hat, the corrector through these and the one at s. The network
    is called once a step, at the predicted state: its answer corrects the step that led there, then predicts the next.
    The paper's B(h) cancels, because its linear system is solved exactly; B1 and B2 differ only where the paper rounds
    the solution of the smallest systems to 1/2. The order of the whole run is at most 3, that of the first step.

    Raises:
        ValueError: the order p is neither 1 nor 2.
    """

    def __init__(self, order: int = 2) -> None:
        if order not in (1, 2):
            raise ValueError(f"order = {order} must be 1 or 2: a higher one would not last longer than its first step")
        self.order = order

    def __call__(
        self, z: State, gamma_t: PerExample, gamma_s: PerExample, predict: Predict, noise: DrawNoise, past: Past | None
    ) -> tuple[State, Past | None]:
        gammas, values = _remembered(gamma_t, predict(z, gamma_t).x, past, self.order + 1)
        known = len(gammas[: self.order])
        decay = torch.exp(0.5 * (log_sigma_squared(gamma_s) - log_sigma_squared(gamma_t)))
        ahead = _decaying_weights(gamma_t, gamma_s, gammas[:known])
        weights = pad(ahead, (0, len(gammas) - known))
        if past is not None and past.weights is not None:
            corrected = _decaying_weights(past.gammas[0], gamma_t, gammas)
            weights = weights + decay[:, None] * (corrected - pad(past.weights, (1, 0)))
        z_s = combine((decay, *weights.unbind(1)), (z, *values))
        return z_s, Past(gammas[:known], values[:known], ahead)


class PLMS(Stepper):
    """Linear multistep on d(z / alpha) = eps_hat d(sigma / alpha), four levels: PLMS of PNDM (Liu et al. 2022, eq. 12).

    The paper's weights (55, -59, 37, -9) / 24 belong to equal steps. Here they are those of Adams-Bashforth for the
    levels at hand, with the cubic in sigma / alpha. The start is Heun's step, at two network calls, then two and three
    levels. Order 3: four from there on, but the start's error stays.
    """

    def __call__(
        self, z: State, gamma_t: PerExample, gamma_s: PerExample, predict: Predict, noise: DrawNoise, past: Past | None
    ) -> tuple[State, Past | None]:
        prediction = predict(z, gamma_t)
        gammas, values = _remembered(gamma_t, prediction.eps, past, 4)
        remembered = Past(gammas, values)
        if past is None:
            return heun_step(z, prediction, gamma_s, predict), remembered
        end = torch.exp(gamma_s / 2)
        places = torch.exp(torch.stack(gammas, 1) / 2) - end[:, None]
        moments = [-(places[:, 0] ** (k + 1)) / (k + 1) for k in range(len(gammas))]
        shrink = torch.exp(0.5 * (log_alpha_squared(gamma_s) - log_alpha_squared(gamma_t)))
        weights = alpha(gamma_s)[:, None] * _polynomial_weights(places, moments)
        return combine((shrink, *weights.unbind(1)), (z, *values)), remembered


def _remembered(
    gamma: Tensor, value: Tensor, past: Past | None, levels: int
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The last ``levels`` levels and values, this one first."""
    if past is None:
        return (gamma,), (value,)
    return (gamma, *past.gammas)[:levels], (value, *past.values)[:levels]


def _decaying_weights(
    gamma_t: Tensor, gamma_s: Tensor, gammas: tuple[Tensor, ...], eta: float = 0.0, bend: float = math.inf
) -> Tensor:
    """[B, levels] of the values at ``gammas``: alpha_s times the integral over v = lambda - lambda_s from -h to 0 of
    k e^(k v) p(v), k = 1 + eta, p the polynomial through the values."""
    k = 1 + eta
    h = ((gamma_t - gamma_s) / 2).clamp(max=_FAR)
    moments, start = [-torch.expm1(-k * h)], torch.exp(-k * h)  # start = e^(k v) v^j at v = -h
    for j in range(1, len(gammas)):  # by parts
        start = -h * start
        moments.append(-torch.add(start, moments[-1], alpha=j / k))
    places = (gamma_s[:, None] - torch.stack(gammas, 1)) / 2
    return alpha(gamma_s)[:, None] * _polynomial_weights(places, moments, bend)


def _polynomial_weights(places: Tensor, moments: list[Tensor], bend: float = math.inf) -> Tensor:
    """[B, levels] weights W with sum_i W_i values[i] the integral of w(v) p(v), p the polynomial with p(places[:, i]) =
    values[i], moments[k] = integral of w v^k; places is [B, levels].

    Newton's form: p = sum_j f[v_0 .. v_j] prod_(i < j) (v - v_i). The moments of w times these products weigh the
    divided differences f[v_0 .. v_j] = sum_(i <= j) values[i] / prod_(l <= j, l != i) (v_i - v_l). Only the last place
    may be infinite. The degree is j where the integral reaches, from v_0 to 0, no further than 2 / j times the
    places that the j-th difference is made of, twice as far as on an even grid, and so for every degree below: thrown
    further, a polynomial is worse than one of a lower degree. Only a coarse grid whose steps more than double meets
    that, so no order is lost. Nor is the degree above 1 where the integral reaches further than ``bend``.
    """
    levels = places.shape[1]
    if levels == 1:
        return moments[0][:, None]
    newton = [moments[0]]
    for place in places.unbind(1)[:-1]:
        moments = [torch.addcmul(above, place, below, value=-1) for below, above in pairwise(moments)]
        newton.append(moments[0])
    gaps = places[:, :, None] - places[:, None, :]
    gaps.diagonal(dim1=1, dim2=2).fill_(1.0)
    differences = gaps.reciprocal().cumprod(2).triu()  # [B, i, j]: of values[i] in the j-th
    degrees = torch.arange(levels, device=places.device)
    reach = places[:, :1].abs()
    near = degrees * reach <= 2 * gaps[:, 0].abs()
    if levels > 2 and bend < math.inf:
        near = near & ((degrees < 2) | (reach <= bend))
    return (differences * (near.cumprod(1) * torch.stack(newton, 1))[:, None]).sum(2)
