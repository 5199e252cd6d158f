import math

import pytest
import torch

from medmol_diffusion.core import (
    VE,
    Cosine,
    DDPMLinear,
    Karras,
    LearnedSchedule,
    LinearGamma,
    Polynomial,
    RectifiedFlow,
    ScaledLinear,
    Schedule,
    Sigmoid,
    SubVP,
    alpha,
    sigma,
)
from medmol_diffusion.core.schedule import Tabulated, log_alpha_squared, log_sigma_squared
from tests.core import oracle

SCHEDULES: dict[str, Schedule] = {
    **oracle.SCHEDULES,
    "polynomial_3": Polynomial(power=3.0, steps=100),
    "sigmoid_late": Sigmoid(-10.0, 8.0, start=0.0, end=3.0, temperature=0.7),
    "karras_1": Karras(rho=1.0),
}
ZERO_SNR: dict[str, tuple[Tabulated, Tabulated]] = {
    kind.__name__: (kind(zero_snr=True), kind()) for kind in (DDPMLinear, ScaledLinear)
}
TIMES = torch.linspace(0, 1, 101, dtype=torch.float64)
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


@schedules
def test_derivative_is_that_of_gamma_to_the_last_digits(schedule: Schedule) -> None:
    t = torch.linspace(0.0013, 0.9987, 401, dtype=torch.float64, requires_grad=True)
    (exact,) = torch.autograd.grad(schedule.gamma(t).sum(), t)
    torch.testing.assert_close(schedule.derivative(t.detach()), exact, rtol=1e-11, atol=0)


@schedules
def test_time_is_the_inverse_of_gamma(schedule: Schedule) -> None:
    torch.testing.assert_close(schedule.time(schedule.gamma(TIMES)), TIMES, rtol=0, atol=1e-12)
    beyond = torch.tensor([schedule.gamma_0 - 1, schedule.gamma_1 + 1], dtype=torch.float64)
    torch.testing.assert_close(schedule.time(beyond), TIMES[[0, -1]], rtol=0, atol=1e-15)


@schedules
def test_log_density_is_that_of_gamma_at_a_uniform_time(schedule: Schedule) -> None:
    """Integrated over gamma it is the distribution function, which at gamma(t) is t."""
    edges = schedule.gamma(torch.linspace(0.2, 0.7, 20_001, dtype=torch.float64))
    middle = (edges[1:] + edges[:-1]) / 2
    assert (schedule.log_density(middle).exp() * edges.diff()).sum().item() == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize("kind", [LinearGamma, Cosine, Sigmoid, RectifiedFlow, LearnedSchedule])
@pytest.mark.parametrize("ends", [(-10.0, 8.0), (-30.0, 0.5), (1.0, 12.0)])
def test_the_end_points_are_those_given(kind: type, ends: tuple[float, float]) -> None:
    schedule = kind(*ends)
    assert (schedule.gamma_0, schedule.gamma_1) == pytest.approx(ends, abs=1e-12, rel=0)
    assert schedule.gamma(TIMES[[0, -1]]).tolist() == pytest.approx(ends, abs=1e-12, rel=0)


@pytest.mark.parametrize(("start", "end", "temperature"), [(-3.0, 3.0, 1.0), (0.0, 3.0, 0.7), (-3.0, 3.0, 0.1)])
def test_sigmoid_is_the_published_alpha_cut_in_time(start: float, end: float, temperature: float) -> None:
    schedule = Sigmoid(-6.0, 6.0, start, end, temperature)
    low, high = (torch.sigmoid(torch.tensor(v / temperature, dtype=torch.float64)) for v in (start, end))

    def published(time: torch.Tensor) -> torch.Tensor:
        return (high - torch.sigmoid((start + (end - start) * time) / temperature)) / (high - low)

    # The times of the two ends, from alpha^2 by the inverse of the sigmoid; all between are evenly spaced.
    ends = torch.sigmoid(torch.tensor([6.0, -6.0], dtype=torch.float64))
    cut = (temperature * torch.logit(high - (high - low) * ends) - start) / (end - start)
    alpha2 = published(cut[0] + (cut[1] - cut[0]) * TIMES)
    torch.testing.assert_close(torch.sigmoid(-schedule.gamma(TIMES)), alpha2, rtol=1e-9, atol=1e-12)


def test_karras_has_the_noise_levels_of_edm() -> None:
    n, rho = 18, 7.0
    i = torch.arange(n, dtype=torch.float64)
    levels = (80 ** (1 / rho) + i / (n - 1) * (0.002 ** (1 / rho) - 80 ** (1 / rho))) ** rho
    gamma = Karras().gamma(1 - i / (n - 1))
    torch.testing.assert_close(sigma(gamma) / alpha(gamma), levels, rtol=1e-12, atol=0)


def test_ve_is_geometric() -> None:
    gamma = VE(0.01, 50.0).gamma(TIMES)
    torch.testing.assert_close(sigma(gamma) / alpha(gamma), 0.01 * (50.0 / 0.01) ** TIMES, rtol=1e-12, atol=0)
    assert torch.equal(gamma, LinearGamma(2 * math.log(0.01), 2 * math.log(50.0)).gamma(TIMES))


def test_rectified_flow_is_linear_in_the_share_of_noise() -> None:
    gamma = RectifiedFlow(-10.0, 8.0).gamma(TIMES)
    share = sigma(gamma) / (alpha(gamma) + sigma(gamma))
    torch.testing.assert_close(share.diff(), share.diff()[:1].expand(100), rtol=1e-10, atol=0)


def test_sub_vp_has_the_signal_to_noise_ratio_of_its_sde() -> None:
    u = 1e-3 + (1 - 1e-3) * TIMES
    b = 0.1 * u + 19.9 * u**2 / 2
    snr = torch.exp(-b) / (1 - torch.exp(-b)) ** 2
    torch.testing.assert_close(torch.exp(-SubVP().gamma(TIMES)), snr, rtol=1e-10, atol=0)
    assert SubVP().gamma_0 == pytest.approx(-18.2, abs=0.05)
    assert SubVP(t_min=1e-5).gamma_0 == pytest.approx(-27.6, abs=0.05)


def test_scaled_linear_is_the_product_of_one_minus_beta() -> None:
    beta = torch.linspace(0.0015**0.5, 0.0195**0.5, 1000, dtype=torch.float64) ** 2
    torch.testing.assert_close(torch.sigmoid(-ScaledLinear().table), (1 - beta).cumprod(0), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("schedule", "plain"), ZERO_SNR.values(), ids=ZERO_SNR.keys())
def test_zero_terminal_snr_shifts_and_stretches_alpha(schedule: Tabulated, plain: Tabulated) -> None:
    """Lin et al. 2023, algorithm 1: the last alpha is 0, the first is kept."""
    before = alpha(plain.table)
    after = (before - before[-1]) * before[0] / (before[0] - before[-1])
    torch.testing.assert_close(alpha(schedule.table), after, rtol=1e-10, atol=1e-15)
    assert schedule.gamma_0 == plain.gamma_0
    assert schedule.gamma_1 == math.inf
    assert torch.isfinite(schedule.table[:-1]).all()
    assert (alpha(schedule.table[-1]), sigma(schedule.table[-1])) == (0, 1)


@pytest.mark.parametrize("schedule", [pair[0] for pair in ZERO_SNR.values()], ids=ZERO_SNR.keys())
def test_the_last_cell_of_zero_terminal_snr_is_linear_in_snr(schedule: Tabulated) -> None:
    n = schedule.transitions
    t = torch.linspace(1 - 1 / n, 1, 101, dtype=torch.float64)
    snr = torch.exp(-schedule.gamma(t))
    torch.testing.assert_close(snr, snr[0] * (1 - (t * n - (n - 1))), rtol=1e-9, atol=1e-15)
    inner = t[1:-1].clone().requires_grad_()
    (exact,) = torch.autograd.grad(schedule.gamma(inner).sum(), inner)
    torch.testing.assert_close(schedule.derivative(t[1:-1]), exact, rtol=1e-11, atol=0)
    last = torch.tensor(1 - 2.0**-53, dtype=torch.float64)
    assert math.isfinite(schedule.gamma(last).item())
    assert math.isfinite(schedule.derivative(last).item())
    whole = schedule.gamma(torch.linspace(0, 1, 4001, dtype=torch.float64))
    assert (whole.diff() > 0).all()
    torch.testing.assert_close(schedule.time(whole[:-1]), torch.linspace(0, 1, 4001).double()[:-1], rtol=0, atol=1e-7)


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
@pytest.mark.parametrize("kind", [LinearGamma, Cosine, Sigmoid, RectifiedFlow, LearnedSchedule])
def test_impossible_end_points_are_refused(kind: type, ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="gamma_0"):
        kind(*ends)


@pytest.mark.parametrize(
    "table",
    [
        [0.0],
        [0.0, 0.0],
        [1.0, 0.0],
        [0.0, math.inf],
        [[0.0, 1.0]],
        [0.0, 1.0, math.inf, math.inf],
        [-math.inf, 0.0, 1.0],
    ],
)
def test_impossible_tables_are_refused(table: list[float]) -> None:
    with pytest.raises(ValueError, match="increasing"):
        Tabulated(torch.tensor(table))


@pytest.mark.parametrize(
    ("kind", "arguments", "field"),
    [
        (Sigmoid, {"start": 3.0, "end": -3.0}, "start"),
        (Sigmoid, {"temperature": 0.0}, "temperature"),
        (Karras, {"sigma_min": 0.0}, "sigma_min"),
        (Karras, {"sigma_max": math.inf}, "sigma_max"),
        (Karras, {"rho": 0.0}, "rho"),
        (VE, {"sigma_min": 60.0}, "sigma_min"),
        (SubVP, {"beta_min": 0.0}, "beta_min"),
        (SubVP, {"t_min": 0.0}, "t_min"),
        (LearnedSchedule, {"hidden": 0}, "hidden"),
    ],
)
def test_impossible_arguments_are_refused(kind: type, arguments: dict[str, float], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        kind(**arguments)
