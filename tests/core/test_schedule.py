import math

import pytest
import torch

from medmol_diffusion.core import Cosine, DDPMLinear, LinearGamma, Polynomial, Schedule, alpha, sigma
from medmol_diffusion.core.schedule import Tabulated, log_alpha_squared, log_sigma_squared

SCHEDULES: dict[str, Schedule] = {
    "linear_gamma": LinearGamma(-10.0, 8.0),
    "cosine": Cosine(-10.0, 8.0),
    "ddpm_linear": DDPMLinear(),
    "polynomial_2": Polynomial(),
    "polynomial_3": Polynomial(power=3.0, steps=100),
}
schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


def test_polynomial_has_the_constants_of_edm() -> None:
    schedule = Polynomial()
    assert schedule.transitions == 1000
    assert round(schedule.gamma_0, 4) == -11.5129
    assert round(schedule.gamma_1, 4) == 11.5125
    assert round(sigma(torch.tensor(schedule.gamma_0)).item(), 7) == 0.0031623
    assert round(schedule.gamma_0 / 2 + 0.5 * math.log(2 * math.pi), 5) == -4.83752  # C0 per degree of freedom


@schedules
def test_gamma_is_finite_and_increasing(schedule: Schedule) -> None:
    gamma = schedule.gamma(torch.linspace(0, 1, 2001, dtype=torch.float64))
    assert torch.isfinite(gamma).all()
    assert (gamma.diff() > 0).all()
    assert (gamma[0].item(), gamma[-1].item()) == (schedule.gamma_0, schedule.gamma_1)


@schedules
def test_derivative_is_that_of_gamma(schedule: Schedule) -> None:
    pieces = schedule.transitions if isinstance(schedule, Tabulated) else 1000
    t, h = (torch.arange(pieces, dtype=torch.float64) + 0.5) / pieces, 1e-6
    difference = (schedule.gamma(t + h) - schedule.gamma(t - h)) / (2 * h)
    torch.testing.assert_close(schedule.derivative(t), difference, rtol=1e-5, atol=1e-6)


@schedules
def test_schedules_stay_in_float64(schedule: Schedule) -> None:
    t = torch.linspace(0, 1, 17)  # float32
    before = schedule.gamma(t)
    cast = schedule.half()
    assert before.dtype == cast.gamma(t).dtype == cast.derivative(t).dtype == torch.float64
    assert torch.equal(cast.gamma(t), before)


def test_ddpm_linear_is_the_product_of_one_minus_beta() -> None:
    beta = torch.linspace(1e-4, 2e-2, 1000, dtype=torch.float64)
    torch.testing.assert_close(torch.sigmoid(-DDPMLinear().table), (1 - beta).cumprod(0), rtol=1e-12, atol=0)


def test_cosine_is_linear_in_the_angle() -> None:
    """alpha = cos(theta) and sigma = sin(theta), theta linear in t (Nichol & Dhariwal 2021)."""
    gamma = Cosine(-10.0, 8.0).gamma(torch.linspace(0, 1, 11, dtype=torch.float64))
    theta = torch.atan2(sigma(gamma), alpha(gamma))
    torch.testing.assert_close(theta.diff(), theta.diff()[:1].expand(10), rtol=1e-10, atol=0)


def test_alpha_and_sigma_keep_their_digits_at_both_ends() -> None:
    gamma = torch.tensor([-80.0, -15.0, 0.0, 15.0, 80.0], dtype=torch.float64)
    torch.testing.assert_close(alpha(gamma) ** 2 + sigma(gamma) ** 2, torch.ones(5).double(), rtol=1e-15, atol=0)
    torch.testing.assert_close(log_sigma_squared(gamma) - log_alpha_squared(gamma), gamma, rtol=1e-14, atol=0)
    assert sigma(gamma)[0].item() == pytest.approx(math.exp(-40), rel=1e-14)
    assert alpha(gamma)[-1].item() == pytest.approx(math.exp(-40), rel=1e-14)


@pytest.mark.parametrize("ends", [(1.0, 1.0), (2.0, -2.0), (-math.inf, 0.0), (0.0, math.nan)])
@pytest.mark.parametrize("kind", [LinearGamma, Cosine])
def test_impossible_end_points_are_refused(kind: type, ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="gamma_0"):
        kind(*ends)


@pytest.mark.parametrize("table", [[0.0], [0.0, 0.0], [1.0, 0.0], [0.0, math.inf], [[0.0, 1.0]]])
def test_impossible_tables_are_refused(table: list[float]) -> None:
    with pytest.raises(ValueError, match="increasing"):
        Tabulated(torch.tensor(table))
