"""V8, V9, V10, V13: the likelihood of the probability flow, against exact densities."""

import math

import pytest
import torch
from torch import Tensor

from medmol_diffusion import core
from medmol_diffusion.core import (
    Dense,
    DormandPrince,
    FixedGrid,
    GaussianDenoiser,
    LinearGamma,
    MixtureDenoiser,
    Prediction,
    Schedule,
    Streams,
    flow,
    probability_flow_nll,
)
from medmol_diffusion.core.probability_flow import draw_probes
from tests.core.oracle import (
    EIGENVALUES,
    Seen,
    every_space,
    precisions,
    projection,
    readings,
    schedules,
    spaces_of,
    subspace_basis,
)

MIXTURE = MixtureDenoiser(
    torch.tensor([[-1.1, 0.3], [0.9, 0.0], [0.2, -0.8]], dtype=torch.float64),
    torch.tensor([0.5, 0.3, 0.4], dtype=torch.float64),
    torch.tensor([0.4, 0.35, 0.25], dtype=torch.float64),
)


def ends(schedule: Schedule, batch: int) -> list[Tensor]:
    return [torch.full((batch,), g, dtype=torch.float64) for g in (schedule.gamma_0, schedule.gamma_1)]


@schedules
@pytest.mark.parametrize("oracle", [GaussianDenoiser(EIGENVALUES), MIXTURE], ids=["gaussian", "mixture"])
@torch.no_grad()
def test_v08_flow_and_marginals_agree_at_both_ends(schedule: Schedule, oracle: core.Denoiser) -> None:
    """log p_0(z_0) = log p_1(z_1) + integral of div f, with the true marginals of z at both ends."""
    size = 4 if isinstance(oracle, GaussianDenoiser) else 2
    z = oracle.sample(torch.zeros(20, size, dtype=torch.float64), torch.Generator().manual_seed(0))
    start, end = ends(schedule, 20)
    z_1, integral = flow(oracle, Dense(z), z, start, end, DormandPrince(1e-8, 1e-8))
    found = oracle.log_prob(z_1, end) + integral[0]
    torch.testing.assert_close(found, oracle.log_prob(z, start), rtol=0, atol=1e-6)
    if isinstance(oracle, GaussianDenoiser):
        exact = core.gaussian_flow(z, EIGENVALUES, schedule.gamma_0, schedule.gamma_1)
        torch.testing.assert_close(z_1, exact, rtol=0, atol=1e-6)


@every_space
@readings
@precisions
@torch.no_grad()
def test_v08_holds_on_every_space_and_through_every_reading(
    where: str, reading: core.Parameterization, dtype: torch.dtype
) -> None:
    batch = 3
    space = spaces_of(batch)[where]
    basis = subspace_basis(space)
    eigenvalues = torch.linspace(0.2, 3.0, basis.shape[1], dtype=torch.float64)
    oracle = GaussianDenoiser(eigenvalues, basis)
    z = oracle.sample(torch.zeros(space.shape, dtype=torch.float64), torch.Generator().manual_seed(0))
    start, end = ends(LinearGamma(-1.0, 1.0), batch)  # the whole way is the test above
    solver, tolerance = (FixedGrid(16), 1e-6) if dtype == torch.float64 else (FixedGrid(6), 1e-4)
    z_1, integral = flow(Seen(oracle, reading), space, z.to(dtype), start, end, solver)
    found = oracle.log_prob(z_1, end) + integral[0]
    torch.testing.assert_close(found, oracle.log_prob(z, start), rtol=0, atol=tolerance)
    torch.testing.assert_close(space.project(z_1), z_1, rtol=0, atol=1e-6)


@torch.no_grad()
def test_v09_normal_prior_against_the_exact_density_of_the_data() -> None:
    """1e-3 at gamma_1 = 16. The mismatch is that of the means, alpha_1 E[x] . z_1 per example: it falls as
    e^(-gamma_1 / 2) for data that are off centre."""
    x = MIXTURE.sample(torch.zeros(20, 2, dtype=torch.float64), torch.Generator().manual_seed(0))

    def error(gamma_1: float) -> float:
        schedule = LinearGamma(-18.0, gamma_1)
        found = probability_flow_nll(MIXTURE, schedule, Dense(x), x, data_end="z", solver=DormandPrince(1e-9, 1e-9))
        return (found.total + MIXTURE.log_prob(x)).abs().max().item()

    assert error(16.0) < 1e-3
    assert math.log(error(8.0) / error(16.0)) / 8 == pytest.approx(0.5, abs=0.05)


@torch.no_grad()
def test_v10_lower_truncation_is_first_order_for_an_example_and_second_order_for_their_mean() -> None:
    """p_0, the density of z at gamma_0, is the data's blurred by sigma_0^2: log p_0(x) - log p(x) is of first order in
    s = e^gamma_0 for every x. Averaged over the data it is KL(p || p_0), which is of second order: for Gaussian data
    s^2 / 4 sum (1 - 1 / l)^2. (The mean is exact: log p_0 is quadratic here, and the four x have the data's moments.)
    """
    oracle = GaussianDenoiser(EIGENVALUES)
    d = len(EIGENVALUES)
    x = torch.cat([torch.eye(d), -torch.eye(d)]).double() * (d * EIGENVALUES).sqrt()

    def errors(gamma_0: float) -> Tensor:
        start, end = ends(LinearGamma(gamma_0, 2.0), len(x))
        z, integral = flow(oracle, Dense(x), x, start, end, DormandPrince(1e-11, 1e-11, max_steps=4000))
        return oracle.log_prob(x) - (oracle.log_prob(z, end) + integral[0])  # the true marginal at the noise end

    coarse, fine = errors(-7.0), errors(-8.0)
    kl = math.exp(-16.0) / 4 * (1 - 1 / EIGENVALUES).square().sum().item()
    assert fine.mean().item() == pytest.approx(kl, rel=0.02)
    assert math.log(coarse.mean() / fine.mean()) == pytest.approx(2, abs=0.05)
    for slope in torch.log(coarse / fine).tolist():
        assert slope == pytest.approx(1, abs=0.05)


class Linear(core.Denoiser):
    """eps_hat = A z, so that everything about the trace is known."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = matrix

    def forward(self, z: Tensor, gamma: Tensor, space: core.Space, condition: object = None) -> Prediction:
        output = (z.flatten(1) @ self.matrix.T.to(z)).reshape(z.shape)
        return Prediction(output, z, gamma, core.Eps(), space)


@every_space
@pytest.mark.parametrize("probe", ["rademacher", "gaussian"])
@torch.no_grad()
def test_v13_hutchinson_over_K_probes_is_the_exact_trace_to_K_to_the_minus_half(where: str, probe: str) -> None:
    """Over a short way the integral is the divergence times its length. The data of a whole batch, 400 examples,
    share the exact trace of P A P; the estimates lie round it within four standard errors and spread as K^-1/2."""
    batch, step = 400, 1e-3
    space = spaces_of(batch)[where]
    size = torch.zeros(space.shape[1:]).numel()
    matrix = torch.randn(size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    p = projection(space)[0]
    trace = torch.trace(p @ matrix @ p).item()
    z = torch.zeros(space.shape, dtype=torch.float64)
    start = torch.zeros(batch, dtype=torch.float64)
    b = 0.5**0.5  # sigma at gamma = 0

    def estimates(count: int | None) -> Tensor:
        """[count, batch] of tr P A P."""
        v = None
        if count is not None:
            v = draw_probes(space, z, count, probe, Streams(0, torch.arange(batch)))
            torch.testing.assert_close(space.project(v[0]), v[0], rtol=0, atol=1e-14)
        _, integral = flow(Linear(matrix), space, z, start, start + step, FixedGrid(1), v)
        return integral / step * 2 / b + b * space.dim()

    assert estimates(None)[0, 0].item() == pytest.approx(trace, abs=0.01)
    few, many = estimates(4).mean(0), estimates(64).mean(0)
    for found in (few, many):
        assert abs(found.mean().item() - trace) < 4 * found.std().item() / batch**0.5 + 0.01
    assert (few.std() / many.std()).item() == pytest.approx(4, rel=0.2)
    assert many.std().item() > 0.1  # and the test can tell
