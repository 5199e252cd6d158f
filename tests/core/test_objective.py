import pytest
import torch
from torch import Tensor, nn

from medmol_diffusion.core import (
    VLB,
    Cosine,
    DDPMLinear,
    Denoiser,
    Dense,
    Eps,
    GaussianDenoiser,
    Levels,
    LinearGamma,
    Masked,
    Native,
    NetworkDenoiser,
    NormalGamma,
    Polynomial,
    Preconditioned,
    Prediction,
    Schedule,
    Simple,
    Space,
    Streams,
    UniformTime,
    Weighting,
    ZeroCentre,
    denoising_loss,
    elbo,
    hybrid_loss,
)
from medmol_diffusion.core.observation import Gaussian

SCHEDULE = LinearGamma(-8.0, 6.0)


def states(count: int = 6) -> Tensor:
    return torch.randn(count, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_simple_loss_on_linear_gamma_is_the_diffusion_term() -> None:
    x, streams = states(), lambda: Streams(0, torch.arange(6))
    oracle = GaussianDenoiser(torch.full((8,), 0.5, dtype=torch.float64))
    loss = denoising_loss(oracle, UniformTime(SCHEDULE), Simple(), Dense(x), x, streams())
    bound = elbo(oracle, SCHEDULE, Dense(x), x, Gaussian(), x, streams())
    torch.testing.assert_close(loss * 8 * (6.0 + 8.0) / 2, bound.terms["diffusion"])


class Knows(Denoiser):
    """Told x and therefore right."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self.x = x

    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: object = None) -> Prediction:
        eps = Prediction(self.x, z, gamma, Eps(), space)
        a, b = torch.sigmoid(-gamma).sqrt()[:, None, None], torch.sigmoid(gamma).sqrt()[:, None, None]
        return Prediction((z - a * eps.output) / b, z, gamma, Eps(), space)


@pytest.mark.parametrize("weighting", [Simple(), Native()])
def test_no_error_no_loss(weighting: Weighting) -> None:
    x = states()
    loss = denoising_loss(Knows(x), UniformTime(SCHEDULE), weighting, Dense(x), x, Streams(0, torch.arange(6)))
    assert loss.max() < 1e-20


class Linear(nn.Module):
    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: object = None) -> Tensor:
        return 0.3 * z + 0.1


@pytest.mark.parametrize("weighting", [Simple(), Native()])
def test_the_loss_does_not_know_the_padding(weighting: Weighting) -> None:
    denoiser = NetworkDenoiser(Linear(), Preconditioned(torch.tensor(0.7)))
    x = states(2)
    mask = torch.arange(4) < torch.tensor([4, 2])[:, None]
    levels = UniformTime(SCHEDULE)
    together = denoising_loss(
        denoiser, levels, weighting, Masked(mask, 2), x * mask[..., None], Streams(0, torch.arange(2))
    )
    alone = denoising_loss(denoiser, levels, weighting, Dense(x[1:, :2]), x[1:, :2], Streams(0, torch.tensor([1])))
    torch.testing.assert_close(together[1:], alone)


def test_native_and_simple_differ_by_the_square_of_the_eps_scale() -> None:
    c, gamma = torch.tensor([0.5, 2.0]), torch.zeros(2, dtype=torch.float64)
    assert torch.equal(Simple()(gamma, gamma, c, c), c**2)
    assert Native()(gamma, gamma, c, c) == 1


@pytest.mark.parametrize("schedule", [SCHEDULE, Polynomial()], ids=["linear", "polynomial"])
@pytest.mark.parametrize(("mean", "std"), [(-2.4, 2.4), (0.0, 50.0), (40.0, 1.0)])
def test_normal_gamma_is_the_normal_cut_to_the_schedule(schedule: LinearGamma, mean: float, std: float) -> None:
    levels: Levels = NormalGamma(schedule, mean, std)
    u = torch.linspace(0, 1, 1001, dtype=torch.float64)
    gamma = levels(u)
    assert torch.isfinite(gamma).all()
    assert gamma.min() >= schedule.gamma_0
    assert gamma.max() <= schedule.gamma_1
    if mean < 30:
        low, value, high = (
            torch.special.ndtr((g - mean) / std)
            for g in (torch.tensor(schedule.gamma_0), gamma, torch.tensor(schedule.gamma_1))
        )
        torch.testing.assert_close((value - low) / (high - low), u, rtol=1e-5, atol=1e-6)


def test_uniform_time_is_the_schedule() -> None:
    u = torch.rand(5, dtype=torch.float64)
    assert torch.equal(UniformTime(SCHEDULE)(u), SCHEDULE.gamma(u))


LEVELS: list[Levels] = [
    UniformTime(SCHEDULE),
    UniformTime(Cosine()),
    UniformTime(DDPMLinear()),
    NormalGamma(SCHEDULE, -2.4, 2.4),
    NormalGamma(SCHEDULE, 0.0, 50.0),
    NormalGamma(SCHEDULE, 20.0, 2.0),
]


@pytest.mark.parametrize("levels", LEVELS)
def test_derivative_of_the_levels_is_the_derivative_of_gamma(levels: Levels) -> None:
    u = (torch.arange(40, dtype=torch.float64) + 0.37) / 40
    tangent = torch.autograd.functional.jvp(levels, (u,), (torch.ones_like(u),))[1]
    torch.testing.assert_close(levels.derivative(u), tangent, rtol=1e-7, atol=0)


@pytest.mark.parametrize("schedule", [SCHEDULE, Cosine(), DDPMLinear(), Polynomial()])
def test_the_vlb_loss_of_uniform_time_is_the_diffusion_term(schedule: Schedule) -> None:
    x, streams = states(), lambda: Streams(0, torch.arange(6))
    oracle = GaussianDenoiser(torch.full((8,), 0.5, dtype=torch.float64))
    loss = denoising_loss(oracle, UniformTime(schedule), VLB(), Dense(x), x, streams())
    torch.testing.assert_close(
        loss * 8, elbo(oracle, schedule, Dense(x), x, Gaussian(), x, streams()).terms["diffusion"]
    )


@pytest.mark.parametrize("transitions", [1, 4, 1000])
def test_the_hybrid_loss_adds_the_diffusion_term_of_the_discrete_bound(transitions: int) -> None:
    x, streams = states(), lambda: Streams(0, torch.arange(6))
    oracle = GaussianDenoiser(torch.full((8,), 0.5, dtype=torch.float64), optimal_variance=True)
    plain, hybrid = (
        hybrid_loss(oracle, SCHEDULE, transitions, Simple(), Dense(x), x, streams(), bound_weight=weight)
        for weight in (0.0, 0.3)
    )
    bound = elbo(oracle, SCHEDULE, Dense(x), x, Gaussian(), x, streams(), transitions)
    torch.testing.assert_close((hybrid - plain) * 8, 0.3 * bound.terms["diffusion"])


def test_the_hybrid_loss_refuses_what_it_cannot_teach() -> None:
    x = states()
    oracle = GaussianDenoiser(torch.full((8,), 0.5, dtype=torch.float64))
    with pytest.raises(ValueError, match="use VarianceDenoiser"):
        hybrid_loss(oracle, SCHEDULE, 4, Simple(), Dense(x), x, torch.Generator())
    with pytest.raises(ValueError, match="transitions = 0"):
        hybrid_loss(oracle, SCHEDULE, 0, Simple(), Dense(x), x, torch.Generator())


@pytest.mark.parametrize("weighting", [Simple(), Native()])
def test_the_loss_ignores_what_the_network_says_outside_the_space(weighting: Weighting) -> None:
    space = ZeroCentre(torch.arange(4)[None] < torch.tensor([2, 3])[:, None], 2)
    x = space.project(states(2))

    class Louder(nn.Module):
        def __init__(self, outside: float) -> None:
            super().__init__()
            self.outside = outside

        def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: object = None) -> Tensor:
            return self.outside * (torch.ones_like(z) - space.project(torch.ones_like(z)))

    quiet, loud = (
        denoising_loss(
            NetworkDenoiser(Louder(outside), Eps()),
            UniformTime(SCHEDULE),
            weighting,
            space,
            x,
            Streams(0, torch.arange(2)),
        )
        for outside in (0.0, 1.0)
    )
    torch.testing.assert_close(quiet, loud)
