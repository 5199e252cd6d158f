"""One step of a sampler, z_t -> z_s with gamma_s < gamma_t (or back: the reversed grid is inversion).

A stepper is a pure function of what it is given. Notation: lambda = log(alpha / sigma) = -gamma / 2,
h = lambda_s - lambda_t, c = 1 - e^(-2h). Pure noise, gamma_t = inf, is a level like any other: nothing divides by
alpha_t, and h is then infinite.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medmol_diffusion.core.denoiser import Prediction
from medmol_diffusion.core.schedule import alpha, log_sigma_squared, per_example, sigma
from medmol_diffusion.core.shapes import PerExample, State

Predict = Callable[[Tensor, Tensor], Prediction]
DrawNoise = Callable[[], Tensor]


@dataclass(frozen=True)
class Past:
    """What a multistep stepper remembers, the newest first.

    Attributes:
        gammas: [B] float64 each, the levels the network was called at.
        values: what the stepper interpolates there: x_hat or eps_hat, [B, ...].
        weights: [B, k] float64, what the last step put of each value into the state; for steppers that correct it.
    """

    gammas: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    weights: Tensor | None = None


class Stepper(ABC):
    """One step of a sampler.

    Attributes:
        inverts: whether it also steps back, to a higher gamma; what draws fresh noise does not.
    """

    inverts: bool = True

    def __repr__(self) -> str:
        given = (f"{name}={value}" for name, value in vars(self).items() if name != "inverts")
        return f"{type(self).__name__}({', '.join(given)})"

    @abstractmethod
    def __call__(
        self, z: State, gamma_t: PerExample, gamma_s: PerExample, predict: Predict, noise: DrawNoise, past: Past | None
    ) -> tuple[State, Past | None]:
        """(z_s, what the next step may need).

        Args:
            z: z_t, [B, ...].
            gamma_t, gamma_s: [B] float64.
            predict: (z, gamma) -> Prediction, the network.
            noise: draws a fresh eps on the space.
            past: what the previous step returned; None on the first.
        """


class Ancestral(Stepper):
    """z_s ~ p(z_s | z_t) = q(z_s | z_t, x_hat) (Ho et al. 2020), widened by Var[x | z_t] where the denoiser knows it.

    q has mean (alpha_t sigma_s^2 / (alpha_s sigma_t^2)) z_t + alpha_s c x and variance sigma_s^2 c (Kingma et al. 2021,
    eqs. 31-33).
    """

    inverts = False

    def __call__(
        self, z: State, gamma_t: PerExample, gamma_s: PerExample, predict: Predict, noise: DrawNoise, past: Past | None
    ) -> tuple[State, Past | None]:
        prediction = predict(z, gamma_t)
        eps, coefficients = noise(), held(gamma_t, gamma_s, eta=1.0)
        if prediction.x_variance is not None:
            c = -torch.expm1(gamma_s - gamma_t)
            eps = eps * torch.sqrt(1 + per_example(torch.exp(-gamma_s) * c, z) * prediction.x_variance)
        return combine(coefficients, (z, prediction.x, eps)), None


class DDIM(Stepper):
    """z_s = alpha_s x_hat + sqrt(sigma_s^2 - eta^2 v) eps_hat + eta sqrt(v) eps, v = sigma_s^2 c (Song et al. 2021,
    eqs. 12, 16).

    eta = 0 is the deterministic flow, eta = 1 the variance of Ancestral: the paper's convention. With eta = 0 it is
    first order, and Euler's rule in every frame where a path with fixed x and eps is a straight line: in sigma / alpha
    for z / alpha (EDM), in sigma / (alpha + sigma) for z / (alpha + sigma) (rectified flow).

    Raises:
        ValueError: eta is not in [0, 1].
    """

    def __init__(self, eta: float = 0.0) -> None:
        if not 0 <= eta <= 1:
            raise ValueError(f"eta = {eta} must lie in [0, 1]: 0 is deterministic, 1 is ancestral")
        self.eta, self.inverts = eta, not eta

    def __call__(
        self, z: State, gamma_t: PerExample, gamma_s: PerExample, predict: Predict, noise: DrawNoise, past: Past | None
    ) -> tuple[State, Past | None]:
        prediction = predict(z, gamma_t)
        if not self.eta:
            return flow_step(prediction, gamma_s), None
        v = -torch.expm1(gamma_s - gamma_t).clamp(max=0) * self.eta**2
        along, fresh = sigma(gamma_s) * torch.sqrt(1 - v), sigma(gamma_s) * torch.sqrt(v)
        return combine((alpha(gamma_s), along, fresh), (prediction.x, prediction.eps, noise())), None


class Euler(Stepper):
    """z_s = z_t + (phi_s - phi_t) v_hat: Euler's rule on the flow dz / dphi = v_hat in the angle phi = atan(sigma /
    alpha) of the variance-preserving frame (the angle of Salimans & Ho 2022, appendix D).

    First order. DDIM is the rotation z_s = cos(phi_s - phi_t) z_t + sin(phi_s - phi_t) v_hat, and this its tangent.
    """

    def __call__(
        self, z: State, gamma_t: PerExample, gamma_s: PerExample, predict: Predict, noise: DrawNoise, past: Past | None
    ) -> tuple[State, Past | None]:
        turn = torch.atan(torch.exp(gamma_s / 2)) - torch.atan(torch.exp(gamma_t / 2))
        return torch.addcmul(z, per_example(turn, z), predict(z, gamma_t).v), None


class Heun(Stepper):
    """Heun's trapezoidal rule on the flow d(z / sigma) = x_hat d(alpha / sigma).

    Second order; two network calls a step, the second at the level that is stepped to. Karras et al. 2022, algorithm 1,
    is the same rule on d(z / alpha) = eps_hat d(sigma / alpha). That one grows without bound with sigma_t / alpha_t;
    this one starts at pure noise as well, and a single step of it is no worse than DDIM's.
    """

    def __call__(
        self, z: State, gamma_t: PerExample, gamma_s: PerExample, predict: Predict, noise: DrawNoise, past: Past | None
    ) -> tuple[State, Past | None]:
        return heun_step(z, predict(z, gamma_t), gamma_s, predict), None


def combine(coefficients: Sequence[Tensor], states: Sequence[Tensor]) -> State:
    """sum_i c_i z_i of coefficients [B] and states [B, ...], in the states' dtype and one pass over each state."""
    (first, *others), (state, *states) = coefficients, states
    total = per_example(first, state) * state
    for coefficient, state in zip(others, states, strict=True):
        total.addcmul_(per_example(coefficient, state), state)
    return total


def flow_step(prediction: Prediction, gamma_s: PerExample) -> State:
    """alpha_s x_hat + sigma_s eps_hat, the first-order step of the flow."""
    return combine((alpha(gamma_s), sigma(gamma_s)), (prediction.x, prediction.eps))


def heun_step(z: State, first: Prediction, gamma_s: PerExample, predict: Predict) -> State:
    """(sigma_s / sigma_t) z_t + alpha_s (1 - e^-h) (x_hat_t + x_hat_s) / 2, x_hat_s at the end of DDIM's step."""
    ahead = flow_step(first, gamma_s)
    _, gain, _ = held(first.gamma, gamma_s)
    return torch.addcmul(ahead, per_example(gain / 2, z), predict(ahead, gamma_s).x - first.x)


def held(gamma_t: PerExample, gamma_s: PerExample, eta: float = 0.0) -> tuple[PerExample, PerExample, PerExample]:
    """(decay, gain, spread), [B] each: z_s = decay z_t + gain x_hat + spread eps if x_hat is held along the step.

    decay = (sigma_s / sigma_t) e^(-eta h), gain = alpha_s (1 - e^(-(1 + eta) h)), spread = sigma_s sqrt(1 - e^(-2 eta
    h)): the exact solution of the reverse SDE whose noise is eta times that of Anderson's in variance; 0 is the
    probability flow, 1 the posterior q(z_s | z_t, x_hat) (Lu et al. 2022b, eqs. 13, 18).
    """
    h = (gamma_t - gamma_s) / 2
    decay = torch.exp(0.5 * (log_sigma_squared(gamma_s) - log_sigma_squared(gamma_t)))
    gain = -alpha(gamma_s) * torch.expm1(-(1 + eta) * h)
    if not eta:
        return decay, gain, torch.zeros_like(decay)
    return decay * torch.exp(-eta * h), gain, sigma(gamma_s) * torch.sqrt(-torch.expm1(-2 * eta * h))
