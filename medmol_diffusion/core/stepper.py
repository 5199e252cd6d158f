"""One step of a sampler, z_t -> z_s with gamma_s < gamma_t (or back: the reversed grid is inversion).

A stepper is a pure function of what it is given. Notation: c = 1 - e^(gamma_s - gamma_t), and the posterior
q(z_s | z_t, x) has mean (alpha_s / alpha_t)(z_t - c sigma_t eps) and variance sigma_s^2 c (Kingma et al. 2021, eqs.
31-33).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from medmol_diffusion.core.denoiser import Prediction
from medmol_diffusion.core.schedule import alpha, log_alpha_squared, per_example, sigma

Predict = Callable[[Tensor, Tensor], Prediction]
DrawNoise = Callable[[], Tensor]


@dataclass(frozen=True)
class Past:
    """What a multistep stepper remembers: the last prediction."""

    prediction: Prediction


class Stepper(ABC):
    """One step of a sampler."""

    @abstractmethod
    def __call__(
        self, z: Tensor, gamma_t: Tensor, gamma_s: Tensor, predict: Predict, noise: DrawNoise, past: Past | None
    ) -> tuple[Tensor, Past | None]:
        """(z_s, what the next step may need).

        Args:
            z: z_t, [B, ...].
            gamma_t, gamma_s: [B] float64.
            predict: (z, gamma) -> Prediction, the network.
            noise: draws a fresh eps on the space.
            past: what the previous step returned; None on the first.
        """


class Ancestral(Stepper):
    """z_s ~ p(z_s | z_t) = q(z_s | z_t, x_hat) (Ho et al. 2020), widened by Var[x | z_t] where the denoiser knows
    it."""

    def __call__(
        self, z: Tensor, gamma_t: Tensor, gamma_s: Tensor, predict: Predict, noise: DrawNoise, past: Past | None
    ) -> tuple[Tensor, Past | None]:
        prediction = predict(z, gamma_t)
        c = -torch.expm1(gamma_s - gamma_t)
        shrink = torch.exp(0.5 * (log_alpha_squared(gamma_s) - log_alpha_squared(gamma_t)))
        mean = per_example(shrink, z) * (z - per_example(c * sigma(gamma_t), z) * prediction.eps)
        std = per_example(sigma(gamma_s) * c.sqrt(), z)
        if prediction.x_variance is not None:
            std = std * torch.sqrt(1 + per_example(torch.exp(-gamma_s) * c, z) * prediction.x_variance)
        return mean + std * noise(), None


class DDIM(Stepper):
    """z_s = alpha_s x_hat + sqrt(sigma_s^2 - eta^2 v) eps_hat + eta sqrt(v) eps, v = sigma_s^2 c (Song et al. 2021,
    eqs. 12, 16).

    eta = 0 is the deterministic flow, eta = 1 the variance of Ancestral: the paper's convention.

    Raises:
        ValueError: eta is not in [0, 1].
    """

    def __init__(self, eta: float = 0.0) -> None:
        if not 0 <= eta <= 1:
            raise ValueError(f"eta = {eta} must lie in [0, 1]: 0 is deterministic, 1 is ancestral")
        self.eta = eta

    def __call__(
        self, z: Tensor, gamma_t: Tensor, gamma_s: Tensor, predict: Predict, noise: DrawNoise, past: Past | None
    ) -> tuple[Tensor, Past | None]:
        prediction = predict(z, gamma_t)
        if not self.eta:
            return _ddim(prediction, gamma_s), None
        v = -torch.expm1(gamma_s - gamma_t).clamp(max=0) * self.eta**2
        along, fresh = sigma(gamma_s) * torch.sqrt(1 - v), sigma(gamma_s) * torch.sqrt(v)
        mean = per_example(alpha(gamma_s), z) * prediction.x + per_example(along, z) * prediction.eps
        return mean + per_example(fresh, z) * noise(), None


class Heun(Stepper):
    """The trapezoidal rule on the probability flow d(z / alpha) = eps_hat d(sigma / alpha) (Karras et al. 2022,
    algorithm 1).

    Second order; two network calls a step.
    """

    def __call__(
        self, z: Tensor, gamma_t: Tensor, gamma_s: Tensor, predict: Predict, noise: DrawNoise, past: Past | None
    ) -> tuple[Tensor, Past | None]:
        first = predict(z, gamma_t)
        second = predict(_ddim(first, gamma_s), gamma_s)
        shrink = torch.exp(0.5 * (log_alpha_squared(gamma_s) - log_alpha_squared(gamma_t)))
        # alpha_s (sigma_s / alpha_s - sigma_t / alpha_t)
        advance = sigma(gamma_s) * -torch.expm1((gamma_t - gamma_s) / 2)
        return per_example(shrink, z) * z + per_example(advance, z) * 0.5 * (first.eps + second.eps), None


class DPMSolver2M(Stepper):
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): second order with one network call a step.

    With lambda = -gamma / 2, h = lambda_s - lambda_t, r = h_previous / h:
    D = x_hat + (x_hat - x_hat_previous) / (2 r),  z_s = (sigma_s / sigma_t) z_t - alpha_s expm1(-h) D.
    """

    def __call__(
        self, z: Tensor, gamma_t: Tensor, gamma_s: Tensor, predict: Predict, noise: DrawNoise, past: Past | None
    ) -> tuple[Tensor, Past | None]:
        prediction = predict(z, gamma_t)
        h = (gamma_t - gamma_s) / 2
        direction = prediction.x
        if past is not None:
            half_ratio = (gamma_t - gamma_s) / (2 * (past.prediction.gamma - gamma_t))
            direction = direction + per_example(half_ratio, z) * (prediction.x - past.prediction.x)
        decay = per_example(sigma(gamma_s) / sigma(gamma_t), z)
        z_s = decay * z - per_example(alpha(gamma_s) * torch.expm1(-h), z) * direction
        return z_s, Past(prediction)


def _ddim(prediction: Prediction, gamma_s: Tensor) -> Tensor:
    """alpha_s x_hat + sigma_s eps_hat, the first-order step of the flow."""
    z = prediction.z
    return per_example(alpha(gamma_s), z) * prediction.x + per_example(sigma(gamma_s), z) * prediction.eps


STEPPERS: dict[str, type[Stepper]] = {
    "ancestral": Ancestral,
    "ddim": DDIM,
    "heun": Heun,
    "dpm++2m": DPMSolver2M,
}


def stepper_named(name: str) -> Stepper:
    """The stepper of that name in STEPPERS, with its defaults.

    Raises:
        ValueError: there is none.
    """
    if name not in STEPPERS:
        raise ValueError(f"unknown sampler '{name}': choose one of {', '.join(STEPPERS)}")
    return STEPPERS[name]()
