"""Every way to read a network's output tells the same story of x, eps and z, and gives the same bound."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from medmol_diffusion.core import (
    Denoiser,
    Dense,
    Eps,
    FlowVelocity,
    GaussianDenoiser,
    LinearGamma,
    Logits,
    NetworkDenoiser,
    Parameterization,
    PerBlock,
    Preconditioned,
    Prediction,
    Schedule,
    Score,
    Space,
    Streams,
    V,
    X,
    ZeroCentre,
    alpha,
    check_zero_snr,
    diffuse,
    elbo,
    sigma,
    transition_kl,
)
from medmol_diffusion.core.observation import Gaussian
from tests.core.oracle import EIGENVALUES, Seen, molecule_space, sigma_points

PARAMETERIZATIONS: dict[str, Parameterization] = {
    "eps": Eps(),
    "score": Score(),
    "x": X(),
    "v": V(),
    "flow": FlowVelocity(),
    "preconditioned": Preconditioned(torch.tensor(0.7)),
    "per_channel": Preconditioned(torch.tensor([0.1, 0.7, 3.0])),
    "logits": Logits(0.25),
}
parameterizations = pytest.mark.parametrize(
    "parameterization", PARAMETERIZATIONS.values(), ids=PARAMETERIZATIONS.keys()
)
GAMMA = torch.tensor([-12.0, -3.0, 0.0, 2.0, 9.0], dtype=torch.float64)


def states(count: int = 3, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(5, 4, 3, generator=generator, dtype=dtype) for _ in range(count)]


def per_item(value: Tensor) -> Tensor:
    return value[:, None, None]


@parameterizations
def test_x_and_eps_recombine_to_z_whatever_the_output(parameterization: Parameterization) -> None:
    output, z = states(2)
    found = Prediction(output, z, GAMMA, parameterization, Dense(z))
    torch.testing.assert_close(
        per_item(alpha(GAMMA)) * found.x + per_item(sigma(GAMMA)) * found.eps, z, rtol=1e-10, atol=1e-10
    )
    torch.testing.assert_close(per_item(alpha(GAMMA)) * z - per_item(sigma(GAMMA)) * found.v, found.x)
    torch.testing.assert_close(found.score, (per_item(alpha(GAMMA)) * found.x - z) / per_item(sigma(GAMMA)) ** 2)


@parameterizations
def test_no_error_means_the_exact_x_and_eps(parameterization: Parameterization) -> None:
    x, eps, logits = states()
    space = Dense(x)
    if isinstance(parameterization, Logits):
        output, x = logits, 0.25 * torch.softmax(logits, -1)
    else:
        output = parameterization.target(x, eps, GAMMA, space)
    found = Prediction(output, diffuse(x, eps, GAMMA), GAMMA, parameterization, space)
    assert found.error(x, eps).abs().max() < 1e-14
    torch.testing.assert_close(found.x, x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.eps, eps, rtol=1e-9, atol=1e-9)


@parameterizations
def test_eps_error_is_eps_minus_eps_hat(parameterization: Parameterization) -> None:
    x, eps, output = states()
    found = Prediction(output, diffuse(x, eps, GAMMA), GAMMA, parameterization, Dense(x))
    torch.testing.assert_close(found.eps_error(x, eps), eps - found.eps, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.x_error(x, eps), x - found.x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("first", "second"), list(itertools.product(PARAMETERIZATIONS, repeat=2)))
def test_every_output_says_what_every_other_would(first: str, second: str) -> None:
    """Of one (x, eps): what the first is told of them, and what the second makes of what the first says."""
    p, q = PARAMETERIZATIONS[first], PARAMETERIZATIONS[second]
    logits, eps = states(2)
    x = 0.25 * torch.softmax(logits, -1)  # a mean of one-hot states, so that logits can say it
    space, z = Dense(x), diffuse(x, eps, GAMMA)
    told = Prediction(p.target(x, eps, GAMMA, space), z, GAMMA, p, space)
    converted = told.in_terms_of(q)
    torch.testing.assert_close(converted, q.target(x, eps, GAMMA, space), rtol=1e-8, atol=1e-8)
    again = Prediction(converted, z, GAMMA, q, space)
    torch.testing.assert_close(again.x, told.x, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(again.eps, told.eps, rtol=1e-8, atol=1e-8)


def test_the_score_is_the_gradient_of_the_log_density() -> None:
    oracle = GaussianDenoiser(torch.linspace(0.2, 3, 12, dtype=torch.float64))
    z = states(1)[0].requires_grad_()
    (gradient,) = torch.autograd.grad(oracle.log_prob(z, GAMMA).sum(), z)
    found = oracle(z.detach(), GAMMA, Dense(z))
    torch.testing.assert_close(found.score, gradient)
    torch.testing.assert_close(found.in_terms_of(Score()), gradient)


def test_flow_velocity_is_that_of_the_straight_path_the_network_sees() -> None:
    x, eps = states(2)
    t = torch.tensor([1e-4, 0.1, 0.5, 0.9, 1 - 1e-4], dtype=torch.float64)
    gamma = 2 * torch.log(t / (1 - t))
    space, flow = Dense(x), FlowVelocity()

    def path(time: Tensor) -> Tensor:
        return (1 - per_item(time)) * x + per_item(time) * eps

    _, velocity = torch.autograd.functional.jvp(path, (t,), (torch.ones_like(t),))
    torch.testing.assert_close(flow.scale_input(diffuse(x, eps, gamma), gamma, space), path(t))
    torch.testing.assert_close(flow.target(x, eps, gamma, space), velocity)


@parameterizations
@pytest.mark.parametrize("level", [-15.0, 15.0])
def test_errors_keep_their_digits_in_float32_at_the_ends(parameterization: Parameterization, level: float) -> None:
    gamma = torch.full((5,), level, dtype=torch.float64)
    errors = []
    for dtype in (torch.float32, torch.float64):
        x, eps, output = (v.to(dtype) for v in states(dtype=torch.float32))
        found = Prediction(output, diffuse(x, eps, gamma), gamma, parameterization, Dense(x))
        errors.append((found.eps_error(x, eps), found.x_error(x, eps)))
        assert {error.dtype for error in errors[-1]} == {dtype}
        assert torch.isfinite(found.x).all()
        assert torch.isfinite(found.eps).all()
    for single, double in zip(*errors, strict=True):
        torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=1e-5 * double.abs().max().item())


def test_blocks_are_read_each_in_their_own_way() -> None:
    mask = torch.arange(4) < torch.tensor([4, 2])[:, None]
    space = molecule_space(mask, 3)
    generator = torch.Generator().manual_seed(0)
    output, x, eps = (torch.randn(space.shape, generator=generator, dtype=torch.float64) for _ in range(3))
    x, eps, gamma = space.project(x), space.project(eps), GAMMA[:2]
    z = diffuse(x, eps, gamma)
    parts = {"positions": V(), "features": Logits(0.25)}
    found = Prediction(output, z, gamma, PerBlock(parts), space)
    torch.testing.assert_close(found.eps_error(x, eps), eps - found.eps, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.x_error(x, eps), x - found.x, rtol=1e-9, atol=1e-9)
    velocities = PerBlock({name: V() for name in parts})
    again = Prediction(found.in_terms_of(velocities), z, gamma, velocities, space)
    torch.testing.assert_close(again.x, found.x)
    torch.testing.assert_close(again.eps, found.eps)
    for name, part in parts.items():
        block = space.blocks[name]
        alone = Prediction(space.split(output)[name], space.split(z)[name], gamma, part, block)
        torch.testing.assert_close(space.split(found.x)[name], alone.x)
        torch.testing.assert_close(space.split(found.eps_scale())[name], alone.eps_scale().expand(block.shape))
    with pytest.raises(TypeError, match="Product space, not of Dense"):
        PerBlock(parts).x(output, z, gamma, Dense(z))


@pytest.mark.parametrize("transitions", [0, 40])
@pytest.mark.parametrize("zero_centre", [False, True])
@pytest.mark.parametrize("name", ["score", "x", "v", "flow", "preconditioned", "per_channel"])
def test_the_bound_is_the_same_through_every_parameterization(name: str, zero_centre: bool, transitions: int) -> None:
    x = states(1)[0]
    mask = torch.ones(5, 4, dtype=torch.bool)
    space: Space = ZeroCentre(mask) if zero_centre else Dense(x)
    x = space.project(x)
    oracle = GaussianDenoiser(torch.full((12,), 0.8, dtype=torch.float64))
    terms = [
        elbo(
            Seen(oracle, PARAMETERIZATIONS[kind]), LinearGamma(-10.0, 8.0), space, x, Gaussian(), x,
            Streams(0, torch.arange(5)), transitions, draws=3,
        ).terms
        for kind in ("eps", name)
    ]  # fmt: skip
    for term, value in terms[0].items():
        torch.testing.assert_close(terms[1][term], value, rtol=1e-8, atol=1e-8)


FINITE = ["x", "v", "flow", "preconditioned", "per_channel", "logits"]
INF = torch.full((5,), math.inf, dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", FINITE)
def test_zero_snr_is_the_limit_of_little_signal(name: str, dtype: torch.dtype) -> None:
    x, eps, output = states(dtype=dtype)
    space, gamma_s = Dense(x), GAMMA
    at, near = (
        Prediction(output, diffuse(x, eps, gamma), gamma, PARAMETERIZATIONS[name], space, 0.3 * torch.ones_like(x))
        for gamma in (INF, torch.full_like(INF, 75.0))
    )
    assert torch.equal(at.z, eps)
    torch.testing.assert_close(at.x, near.x)
    torch.testing.assert_close(at.x_error(x, eps), x - at.x)
    torch.testing.assert_close(at.eps, eps)
    torch.testing.assert_close(at.eps_error(x, eps), torch.zeros_like(x))
    torch.testing.assert_close(transition_kl(at, x, eps, gamma_s), transition_kl(near, x, eps, gamma_s))
    plain = transition_kl(Prediction(output, at.z, INF, at.parameterization, space), x, eps, gamma_s)
    torch.testing.assert_close(plain, 0.5 * per_item(torch.exp(-gamma_s)).to(x) * (x - at.x).square())


class ZeroSNR(Schedule):
    """alpha = cos(theta) down to alpha = 0."""

    def gamma(self, t: Tensor) -> Tensor:
        start = math.atan(math.exp(-4.0))
        inner = 2 * torch.log(torch.tan(start + (math.pi / 2 - start) * t))
        return torch.where(t == 1, torch.full_like(t, math.inf), inner)

    def derivative(self, t: Tensor) -> Tensor:
        start = math.atan(math.exp(-4.0))
        width = math.pi / 2 - start
        return 4 * width / torch.sin(2 * (start + width * t))


class Wiener(Denoiser):
    """The exact denoiser of EIGENVALUES, with its variance, as F = 0."""

    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: object = None) -> Prediction:
        s2, b2 = EIGENVALUES, per_item(sigma(gamma))[..., 0].square()
        variance = s2 * b2 / ((1 - b2) * s2 + b2)
        return Prediction(torch.zeros_like(z), z, gamma, Preconditioned(s2.sqrt()), space, variance)


@pytest.mark.parametrize("name", ["x", "v", "flow", "preconditioned"])
@pytest.mark.parametrize("transitions", [1, 2, 20])
def test_at_zero_terminal_snr_the_bound_of_gaussian_data_is_their_entropy(name: str, transitions: int) -> None:
    """V5 without its gap: nothing of the data is left for the prior to pay."""
    oracle = GaussianDenoiser(EIGENVALUES)
    x, space = sigma_points(oracle, (4,))
    seen = Seen(Wiener(), PARAMETERIZATIONS[name])
    bound = elbo(seen, ZeroSNR(), space, x, Gaussian(), x, torch.Generator(), transitions, draws=None)
    assert bound.terms["prior"].abs().max() == 0
    assert bound.total.mean().item() == pytest.approx(oracle.entropy(), abs=1e-10)
    assert bound.map is not None
    assert torch.isfinite(bound.map).all()


def test_eps_prediction_is_refused_at_zero_snr_through_every_wrapper() -> None:
    class Guided(Denoiser):
        def __init__(self, inner: Denoiser) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: object = None) -> Prediction:
            return self.inner(z, gamma, space, condition)

    def network(parameterization: Parameterization) -> Denoiser:
        return NetworkDenoiser(torch.nn.Identity(), parameterization)

    blind = [network(Eps()), network(Score()), network(PerBlock({"a": V(), "b": Eps()}))]
    for denoiser in [*blind, *map(Guided, blind)]:
        with pytest.raises(ValueError, match="eps prediction says nothing of x at zero terminal SNR"):
            check_zero_snr(denoiser, math.inf)
        check_zero_snr(denoiser, 12.0)
    for kind in FINITE:
        check_zero_snr(Guided(network(PerBlock({"a": V(), "b": PARAMETERIZATIONS[kind]}))), math.inf)
    x = states(1)[0]
    with pytest.raises(ValueError, match="zero terminal SNR"):
        elbo(blind[0], ZeroSNR(), Dense(x), x, Gaussian(), x, torch.Generator(), 5)
