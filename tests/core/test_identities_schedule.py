"""V6: the continuous diffusion term depends on the end points of the schedule only, whatever the denoiser says."""

import math
from functools import partial

import pytest
import torch

from medmol_diffusion.core import (
    VE,
    Cosine,
    DDPMLinear,
    Dense,
    GaussianDenoiser,
    Karras,
    LinearGamma,
    Preconditioned,
    Prediction,
    RectifiedFlow,
    ScaledLinear,
    Schedule,
    Sigmoid,
    Space,
    elbo,
)
from medmol_diffusion.core.denoiser import Denoiser
from medmol_diffusion.core.observation import Gaussian
from tests.core.oracle import EIGENVALUES, learned, schedules, sigma_points
from tests.core.test_identities import exact_diffusion, quadrature

ENDS = (-10.0, 8.0)
SAME_ENDS: dict[str, Schedule] = {
    "cosine": Cosine(*ENDS),
    "sigmoid": Sigmoid(*ENDS),
    "rectified_flow": RectifiedFlow(*ENDS),
    "karras": Karras(math.exp(ENDS[0] / 2), math.exp(ENDS[1] / 2)),
    "karras_3": Karras(math.exp(ENDS[0] / 2), math.exp(ENDS[1] / 2), rho=3.0),
    "ve": VE(math.exp(ENDS[0] / 2), math.exp(ENDS[1] / 2)),
    **{f"learned_{seed}": learned(*ENDS, seed) for seed in range(3)},
}


class Wrong(Denoiser):
    """A denoiser that is right about no data: nonlinear, and with the Wiener gain of another variance."""

    def forward(self, z: torch.Tensor, gamma: torch.Tensor, space: Space, condition: object = None) -> Prediction:
        output = torch.tanh(z + gamma[:, None] / 5)
        return Prediction(output, z, gamma, Preconditioned(torch.tensor(0.7)), space)


@pytest.mark.parametrize("schedule", SAME_ENDS.values(), ids=SAME_ENDS.keys())
@pytest.mark.parametrize("right", [True, False])
def test_v06_the_continuous_term_depends_on_the_end_points_only(schedule: Schedule, right: bool) -> None:
    oracle = GaussianDenoiser(EIGENVALUES)
    x, space = sigma_points(oracle, (4,))
    term = partial(quadrature, denoiser=oracle if right else Wrong(), x=x, space=space, pieces=120)
    expected = term(LinearGamma(*ENDS))
    assert term(schedule) == pytest.approx(expected, abs=1e-10 * max(1, expected))


@schedules
def test_v06_every_schedule_has_the_term_of_a_line_between_its_ends(schedule: Schedule) -> None:
    oracle = GaussianDenoiser(EIGENVALUES)
    x, space = sigma_points(oracle, (4,))
    expected = quadrature(LinearGamma(schedule.gamma_0, schedule.gamma_1), oracle, x, space)
    assert quadrature(schedule, oracle, x, space) == pytest.approx(expected, abs=1e-10 * max(1, expected))


@pytest.mark.parametrize("kind", [DDPMLinear, ScaledLinear])
def test_v06_reaches_an_infinite_end(kind: type[DDPMLinear]) -> None:
    """Zero terminal SNR: the term is that of SNR_1 = 0, the prior is free, and no number of steps is below it (V4)."""
    schedule, oracle = kind(zero_snr=True), GaussianDenoiser(EIGENVALUES)
    x, space = sigma_points(oracle, (4,))
    expected = exact_diffusion(EIGENVALUES, schedule)
    assert quadrature(schedule, oracle, x, space) == pytest.approx(expected, abs=1e-10 * expected)
    terms = [
        elbo(oracle, schedule, space, x, Gaussian(), x, torch.Generator(), steps, draws=None).terms["diffusion"].mean()
        for steps in (500, 250, 1)
    ]
    assert expected < terms[0] < terms[1] < terms[2] < math.inf
    states = oracle.sample(torch.zeros(256, 4, dtype=torch.float64), torch.Generator().manual_seed(0))
    bound = elbo(oracle, schedule, Dense(states), states, Gaussian(), states, torch.Generator().manual_seed(1), draws=8)
    assert bound.settings["gamma_1"] == math.inf
    assert (bound.terms["prior"] == 0).all()
    mean, error = bound.summary()["diffusion"]
    assert abs(mean - expected) < 3 * error
