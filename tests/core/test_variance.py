"""The learned reverse variance: its ends, its gradients, and what it gains in few steps on Gaussian data."""

import math

import pytest
import torch
from torch import Tensor, nn

from medmol_diffusion.core import (
    Ancestral,
    Denoiser,
    Dense,
    Eps,
    GaussianDenoiser,
    LinearGamma,
    Native,
    Prediction,
    Schedule,
    Space,
    V,
    VarianceDenoiser,
    ZeroCentre,
    elbo,
    grid,
    hybrid_loss,
    sample,
    sigma,
)
from medmol_diffusion.core.observation import Gaussian
from tests.core.oracle import molecule_space, schedules, sigma_points

SCHEDULE, TRANSITIONS = LinearGamma(-4.0, 3.0), 4
EIGENVALUES = torch.tensor([0.05, 0.4, 1.0], dtype=torch.float64)
ORACLE = GaussianDenoiser(EIGENVALUES, optimal_variance=True)
LEVELS = SCHEDULE.gamma(torch.arange(1, TRANSITIONS + 1, dtype=torch.float64) / TRANSITIONS)


class Gains(nn.Module):
    """v_hat = gain(gamma, element) z and a logit for every element: right for Gaussian data, if the gain is."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.variance = (
            nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, len(EIGENVALUES))).double() for _ in range(2)
        )

    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: object = None) -> Tensor:
        level = torch.stack([gamma / 4, sigma(gamma)], 1)
        return torch.cat([self.mean(level) * z, self.variance(level)], 1)


class FixedVariance(Denoiser):
    """The same mean without the variance."""

    def __init__(self, inner: Denoiser) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: object = None) -> Prediction:
        found = self.inner(z, gamma, space)
        return Prediction(found.output, z, gamma, found.parameterization, space)


def built() -> VarianceDenoiser:
    torch.manual_seed(0)
    return VarianceDenoiser(Gains(), V())


def hybrid(denoiser: Denoiser, x: Tensor, generator: torch.Generator, weight: float) -> Tensor:
    loss = hybrid_loss(denoiser, SCHEDULE, TRANSITIONS, Native(), Dense(x), x, generator, bound_weight=weight)
    return loss.mean()


@pytest.fixture(scope="module")
def trained() -> VarianceDenoiser:
    """A tiny network taught by the hybrid loss on samples of Gaussian data."""
    denoiser, generator = built(), torch.Generator().manual_seed(0)
    steps = 400
    optimiser = torch.optim.Adam(denoiser.parameters(), lr=0.02)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    like = torch.zeros(512, len(EIGENVALUES), dtype=torch.float64)
    for _ in range(steps):
        optimiser.zero_grad()
        hybrid(denoiser, ORACLE.sample(like, generator), generator, 1.0).backward()
        optimiser.step()
        decay.step()
    return denoiser.requires_grad_(False)


def widening(denoiser: Denoiser) -> Tensor:
    """[T, D] r, the reverse variance of each of the T steps over beta_tilde."""
    z = torch.zeros(TRANSITIONS, len(EIGENVALUES), dtype=torch.float64)
    variance = denoiser(z, LEVELS, Dense(z)).x_variance
    assert variance is not None
    snr = torch.exp(-torch.cat([torch.tensor([SCHEDULE.gamma_0]), LEVELS]))
    return 1 - snr.diff()[:, None] * variance


def test_the_hybrid_loss_finds_the_optimal_variance(trained: VarianceDenoiser) -> None:
    """r of every step and element within 5 %. Where r is near one the bound hardly sees C, and C is further off."""
    optimal = widening(ORACLE)
    torch.testing.assert_close(widening(trained), optimal, rtol=0.05, atol=0)
    assert optimal.min() < 1.02
    assert optimal.max() > 5  # and the test can tell
    assert (widening(built()) / optimal - 1).abs().max() > 0.5


def exact_bound(denoiser: Denoiser, transitions: int) -> float:
    """The discrete bound in expectation over data and noise: it is quadratic in them."""
    x, space = sigma_points(ORACLE, (len(EIGENVALUES),))
    bound = elbo(denoiser, SCHEDULE, space, x, Gaussian(), x, torch.Generator(), transitions, draws=None)
    return bound.terms["prior"].mean().item() + bound.terms["diffusion"].mean().item()


def test_the_bound_of_few_steps_gains_by_the_learned_variance(trained: VarianceDenoiser) -> None:
    """The optimal variance is the least of the three, and what is learned comes to within 0.01 nats of it."""
    learned, fixed, optimal = (exact_bound(d, TRANSITIONS) for d in (trained, FixedVariance(trained), ORACLE))
    assert optimal <= learned < optimal + 0.01
    assert learned < fixed - 4
    # One C serves every number of steps: two steps use every other level of the four it was taught at.
    assert exact_bound(trained, 2) < min(exact_bound(FixedVariance(trained), 2) - 14, optimal + 0.01)


def test_the_whole_bound_stays_above_the_entropy(trained: VarianceDenoiser) -> None:
    x, space = sigma_points(ORACLE, (len(EIGENVALUES),))
    bound = elbo(trained, SCHEDULE, space, x, Gaussian(), x, torch.Generator(), TRANSITIONS, draws=None)
    assert 0 <= bound.total.mean().item() - ORACLE.entropy() < 0.1


def test_four_ancestral_steps_have_the_right_spread_with_the_learned_variance_alone(trained: VarianceDenoiser) -> None:
    gamma_0 = torch.tensor(SCHEDULE.gamma_0, dtype=torch.float64)
    expected = torch.sqrt(torch.sigmoid(-gamma_0) * EIGENVALUES + torch.sigmoid(gamma_0))
    spreads = []
    for denoiser in (trained, FixedVariance(trained)):
        generator = torch.Generator().manual_seed(0)
        z = torch.randn(20_000, len(EIGENVALUES), generator=generator, dtype=torch.float64)
        z_0 = sample(denoiser, Ancestral(), grid(SCHEDULE, TRANSITIONS), Dense(z), z, generator)
        spreads.append((z_0.std(0) / expected - 1).abs())
    assert spreads[0].max() < 0.02  # a standard error is 0.005
    assert spreads[1].min() > 0.1


def test_the_bound_teaches_the_variance_and_not_the_mean() -> None:
    x = ORACLE.sample(torch.zeros(64, len(EIGENVALUES), dtype=torch.float64), torch.Generator().manual_seed(0))
    gradients = []
    for weight in (0.0, 1.0):
        denoiser = built()
        hybrid(denoiser, x, torch.Generator().manual_seed(1), weight).backward()
        heads = (denoiser.network.mean, denoiser.network.variance)
        gradients.append([[p.grad for p in head.parameters()] for head in heads])
    (mean, variance), (mean_with, variance_with) = gradients
    assert all(torch.equal(a, b) and a.abs().max() > 0 for a, b in zip(mean, mean_with, strict=True))
    assert all(g.abs().max() == 0 for g in variance)
    assert all(g.abs().max() > 0 for g in variance_with)


class Constant(nn.Module):
    """Mean zero, one logit everywhere."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = logit

    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: object = None) -> Tensor:
        return torch.cat([torch.zeros_like(z), torch.full_like(z, self.logit)], -1)


def reverse_variance(logit: float, gamma_t: Tensor, gamma_s: Tensor) -> Tensor:
    """[B] the variance of one Ancestral step, read off its noise."""
    z = torch.zeros(len(gamma_t), 1, dtype=torch.float64)
    denoiser = VarianceDenoiser(Constant(logit), Eps())
    z_s, _ = Ancestral()(
        z, gamma_t, gamma_s, lambda state, gamma: denoiser(state, gamma, Dense(state)), lambda: torch.ones_like(z), None
    )
    return z_s[:, 0].square()


@schedules
@pytest.mark.parametrize("steps", [4, 100, 999])
def test_the_ends_are_beta_tilde_and_beta_for_every_step_length(schedule: Schedule, steps: int) -> None:
    """beta = 1 - alpha_t^2 / alpha_s^2 and beta_tilde = beta sigma_s^2 / sigma_t^2 (Ho et al. 2020, section 3.2)."""
    gammas = schedule.gamma(torch.linspace(0, 1, steps + 1, dtype=torch.float64))
    gamma_s, gamma_t = gammas[:-1], gammas[1:]
    beta = -torch.expm1(nn.functional.softplus(gamma_s) - nn.functional.softplus(gamma_t))
    beta_tilde = beta * torch.sigmoid(gamma_s) / torch.sigmoid(gamma_t)
    torch.testing.assert_close(reverse_variance(math.inf, gamma_t, gamma_s), beta, rtol=1e-9, atol=0)
    torch.testing.assert_close(reverse_variance(-math.inf, gamma_t, gamma_s), beta_tilde, rtol=1e-9, atol=0)


def test_between_the_ends_a_short_step_has_the_variance_of_nichol_and_dhariwal() -> None:
    """log variance = v log beta + (1 - v) log beta_tilde (their eq. 15): equal to second order in the step."""
    gamma_t = torch.linspace(-8, 6, 30, dtype=torch.float64)
    logit, gaps = 0.4, []
    v = 1 / (1 + math.exp(-logit))
    for step in (0.02, 0.01):
        low, found, high = (reverse_variance(value, gamma_t, gamma_t - step) for value in (-math.inf, logit, math.inf))
        gaps.append((found.log() - v * high.log() - (1 - v) * low.log()).abs().max().item())
    assert gaps[0] < 1e-4
    assert math.log2(gaps[0] / gaps[1]) == pytest.approx(2, abs=0.02)


def test_the_largest_variance_is_that_of_white_gaussian_data() -> None:
    gamma = torch.linspace(-12, 12, 9, dtype=torch.float64)
    z = torch.zeros(9, 2, dtype=torch.float64)
    denoiser = VarianceDenoiser(Constant(math.inf), Eps(), data_std=0.3)
    white = GaussianDenoiser(torch.full((2,), 0.09, dtype=torch.float64), optimal_variance=True)
    torch.testing.assert_close(denoiser(z, gamma, Dense(z)).x_variance, white(z, gamma, Dense(z)).x_variance)
    infinite = denoiser.bound(torch.full((1,), math.inf, dtype=torch.float64), z[:1])
    torch.testing.assert_close(infinite, torch.full((1, 1), 0.09, dtype=torch.float64))


def test_what_has_no_variance_for_every_element_is_refused() -> None:
    gamma = torch.zeros(2, dtype=torch.float64)
    mask = torch.ones(2, 3, dtype=torch.bool)
    denoiser = VarianceDenoiser(Constant(0.0), V())
    assert VarianceDenoiser(Constant(0.0), Eps()).needs_signal
    assert not denoiser.needs_signal
    with pytest.raises(ValueError, match="data_std = 0"):
        VarianceDenoiser(Constant(0.0), V(), data_std=0)
    with pytest.raises(ValueError, match="needs twice"):
        VarianceDenoiser(Constant(0.0), V(), dim=0)(torch.zeros(2, 3), gamma, Dense(torch.zeros(2, 3)))
    for space in (ZeroCentre(mask), molecule_space(mask, 2)):
        with pytest.raises(ValueError, match="zero-centre"):
            denoiser(torch.zeros(space.shape), gamma, space)
