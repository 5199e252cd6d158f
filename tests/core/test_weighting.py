"""Every weighting is its paper's, in the paper's own variables; the bound comes out of any levels."""

import math
from collections.abc import Callable

import pytest
import torch
from scipy.special import roots_legendre
from torch import Tensor

from medmol_diffusion.core import (
    EDM,
    P2,
    VLB,
    WEIGHTINGS,
    Dense,
    Eps,
    FlowVelocity,
    GaussianDenoiser,
    LearnedUncertainty,
    Levels,
    LinearGamma,
    MinSNR,
    Native,
    NormalGamma,
    Parameterization,
    Preconditioned,
    Prediction,
    Schedule,
    SigmoidWeighting,
    Simple,
    Space,
    Streams,
    UniformTime,
    V,
    Weighting,
    X,
    denoising_loss,
    diffuse,
)
from medmol_diffusion.core.objective import weighted_error
from medmol_diffusion.core.schedule import Tabulated
from tests.core.oracle import EIGENVALUES, fine_edges, schedules, sigma_points

GAMMA = torch.tensor([-9.0, -3.0, -1.7, 0.5, 3.0, 9.0], dtype=torch.float64)
DERIVATIVE = torch.tensor([2.0, 14.0, 0.3, 1.0, 5.0, 9.0], dtype=torch.float64)
OUTPUTS: dict[str, Parameterization] = {
    "eps": Eps(), "x": X(), "v": V(), "flow": FlowVelocity(), "F": Preconditioned(torch.tensor(0.7))
}  # fmt: skip


def states(count: int = 3, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(6, 3, generator=generator, dtype=torch.float64).to(dtype) for _ in range(count)]


Paper = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def on_eps(weight: Callable[[Tensor], Tensor]) -> Paper:
    """A loss weight(SNR) |eps - eps_hat|^2."""
    return lambda snr, density, x2, eps2: weight(snr) * eps2


def on_x(weight: Callable[[Tensor], Tensor]) -> Paper:
    """A loss weight(SNR) |x - x_hat|^2."""
    return lambda snr, density, x2, eps2: weight(snr) * x2


def edm(snr: Tensor) -> Tensor:
    """lambda(sigma) = (sigma^2 + s^2) / (sigma s)^2, sigma their noise level on data that are not scaled."""
    noise = snr**-0.5
    return (noise**2 + 0.5**2) / (noise * 0.5) ** 2


def vlb(snr: Tensor, density: Tensor, x2: Tensor, eps2: Tensor) -> Tensor:
    """-1/2 SNR'(u) |x - x_hat|^2, SNR' = -SNR gamma' (Kingma et al. 2021, eq. 15)."""
    return 0.5 * density * snr * x2


def sigmoid_on_x(snr: Tensor, density: Tensor, x2: Tensor, eps2: Tensor) -> Tensor:
    """1/2 d lambda e^b sigmoid(lambda - b) |x - x_hat|^2, as Hoogeboom et al. write it."""
    return 0.5 * density * math.exp(-1.0) / (1 + math.exp(-1.0) / snr) * x2


PAPERS: list[tuple[Weighting, Paper]] = [
    (Simple(), on_eps(torch.ones_like)),
    (MinSNR(), on_eps(lambda snr: torch.minimum(snr, torch.full_like(snr, 5.0)) / snr)),
    (MinSNR(), on_x(lambda snr: torch.minimum(snr, torch.full_like(snr, 5.0)))),
    (MinSNR(1.0), on_x(lambda snr: torch.minimum(snr, torch.ones_like(snr)))),
    (P2(), on_eps(lambda snr: 1 / (1 + snr))),
    (P2(2.0, 0.5), on_eps(lambda snr: 1 / (2 + snr).sqrt())),
    (EDM(), on_x(edm)),
    (VLB(), vlb),
    (SigmoidWeighting(-1.0), sigmoid_on_x),
]


@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS.keys())
@pytest.mark.parametrize(("weighting", "paper"), PAPERS)
def test_weight_is_that_of_the_paper_whatever_the_output(
    weighting: Weighting, paper: Paper, output: Parameterization
) -> None:
    x, eps, said = states()
    found = Prediction(said, diffuse(x, eps, GAMMA), GAMMA, output, Dense(x))
    snr, density = (v[:, None] for v in (torch.sigmoid(-GAMMA) / torch.sigmoid(GAMMA), DERIVATIVE))
    expected = paper(snr, density, (x - found.x) ** 2, (eps - found.eps) ** 2)
    torch.testing.assert_close(weighted_error(found, x, eps, weighting, DERIVATIVE), expected, rtol=1e-7, atol=1e-9)


def test_min_snr_on_v_is_min_snr_over_snr_plus_one() -> None:
    """Hang et al. state the three outputs each; the factor on the v error is min(SNR, 5) / (SNR + 1)."""
    x = states(1)[0]
    found = Prediction(x, x, GAMMA, V(), Dense(x))
    snr = torch.exp(-GAMMA)[:, None]
    factor = MinSNR()(GAMMA, DERIVATIVE, found.eps_scale(), found.x_scale())
    torch.testing.assert_close(factor, torch.minimum(snr, torch.full_like(snr, 5.0)) / (snr + 1))


def test_edm_is_the_native_weight_of_the_preconditioned_output() -> None:
    x = states(1)[0]
    found = Prediction(x, x, GAMMA, Preconditioned(torch.tensor(0.7)), Dense(x))
    factor = EDM(0.7)(GAMMA, DERIVATIVE, found.eps_scale(), found.x_scale())
    torch.testing.assert_close(factor, torch.ones_like(factor))


@pytest.mark.parametrize("name", WEIGHTINGS)
@pytest.mark.parametrize("output", [V(), X(), FlowVelocity(), OUTPUTS["F"]], ids=["v", "x", "flow", "F"])
def test_the_factor_is_finite_at_zero_snr_and_the_limit_of_little_signal(name: str, output: Parameterization) -> None:
    weighting, x = WEIGHTINGS[name](), states(1, torch.float32)[0]
    factors = []
    for level, derivative in ((math.inf, math.inf), (70.0, 1.0)):
        gamma, density = (torch.full((6,), v, dtype=torch.float64) for v in (level, derivative))
        found = Prediction(x, x, gamma, output, Dense(x))
        factors.append(weighting(gamma, density, found.eps_scale(), found.x_scale()))
        assert weighting.offset(gamma).isfinite().all()
    torch.testing.assert_close(*factors)


@pytest.mark.parametrize("name", WEIGHTINGS)
@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS.keys())
@pytest.mark.parametrize("level", [-20.0, 20.0])
def test_the_weighted_error_keeps_its_digits_in_float32(name: str, output: Parameterization, level: float) -> None:
    gamma = torch.full((6,), level, dtype=torch.float64)
    single, double = (
        weighted_error(Prediction(said, said, gamma, output, Dense(x)), x, eps, WEIGHTINGS[name](), DERIVATIVE)
        for x, eps, said in (states(dtype=dtype) for dtype in (torch.float32, torch.float64))
    )
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-5 * double.max().item())


def expected_loss(levels: Levels, edges: Tensor, weighting: Weighting, nodes: int) -> float:
    """E over u ~ U(0, 1) of the loss per degree of freedom on Gaussian data, by Gauss-Legendre between ``edges``."""
    oracle = GaussianDenoiser(EIGENVALUES)
    x, given = sigma_points(oracle, (4,))
    eps = given.noise(x, torch.Generator())
    total = 0.0
    for node, weight in zip(*roots_legendre(nodes), strict=True):
        u = edges[:-1] + edges.diff() * (node + 1) / 2
        gamma, density = levels(u).repeat_interleave(4), levels.derivative(u).repeat_interleave(4)
        tiled, noise = x.repeat(len(u), 1), eps.repeat(len(u), 1)
        found = oracle(diffuse(tiled, noise, gamma), gamma, Dense(tiled))
        error = weighted_error(found, tiled, noise, weighting, density).mean(1).reshape(-1, 4).mean(1)
        total += (error * edges.diff() / 2 * weight).sum().item()
    return total


def exact_diffusion(schedule: Schedule) -> float:
    """1/2 sum log[(1 + l SNR_0) / (1 + l SNR_1)]."""
    ratio = (1 + EIGENVALUES * math.exp(-schedule.gamma_0)) / (1 + EIGENVALUES * math.exp(-schedule.gamma_1))
    return 0.5 * ratio.log().sum().item()


@schedules
def test_the_vlb_weight_is_the_bound_for_uniform_times(schedule: Schedule) -> None:
    tabulated = isinstance(schedule, Tabulated)
    edges = torch.linspace(0, 1, schedule.transitions + 1, dtype=torch.float64) if tabulated else fine_edges(60)
    nodes = 6 if tabulated else 16
    exact = exact_diffusion(schedule)
    assert expected_loss(UniformTime(schedule), edges, VLB(), nodes) * 4 == pytest.approx(exact, rel=1e-9)


@schedules
@pytest.mark.parametrize(("mean", "std"), [(-2.4, 2.4), (1.0, 4.0)])
def test_the_vlb_weight_is_the_bound_for_normal_levels(schedule: Schedule, mean: float, std: float) -> None:
    gammas = torch.linspace(schedule.gamma_0, schedule.gamma_1, 61, dtype=torch.float64)
    mass = torch.special.ndtr((gammas - mean) / std)
    edges = (mass - mass[0]) / (mass[-1] - mass[0])  # even in gamma: the density of the levels spans many decades
    exact = exact_diffusion(schedule)
    levels = NormalGamma(schedule, mean, std)
    assert expected_loss(levels, edges, VLB(), 16) * 4 == pytest.approx(exact, rel=1e-7)
    assert expected_loss(levels, edges, Simple(), 16) * 4 != pytest.approx(exact, rel=0.1)  # and the test can tell


def test_the_sigmoid_weight_asks_the_same_of_any_levels() -> None:
    schedule = LinearGamma(-8.0, 6.0)
    even = torch.linspace(0, 1, 61, dtype=torch.float64)
    mass = torch.special.ndtr((torch.linspace(-8, 6, 61, dtype=torch.float64) + 1) / 3)
    normal = expected_loss(
        NormalGamma(schedule, -1.0, 3.0), (mass - mass[0]) / (mass[-1] - mass[0]), SigmoidWeighting(), 16
    )
    assert normal == pytest.approx(expected_loss(UniformTime(schedule), even, SigmoidWeighting(), 16), rel=1e-7)


@pytest.mark.parametrize("u", [0.0, 0.3])
def test_the_learned_weight_divides_its_base_by_e_to_the_u_and_adds_u(u: float) -> None:
    """It begins as its base, u = 0."""
    x = states(1)[0]
    oracle, levels = GaussianDenoiser(EIGENVALUES[:3]), UniformTime(LinearGamma())
    learned = LearnedUncertainty(P2())
    if u:
        with torch.no_grad():
            learned.coefficients[0] = u  # the constant wave
    base, found = (
        denoising_loss(oracle, levels, weighting, Dense(x), x, Streams(0, torch.arange(6)))
        for weighting in (P2(), learned)
    )
    torch.testing.assert_close(found, math.exp(-u) * base + u, rtol=1e-6, atol=0)


def test_the_learned_weight_is_one_over_the_loss_that_is_left() -> None:
    """At the optimum u = log E[w |error|^2 | gamma], here that of the Gaussian oracle, and every level costs 1 + u."""
    oracle = GaussianDenoiser(EIGENVALUES)
    x, given = sigma_points(oracle, (4,))
    eps = given.noise(x, torch.Generator())
    gamma = torch.linspace(-10, 8, 60, dtype=torch.float64)
    level, tiled, noise = gamma.repeat_interleave(4), x.repeat(60, 1), eps.repeat(60, 1)
    space: Space = Dense(tiled)
    found = oracle(diffuse(tiled, noise, level), level, space)
    left = (EIGENVALUES / (EIGENVALUES + torch.exp(gamma)[:, None])).mean(1)  # E (eps - eps_hat)^2
    weighting = LearnedUncertainty(Simple())
    optimiser = torch.optim.LBFGS(weighting.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        error = weighted_error(found, tiled, noise, weighting, torch.ones_like(level)).mean(1)
        total = (error + weighting.offset(level)).mean()
        total.backward()
        return total

    optimiser.step(loss)
    torch.testing.assert_close(weighting.offset(gamma).detach(), left.log(), rtol=0, atol=0.02)
    assert loss().item() == pytest.approx(1 + left.log().mean().item(), abs=1e-3)


@pytest.mark.parametrize("made", [lambda: MinSNR(0.0), lambda: P2(k=-1.0), lambda: EDM(0.0)])
def test_numbers_that_make_no_weight_are_refused(made: Callable[[], Weighting]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        made()


def test_native_does_not_look_at_the_level() -> None:
    scale = torch.tensor([[2.0], [3.0]])
    assert Native()(GAMMA[:2], DERIVATIVE[:2], scale, scale) == 1
