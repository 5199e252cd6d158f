import pytest
import torch
from torch import Tensor, nn

from medmol_diffusion.core import (
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
    Simple,
    Space,
    Streams,
    UniformTime,
    Weighting,
    ZeroCentre,
    denoising_loss,
    elbo,
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
    c = torch.tensor([0.5, 2.0])
    assert torch.equal(Simple()(c), c**2)
    assert Native()(c) == 1


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
