"""The pieces of the probability flow's likelihood: its data ends, its draws, its gradients, its solvers."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from medmol_diffusion.core import (
    Dense,
    DormandPrince,
    Elbo,
    FixedGrid,
    GaussianDenoiser,
    LinearGamma,
    NetworkDenoiser,
    Streams,
    V,
    elbo,
    iwae,
    probability_flow_nll,
)
from medmol_diffusion.core.observation import Categorical, Gaussian
from medmol_diffusion.core.observation import Product as ProductObservation
from tests.core.oracle import EIGENVALUES, molecule_space

ORACLE = GaussianDenoiser(EIGENVALUES)
EXACT = GaussianDenoiser(EIGENVALUES, optimal_variance=True)
SCHEDULE = LinearGamma(-6.0, 14.0)


def sample(count: int) -> Tensor:
    return ORACLE.sample(torch.zeros(count, 4, dtype=torch.float64), torch.Generator().manual_seed(0))


@torch.no_grad()
def test_the_bound_is_the_density_of_the_data_for_every_draw_where_the_decoder_is_exact() -> None:
    """p(z_0) p(x | z_0) / q(z_0 | x) = p(x) at every z_0 when the decoder is the true posterior."""
    x = sample(6)
    found = probability_flow_nll(
        EXACT, SCHEDULE, Dense(x), x, Gaussian(), x, torch.Generator().manual_seed(1), solver=FixedGrid(200)
    )
    assert list(found.terms) == ["prior", "divergence", "encoder", "reconstruction"]
    torch.testing.assert_close(found.total, -ORACLE.log_prob(x), rtol=0, atol=1e-4)


@torch.no_grad()
def test_the_bound_exceeds_the_density_by_what_the_decoder_is_wider_than_the_posterior() -> None:
    schedule = LinearGamma(-2.0, 14.0)
    x = sample(4000)
    found = probability_flow_nll(ORACLE, schedule, Dense(x), x, Gaussian(), x, torch.Generator().manual_seed(1))
    ratio = EIGENVALUES / (EIGENVALUES + torch.tensor(-2.0).exp())  # posterior variance / e^gamma_0
    expected = 0.5 * (ratio - 1 - ratio.log()).sum().item()
    gap = found.total + ORACLE.log_prob(x)
    error = gap.std().item() / 4000**0.5
    assert gap.mean().item() == pytest.approx(expected, abs=3 * error)
    assert error < 0.05 * expected


@torch.no_grad()
@pytest.mark.parametrize("solver", [FixedGrid(300, "heun"), FixedGrid(60, "rk4"), DormandPrince(1e-6, 1e-6)])
def test_every_solver_finds_the_density_of_z(solver: FixedGrid | DormandPrince) -> None:
    x = sample(6)
    found = probability_flow_nll(ORACLE, SCHEDULE, Dense(x), x, data_end="z", solver=solver)
    gamma_0 = torch.full((6,), -6.0, dtype=torch.float64)
    torch.testing.assert_close(found.total, -ORACLE.log_prob(x, gamma_0), rtol=0, atol=2e-3)
    assert not found.draw_variance.any()  # nothing was drawn
    assert set(solver.settings) < set(found.settings)
    assert found.method == "flow"


class Gain(nn.Module):
    """v_hat = tanh(z W) + gamma b: a network whose Jacobian is neither diagonal nor symmetric."""

    def __init__(self, size: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(0.5 * torch.randn(size, size, generator=generator, dtype=torch.float64))
        self.bias = nn.Parameter(0.1 * torch.randn(size, generator=generator, dtype=torch.float64))

    def forward(self, z: Tensor, gamma: Tensor, space: object, condition: object = None) -> Tensor:
        return torch.tanh(z @ self.weight) + gamma[:, None] * self.bias


def by_elbo(network: Gain, x: Tensor) -> Elbo:
    denoiser, streams = NetworkDenoiser(network, V()), Streams(0, torch.arange(len(x)))
    return elbo(denoiser, SCHEDULE, Dense(x), x, Gaussian(), x, streams, draws=2)


def by_iwae(network: Gain, x: Tensor) -> Elbo:
    denoiser, streams = NetworkDenoiser(network, V()), Streams(0, torch.arange(len(x)))
    return iwae(denoiser, SCHEDULE, Dense(x), x, Gaussian(), x, streams, 6, 3)


def by_exact_flow(network: Gain, x: Tensor) -> Elbo:
    denoiser, streams = NetworkDenoiser(network, V()), Streams(0, torch.arange(len(x)))
    return probability_flow_nll(denoiser, SCHEDULE, Dense(x), x, Gaussian(), x, streams, solver=FixedGrid(8))


def by_probed_flow(network: Gain, x: Tensor) -> Elbo:
    denoiser, streams = NetworkDenoiser(network, V()), Streams(0, torch.arange(len(x)))
    solver = DormandPrince(1e-3, 1e-3)
    return probability_flow_nll(
        denoiser, LinearGamma(-2.0, 2.0), Dense(x), x, data_end="z", generator=streams, probes=2, solver=solver
    )


@pytest.mark.parametrize("estimate", [by_elbo, by_iwae, by_exact_flow])
def test_gradients_match_finite_differences(estimate: Callable[[Gain, Tensor], Elbo]) -> None:
    """Of the mean total, with respect to the network's parameters and to x, along one direction each."""
    network, x = Gain(4), sample(3).requires_grad_()
    loss = estimate(network, x).total.mean()
    found = torch.autograd.grad(loss, [network.weight, network.bias, x])
    for value, gradient in zip([network.weight, network.bias, x], found, strict=True):
        direction = torch.randn(value.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        sides, h = [], 1e-5
        for sign in (1, -2, 1):
            with torch.no_grad():
                value.add_(sign * h * direction)
                sides.append(estimate(network, x).total.mean().item())
        expected = (sides[0] - sides[1]) / (2 * h)
        assert (gradient * direction).sum().item() == pytest.approx(expected, rel=1e-5)
        assert abs(expected) > 1e-4


def test_probes_and_adaptive_steps_can_be_differentiated_too() -> None:
    """The steps are chosen anew beside each finite difference, so it agrees to the solver's tolerance."""
    network, x = Gain(4), sample(3)
    (found,) = torch.autograd.grad(by_probed_flow(network, x).total.mean(), network.weight)
    sides, h = [], 1e-2
    for sign in (1, -2):
        with torch.no_grad():
            network.weight[0, 1] += sign * h
            sides.append(by_probed_flow(network, x).total.mean().item())
    assert found[0, 1].item() == pytest.approx((sides[0] - sides[1]) / (2 * h), rel=0.02)


def test_without_gradients_no_graph_is_kept() -> None:
    network, x = Gain(4), sample(3)
    assert by_exact_flow(network, x).total.requires_grad
    with torch.no_grad():
        assert not by_exact_flow(network, x).total.requires_grad


@torch.no_grad()
def test_probes_average_to_the_exact_trace_and_tell_their_spread() -> None:
    x = sample(1).expand(300, 4)
    network, streams = NetworkDenoiser(Gain(4), V()), Streams(0, torch.arange(300))
    solver, schedule = FixedGrid(12), LinearGamma(-2.0, 2.0)
    found = probability_flow_nll(
        network, schedule, Dense(x), x, data_end="z", generator=streams, probes=8, solver=solver
    )
    exact = probability_flow_nll(network, schedule, Dense(x), x, data_end="z", solver=solver)
    error = found.total.std().item() / 300**0.5
    assert abs(found.total.mean().item() - exact.total[0].item()) < 4 * error
    assert found.draw_variance.mean().item() == pytest.approx(found.total.var().item(), rel=0.25)
    assert error > 1e-4


@torch.no_grad()
def test_repeated_draws_tell_the_spread_of_z_0_and_probes_together() -> None:
    x = sample(1).expand(300, 4)
    schedule, streams = LinearGamma(-2.0, 6.0), Streams(0, torch.arange(300))
    found = probability_flow_nll(
        ORACLE, schedule, Dense(x), x, Gaussian(), x, streams, draws=6, probes=1, solver=FixedGrid(12)
    )
    assert found.draw_variance.mean().item() == pytest.approx(found.total.var().item(), rel=0.25)


class Shift(nn.Module):
    """A network that mixes all entries of a molecule-like state; zeros of padding add nothing."""

    def forward(self, z: Tensor, gamma: Tensor, space: object, condition: object = None) -> Tensor:
        return 0.5 * torch.tanh(z) + 0.1 * z.sum(1, keepdim=True)


@torch.no_grad()
@pytest.mark.parametrize("probes", [0, 3])
@pytest.mark.parametrize("solver", [FixedGrid(6), DormandPrince(1e-4, 1e-4)], ids=["fixed", "adaptive"])
def test_v18_padding_and_batch_composition_leave_every_term_unchanged(
    probes: int, solver: FixedGrid | DormandPrince
) -> None:
    """The steps of an example are its own, and so are its z_0 and its probes."""
    sizes = [3, 6, 4]
    generator = torch.Generator().manual_seed(0)
    positions = torch.randn(3, 6, 3, generator=generator, dtype=torch.float64)
    labels = torch.randint(2, (3, 6), generator=generator)
    observation = ProductObservation({"positions": Gaussian(), "features": Categorical(1.0)})

    def run(rows: list[int], width: int) -> Elbo:
        mask = torch.arange(width) < torch.tensor(sizes)[rows, None]
        space = molecule_space(mask, 2)
        names = labels[rows, :width] * mask
        features = nn.functional.one_hot(names, 2).double()
        x = space.project(space.join({"positions": positions[rows, :width], "features": features}))
        data = {"positions": space.split(x)["positions"], "features": names}
        return probability_flow_nll(
            NetworkDenoiser(Shift(), V()), LinearGamma(-5.0, 5.0), space, x, observation, data,
            Streams(5, torch.tensor(rows)), probes=probes, solver=solver,
        )  # fmt: skip

    together = run([0, 1, 2], 6)
    for i, n in enumerate(sizes):
        alone = run([i], n)
        for name, value in alone.terms.items():
            torch.testing.assert_close(value[0], together.terms[name][i], rtol=1e-10, atol=1e-10)


def test_impossible_settings_are_refused() -> None:
    x = sample(2)
    generator = torch.Generator()
    for settings, fault in [
        ({"data_end": "x"}, "unknown data_end 'x': choose one of bound, z"),
        ({"data_end": "z", "draws": 0}, "draws = 0"),
        ({"data_end": "z", "probes": -1}, "probes = -1"),
        ({}, "needs an observation"),
        ({"data_end": "z", "probes": 2}, "need a generator"),
        ({"data_end": "z", "probes": 2, "probe": "sphere", "generator": generator}, "unknown probe 'sphere'"),
    ]:
        with pytest.raises(ValueError, match=fault):
            probability_flow_nll(ORACLE, SCHEDULE, Dense(x), x, **settings)  # type: ignore[arg-type]


def test_zero_terminal_snr_is_refused() -> None:
    class Silent(LinearGamma):
        def gamma(self, t: Tensor) -> Tensor:
            return torch.where(t == 1, torch.inf, super().gamma(t))

    with pytest.raises(ValueError, match="finite gamma_1"):
        probability_flow_nll(ORACLE, Silent(-6.0, 6.0), Dense(sample(2)), sample(2), data_end="z")
