"""V17: every sampler, every number of steps, every schedule, against the exact flow and the closed-form recursions."""

import itertools
import math

import pytest
import torch

from medmol_diffusion import core
from medmol_diffusion.core import (
    Ancestral,
    Dense,
    GaussianDenoiser,
    LinearGamma,
    Schedule,
)
from tests.core.oracle import EIGENVALUES, GivenNoise, schedules


def flow_error(stepper: core.Stepper, steps: int) -> float:
    oracle = GaussianDenoiser(EIGENVALUES)
    gammas = core.grid(LinearGamma(-3.0, 3.0), steps, "gamma")
    z = torch.ones(2, 4, dtype=torch.float64)
    found = core.sample(oracle, stepper, gammas, Dense(z), z, torch.Generator())
    exact = core.gaussian_flow(z, EIGENVALUES, gammas[0].item(), gammas[-1].item())
    return (found - exact).abs().max().item()


@pytest.mark.parametrize(
    ("stepper", "order"), [(core.DDIM(), 1), (core.Heun(), 2), (core.DPMSolver2M(), 2)], ids=["ddim", "heun", "dpm++2m"]
)
def test_v17_deterministic_samplers_follow_the_flow_at_their_order(stepper: core.Stepper, order: int) -> None:
    coarse, fine = flow_error(stepper, 400), flow_error(stepper, 800)
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.1)


@schedules
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 50, 250])
def test_v17_ancestral_follows_its_variance_recursion_at_every_number_of_steps(schedule: Schedule, steps: int) -> None:
    """Var_s = (a_s / a_t)^2 (1 - c sigma_t^2 / V_t)^2 Var_t + sigma_s^2 c, V = alpha^2 l + sigma^2, derived on its own.

    The step is linear, z_s = A z_t + B eps: A and B are read off with z = 1, eps = 0 and z = 0, eps = 1.
    """
    oracle = GaussianDenoiser(EIGENVALUES)
    gammas = core.grid(schedule, steps)
    expected = torch.ones(4, dtype=torch.float64)
    found = torch.ones(4, dtype=torch.float64)
    like = torch.stack([torch.ones(4), torch.zeros(4)]).double()
    for gamma_t, gamma_s in itertools.pairwise(gammas):
        a_t, b_t, a_s, b_s = (f(g) for g in (gamma_t, gamma_s) for f in (core.alpha, core.sigma))
        c = 1 - (a_t * b_s / (a_s * b_t)) ** 2
        gain = a_s / a_t * (1 - c * b_t**2 / (a_t**2 * EIGENVALUES + b_t**2))
        expected = gain**2 * expected + b_s**2 * c
        step = core.sample(
            oracle,
            Ancestral(),
            torch.stack([gamma_t, gamma_s]),
            GivenNoise(Dense(like), 1 - like),
            like,
            torch.Generator(),
        )
        found = step[0] ** 2 * found + step[1] ** 2
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_v17_ancestral_with_the_optimal_variance_is_exact_at_every_number_of_steps() -> None:
    schedule = LinearGamma(-8.0, 8.0)
    oracle = GaussianDenoiser(EIGENVALUES, optimal_variance=True)
    for steps in (1, 2, 5, 40):
        gammas = core.grid(schedule, steps)
        like = torch.stack([torch.ones(4), torch.zeros(4)]).double()
        gamma_1 = gammas[0]
        variance = core.alpha(gamma_1) ** 2 * EIGENVALUES + core.sigma(gamma_1) ** 2
        for pair in gammas.unfold(0, 2, 1):
            step = core.sample(oracle, Ancestral(), pair, GivenNoise(Dense(like), 1 - like), like, torch.Generator())
            variance = step[0] ** 2 * variance + step[1] ** 2
        gamma_0 = gammas[-1]
        exact = core.alpha(gamma_0) ** 2 * EIGENVALUES + core.sigma(gamma_0) ** 2
        torch.testing.assert_close(variance, exact, rtol=1e-10, atol=1e-10)
