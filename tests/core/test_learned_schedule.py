"""The learned schedule: its gradient is that of the variance and of nothing else; its end points and the bound stay."""

import copy
from collections.abc import Callable

import pytest
import torch
from scipy.special import roots_legendre
from torch import Tensor, nn

from medmol_diffusion.core import (
    VLB,
    Dense,
    Eps,
    GaussianDenoiser,
    LearnedSchedule,
    Levels,
    LinearGamma,
    NetworkDenoiser,
    NormalGamma,
    Simple,
    Space,
    Streams,
    UniformTime,
    V,
    VarianceDenoiser,
    Weighting,
    denoising_loss,
    elbo,
    hybrid_loss,
    schedule_loss,
    variance_loss,
)
from medmol_diffusion.core.objective import draw
from medmol_diffusion.core.observation import Gaussian
from tests.core.oracle import learned, sigma_points
from tests.core.test_identities import exact_diffusion, quadrature

ENDS = (-10.0, 8.0)
EIGENVALUES = torch.linspace(0.05, 2.0, 54, dtype=torch.float64)


def h(gamma: Tensor) -> Tensor:
    """E |eps - eps_hat|^2 of the Gaussian oracle."""
    snr = EIGENVALUES * torch.exp(-gamma)[..., None]
    return (snr / (1 + snr)).sum(-1)


def nodes(pieces: int = 200) -> tuple[Tensor, Tensor]:
    """Times and weights of Gauss-Legendre on [0, 1], in pieces that are finer at the ends."""
    x, w = (torch.from_numpy(v) for v in roots_legendre(8))
    edges = torch.sigmoid(torch.linspace(-14, 14, pieces + 1, dtype=torch.float64))
    edges[0], edges[-1] = 0, 1
    width = edges.diff()[:, None] / 2
    return (edges[:-1, None] + width * (x + 1)).flatten(), (width * w).flatten()


def second_moment(schedule: LearnedSchedule) -> Tensor:
    """integral of (1/2 gamma'(t) h(gamma(t)))^2 dt: here t is fixed, and gamma moves with the parameters."""
    t, weight = nodes()
    return (weight * (0.5 * schedule.derivative(t) * h(schedule.gamma(t))).square()).sum()


def gradient(value: Tensor, schedule: nn.Module) -> Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(schedule.parameters()))])


@pytest.mark.parametrize(
    "levels", [UniformTime, lambda s: NormalGamma(s, -1.0, 3.0)], ids=["uniform_time", "normal_gamma"]
)
def test_the_gradient_is_that_of_the_second_moment(levels: Callable[[LearnedSchedule], Levels]) -> None:
    """At fixed gamma, from whatever density, what is learned from samples is the derivative of the integral over t."""
    schedule = learned(*ENDS).requires_grad_()
    exact = second_moment(schedule)
    u, weight = nodes()
    gamma, log_q = levels(schedule)(u).detach(), -levels(schedule).derivative(u).log()
    found = (weight * variance_loss(schedule, gamma, h(gamma), log_q)).sum()
    assert found.item() == pytest.approx(exact.item(), rel=1e-6)
    torch.testing.assert_close(
        gradient(found, schedule), gradient(exact, schedule), rtol=1e-5, atol=1e-6 * exact.item()
    )


def test_the_density_defaults_to_that_of_the_schedule() -> None:
    schedule = learned(*ENDS)
    gamma = schedule.gamma(torch.linspace(0.01, 0.99, 7, dtype=torch.float64))
    given = variance_loss(schedule, gamma, h(gamma), schedule.log_density(gamma))
    torch.testing.assert_close(variance_loss(schedule, gamma, h(gamma)), given)
    t = schedule.time(gamma)
    torch.testing.assert_close(given, (0.5 * schedule.derivative(t) * h(gamma)).square(), rtol=1e-8, atol=0)


def estimates(schedule: LearnedSchedule, count: int, seed: int) -> Tensor:
    """Independent one-draw estimates of the diffusion term, over data, noise and t."""
    oracle, generator = GaussianDenoiser(EIGENVALUES), torch.Generator().manual_seed(seed)
    x = oracle.sample(torch.zeros(count, 54, dtype=torch.float64), generator)
    return elbo(oracle, schedule, Dense(x), x, Gaussian(), x, generator).terms["diffusion"].detach()


def test_v06_training_lowers_the_variance_and_leaves_the_bound_and_the_ends() -> None:
    """From a straight line, 60 steps on the Gaussian oracle divide the variance of a one-draw estimate by seven.

    Most of what is left is the spread of the noise, which no schedule removes: by Cauchy and Schwarz the second moment
    is at least (1/2 integral of sqrt(m) d gamma)^2, m(gamma) = E |eps - eps_hat|^4 = h^2 + 2 sum h_i^2 here."""
    oracle, schedule = GaussianDenoiser(EIGENVALUES), LearnedSchedule(*ENDS)
    before = estimates(schedule, 4096, 1)
    x, space = sigma_points(oracle, (54,))
    expected = exact_diffusion(EIGENVALUES, LinearGamma(*ENDS))
    optimiser, generator = torch.optim.Adam(schedule.parameters(), lr=0.03), torch.Generator().manual_seed(0)
    levels = UniformTime(schedule)
    for _ in range(60):
        data = oracle.sample(torch.zeros(64, 54, dtype=torch.float64), generator)
        prediction, eps, gamma_derivative = draw(oracle, levels, Dense(data), data, generator)
        optimiser.zero_grad()
        schedule_loss(levels, prediction, data, eps, gamma_derivative).mean().backward()
        optimiser.step()
    schedule.requires_grad_(False)
    after = estimates(schedule, 4096, 1)
    t, weight = nodes()
    snr = EIGENVALUES * torch.exp(-LinearGamma(*ENDS).gamma(t))[:, None]
    fourth = h(LinearGamma(*ENDS).gamma(t)).square() + 2 * (snr / (1 + snr)).square().sum(1)
    floor = ((ENDS[1] - ENDS[0]) / 2 * (weight * fourth.sqrt()).sum()) ** 2 - expected**2
    assert after.var() < before.var() / 7
    assert 0.9 * floor < after.var() < 3 * floor
    assert abs(after.mean().item() - expected) < 3 * after.std().item() / 64
    assert quadrature(schedule, oracle, x, space, pieces=120) == pytest.approx(expected, abs=1e-10 * expected)
    assert (schedule.gamma_0, schedule.gamma_1) == ENDS
    ends = schedule.gamma(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
    assert ends == pytest.approx(ENDS, abs=1e-12, rel=0)


class Gain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.3, dtype=torch.float64))

    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: object = None) -> Tensor:
        return self.gain * z


@pytest.mark.parametrize("levels", [UniformTime, lambda s: NormalGamma(s, 0.0, 3.0)], ids=["uniform", "normal"])
@pytest.mark.parametrize("weighting", [Simple(), VLB()], ids=["simple", "vlb"])
def test_network_and_schedule_do_not_see_each_others_loss(
    levels: Callable[[LearnedSchedule], Levels], weighting: Weighting
) -> None:
    """The value and the network's gradient are those of the same schedule held still; the schedule's gradient is that
    of log E[variance_loss] alone, though the network's input moves with gamma."""
    network, schedule = Gain(), learned(*ENDS).requires_grad_()
    still = copy.deepcopy(schedule).requires_grad_(False)
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    denoiser = NetworkDenoiser(network, Eps())
    losses, slopes = [], []
    for which in (schedule, still):
        streams = Streams(0, torch.arange(8))
        loss = denoising_loss(denoiser, levels(which), weighting, Dense(x), x, streams)
        losses.append(loss.detach())
        slopes.append(gradient(loss.mean(), network))
        if which is schedule:
            found = denoising_loss(denoiser, levels(which), weighting, Dense(x), x, Streams(0, torch.arange(8)))
            learning = gradient(found.mean(), schedule)
    assert torch.equal(*losses)
    assert torch.equal(*slopes)
    prediction, eps, gamma_derivative = draw(denoiser, levels(schedule), Dense(x), x, Streams(0, torch.arange(8)))
    error = prediction.eps_error(x, eps).square().sum(1)
    alone = variance_loss(schedule, prediction.gamma, error, -gamma_derivative.log()).mean().log()
    torch.testing.assert_close(learning, gradient(alone, schedule), rtol=1e-10, atol=1e-12)
    assert learning.abs().max() > 1e-3


def test_a_fixed_schedule_has_nothing_to_learn() -> None:
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    levels = UniformTime(LinearGamma(*ENDS))
    prediction, eps, rate = draw(NetworkDenoiser(Gain(), Eps()), levels, Dense(x), x, Streams(0, torch.arange(8)))
    loss = schedule_loss(levels, prediction, x, eps, rate)
    assert torch.equal(loss, torch.zeros(8))
    assert not loss.requires_grad


def test_a_cast_of_the_model_takes_no_digits() -> None:
    """The whole state survives bfloat16 bit for bit, in a module that holds the schedule."""
    schedule = learned(*ENDS)
    before = {name: value.clone() for name, value in schedule.state_dict().items()}
    holder = nn.ModuleDict({"schedule": schedule, "network": nn.Linear(2, 2)}).to(torch.bfloat16)
    assert holder["network"].weight.dtype == torch.bfloat16
    for name, value in schedule.state_dict().items():
        assert value.dtype == torch.float64
        assert torch.equal(value, before[name])


def test_it_starts_close_to_a_straight_line() -> None:
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    start, line = LearnedSchedule(*ENDS).gamma(t), LinearGamma(*ENDS).gamma(t)
    assert (start - line).abs().max() < 0.1


@pytest.mark.parametrize(
    "levels", [UniformTime, lambda s: NormalGamma(s, 0.0, 3.0), lambda s: NormalGamma(s, 12.0, 3.0)]
)
def test_levels_know_their_derivative(levels: Callable[[LearnedSchedule], Levels]) -> None:
    u = torch.linspace(0.01, 0.99, 99, dtype=torch.float64, requires_grad=True)
    mapped = levels(learned(*ENDS))
    (exact,) = torch.autograd.grad(mapped(u).sum(), u)
    torch.testing.assert_close(mapped.derivative(u.detach()), exact, rtol=1e-6, atol=0)


class Halves(Gain):
    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: object = None) -> Tensor:
        return self.gain * torch.cat([z, z], dim=-1)


def test_the_hybrid_loss_leaves_the_schedule_as_it_is() -> None:
    schedule, x = learned(*ENDS).requires_grad_(), torch.ones(8, 4, dtype=torch.float64)
    denoiser = VarianceDenoiser(Halves(), V())
    loss = hybrid_loss(denoiser, schedule, 10, VLB(), Dense(x), x, Streams(0, torch.arange(8)))
    loss.mean().backward()
    assert all(parameter.grad is None for parameter in schedule.parameters())
    assert all(parameter.grad is not None for parameter in denoiser.parameters())
