"""Proof by training: a small network on data of known entropy, and every figure the core reports of it.

The data are a mixture in the plane, and points with zero centre of mass from a mixture of shapes. No model has a
cross-entropy below the entropy of the data, and a bound is no smaller than the cross-entropy: a wrong constant, sign or
dimension breaks one side or the other.
"""

import itertools
import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from medmol_diffusion.core import (
    Dense,
    FixedGrid,
    LinearGamma,
    MixtureDenoiser,
    NetworkDenoiser,
    Preconditioned,
    Simple,
    Space,
    Streams,
    UniformTime,
    ZeroCentre,
    denoising_loss,
    elbo,
    grid,
    iwae,
    probability_flow_nll,
    sample,
    stepper_named,
)
from medmol_diffusion.core.observation import Gaussian
from tests.core.oracle import zero_centre_basis

SCHEDULE = LinearGamma(-7.0, 7.0)
POINTS = 4


class Perceptron(nn.Module):
    """Three hidden layers on the state and on waves of gamma."""

    frequencies: Tensor

    def __init__(self, dim: int, hidden: int = 128, waves: int = 8) -> None:
        super().__init__()
        self.register_buffer("frequencies", math.pi / 32 * 2.0 ** torch.arange(waves))
        sizes = [dim + 2 * waves, hidden, hidden, hidden]
        layers = [[nn.Linear(a, b), nn.SiLU()] for a, b in itertools.pairwise(sizes)]
        self.layers = nn.Sequential(*(part for layer in layers for part in layer), nn.Linear(hidden, dim))

    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: object = None) -> Tensor:
        angle = gamma.to(z)[:, None] * self.frequencies
        return self.layers(torch.cat([z.flatten(1), angle.sin(), angle.cos()], 1)).reshape(z.shape)


@dataclass(frozen=True)
class Trained:
    """A network and the data it has learned."""

    denoiser: NetworkDenoiser
    mixture: MixtureDenoiser
    basis: Tensor | None = None

    def draw(self, count: int, seed: int) -> tuple[Space, Tensor]:
        """(space, states), float32."""
        generator = torch.Generator().manual_seed(seed)
        flat = self.mixture.sample(torch.zeros(count, self.mixture.means.shape[1], dtype=torch.float64), generator)
        if self.basis is None:
            return Dense(flat), flat.float()
        return self.space(count), (flat @ self.basis.T).reshape(count, POINTS, 2).float()

    def space(self, count: int) -> Space:
        if self.basis is None:
            return Dense(torch.zeros(count, 2))
        return ZeroCentre(torch.ones(count, POINTS, dtype=torch.bool), 2)

    def nll(self, x: Tensor) -> Tensor:
        """[B] exact -log p, whose mean is the entropy."""
        flat = x.double().flatten(1)
        return -self.mixture.log_prob(flat if self.basis is None else flat @ self.basis)


def trained(mixture: MixtureDenoiser, basis: Tensor | None, std: float, steps: int) -> Trained:
    torch.manual_seed(0)
    network = Perceptron(len(basis) if basis is not None else 2)
    made = Trained(NetworkDenoiser(network, Preconditioned(torch.tensor(std))), mixture, basis)
    optimiser = torch.optim.Adam(network.parameters(), 2e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995)
    )
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        space, x = made.draw(512, 1000 + step)
        loss = denoising_loss(made.denoiser, UniformTime(SCHEDULE), Simple(), space, x, generator).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()
        average.update_parameters(network)
    network.load_state_dict(average.module.state_dict())
    return made


@pytest.fixture(scope="module")
def plane() -> Trained:
    means = torch.tensor([[1.2, 0.0], [-0.6, 1.04], [-0.6, -1.04]], dtype=torch.float64)
    stds, weights = torch.tensor([[0.3, 0.2, 0.4], [0.5, 0.3, 0.2]], dtype=torch.float64)
    return trained(MixtureDenoiser(means, stds, weights), None, 1.0, 1500)


@pytest.fixture(scope="module")
def points() -> Trained:
    """A square, a line and a star of three round one."""
    shapes = torch.tensor(
        [
            [[1, 1], [1, -1], [-1, -1], [-1, 1]],
            [[1.5, 0], [0.5, 0], [-0.5, 0], [-1.5, 0]],
            [[0, 1.35], [1.2, -0.45], [-1.2, -0.45], [0, -0.45]],
        ],
        dtype=torch.float64,
    )
    basis = zero_centre_basis(POINTS, 2)
    stds, weights = torch.tensor([[0.3, 0.2, 0.25], [0.4, 0.3, 0.3]], dtype=torch.float64)
    return trained(MixtureDenoiser(shapes.flatten(1) @ basis, stds, weights), basis, 0.8, 3000)


@pytest.fixture(params=["plane", "points"])
def model(request: pytest.FixtureRequest) -> Trained:
    found: Trained = request.getfixturevalue(request.param)
    return found


def mean_and_error(values: Tensor) -> tuple[float, float]:
    return values.mean().item(), values.std().item() / len(values) ** 0.5


@torch.no_grad()
def test_the_bound_is_the_entropy_and_at_most_a_tenth_of_a_nat(model: Trained) -> None:
    space, x = model.draw(60_000, 1)
    bound = elbo(model.denoiser, SCHEDULE, space, x, Gaussian(), x, torch.Generator().manual_seed(0), draws=8)
    excess, error = mean_and_error(bound.total - model.nll(x))
    assert error < 0.02
    assert -3 * error < excess < 0.1


@torch.no_grad()
def test_importance_weights_lie_between_the_entropy_and_the_bound(model: Trained) -> None:
    space, x = model.draw(800, 2)
    place = (model.denoiser, SCHEDULE, space, x, Gaussian(), x)
    bound = elbo(*place, torch.Generator().manual_seed(0), transitions=200, draws=None)
    tight = iwae(*place, torch.Generator().manual_seed(0), transitions=200, draws=8)
    excess, error = mean_and_error(tight.total - model.nll(x))
    gain, gain_error = mean_and_error(bound.total - tight.total)
    assert error < 0.02
    assert -3 * error < excess < 0.1 + 3 * error
    assert gain > 2 * gain_error > 0


@torch.no_grad()
def test_the_probability_flow_agrees(model: Trained) -> None:
    """Its own model, so between the entropy and a tenth of a nat above it; both data ends, and two grids."""
    space, x = model.draw(800, 2)
    place = (model.denoiser, SCHEDULE, space, x, Gaussian(), x)
    found = [
        probability_flow_nll(*place, torch.Generator().manual_seed(0), data_end=end, solver=FixedGrid(steps)).total
        for end, steps in (("z", 16), ("z", 32), ("bound", 32))
    ]
    excess, error = mean_and_error(found[1] - model.nll(x))
    assert error < 0.02
    assert -3 * error < excess < 0.1
    assert (found[0] - found[1]).mean().abs() < 0.005
    assert (found[2] - found[1]).mean().abs() < 0.04


def sliced_distance(a: Tensor, b: Tensor) -> float:
    """Mean Wasserstein-1 distance of two samples of one size, projected on 64 random directions."""
    directions = torch.randn(a[0].numel(), 64, generator=torch.Generator().manual_seed(0))
    one, two = ((v.flatten(1) @ (directions / directions.norm(dim=0))).sort(0).values for v in (a, b))
    return (one - two).abs().mean().item()


@torch.no_grad()
def test_few_steps_come_close_to_the_data(model: Trained) -> None:
    """Within three times the distance of two samples of the data themselves, 4000 of each; one step is far off."""
    count = 4000
    (_, data), (_, other) = model.draw(count, 5), model.draw(count, 6)
    space, own = model.space(count), sliced_distance(data, other)

    def distance(sampler: str, steps: int) -> float:
        streams = Streams(0, torch.arange(count))
        z = space.noise(torch.zeros_like(data), streams)
        z = sample(model.denoiser, stepper_named(sampler), grid(SCHEDULE, steps), space, z, streams)
        gamma_0 = torch.full((count,), SCHEDULE.gamma_0, dtype=torch.float64)
        return sliced_distance(model.denoiser(z, gamma_0, space).x, data)

    for sampler, steps in {"heun": 10, "dpm++2m": 10, "unipc": 10, "ddim": 20, "ancestral": 30}.items():
        assert distance(sampler, steps) < 3 * own, sampler
    assert distance("ddim", 1) > 6 * own
