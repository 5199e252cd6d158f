"""What the identities share: the registry of schedules, the data, and test doubles with exact second moments."""

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from medmol_diffusion.core import (
    VE,
    Cosine,
    DDPMLinear,
    Denoiser,
    Dense,
    Eps,
    FlowVelocity,
    GaussianDenoiser,
    Karras,
    LearnedSchedule,
    LinearGamma,
    Masked,
    Parameterization,
    Polynomial,
    Preconditioned,
    Prediction,
    Product,
    RectifiedFlow,
    ScaledLinear,
    Schedule,
    Score,
    Sigmoid,
    Space,
    SubVP,
    V,
    X,
    ZeroCentre,
)
from medmol_diffusion.core.noise import Randomness


def learned(gamma_0: float, gamma_1: float, seed: int = 0) -> LearnedSchedule:
    """A learned schedule far from where it starts."""
    schedule = LearnedSchedule(gamma_0, gamma_1, hidden=16)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in schedule.parameters():
            parameter += 0.7 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return schedule.requires_grad_(False)


SCHEDULES: dict[str, Schedule] = {
    "linear_gamma": LinearGamma(-10.0, 8.0),
    "cosine": Cosine(-10.0, 8.0),
    "ddpm_linear": DDPMLinear(),
    "polynomial_2": Polynomial(),
    "scaled_linear": ScaledLinear(),
    "sigmoid": Sigmoid(-10.0, 8.0),
    "karras": Karras(),
    "ve": VE(),
    "rectified_flow": RectifiedFlow(-10.0, 8.0),
    "sub_vp": SubVP(),
    "learned": learned(-10.0, 8.0),
}
EIGENVALUES = torch.tensor([0.09, 0.5, 1.0, 2.3], dtype=torch.float64)
READINGS: dict[str, Parameterization] = {
    "eps": Eps(),
    "score": Score(),
    "x": X(),
    "v": V(),
    "flow": FlowVelocity(),
    "F": Preconditioned(torch.tensor(0.7)),
}
PRECISIONS = {torch.float64: "float64", torch.float32: "float32"}
readings = pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS.keys())
precisions = pytest.mark.parametrize("dtype", PRECISIONS.keys(), ids=PRECISIONS.values())
schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


class Seen(Denoiser):
    """An oracle whose estimates are handed on as the output of another parameterization."""

    def __init__(self, oracle: Denoiser, parameterization: Parameterization) -> None:
        super().__init__()
        self.oracle, self.parameterization = oracle, parameterization

    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: object = None) -> Prediction:
        told = self.oracle(z, gamma, space)
        output = told.in_terms_of(self.parameterization)
        return Prediction(output, z, gamma, self.parameterization, space, told.x_variance)


class GivenNoise(Space):
    """A space whose noise is handed in, so that a test chooses it."""

    def __init__(self, inner: Space, eps: Tensor) -> None:
        self.inner, self.eps, self.shape = inner, eps, inner.shape
        if isinstance(inner, Masked):
            self.mask = inner.mask

    def project(self, v: Tensor) -> Tensor:
        return self.inner.project(v)

    def noise(self, like: Tensor, generator: Randomness) -> Tensor:
        return self.eps.to(like)

    def noises(self, like: Tensor, generator: Randomness, count: int) -> Sequence[Tensor]:
        return [self.noise(like, generator)] * count

    def dim(self) -> Tensor:
        return self.inner.dim()

    def sum(self, v: Tensor) -> Tensor:
        return self.inner.sum(v)


def sigma_points(oracle: GaussianDenoiser, shape: tuple[int, ...]) -> tuple[Tensor, Space]:
    """Four (x, eps) pairs whose second moments are those of the Gaussian data and of the noise, exactly.

    Every quantity that is quadratic in (x, eps) then has its exact expectation as the mean over the batch.
    """
    signs = torch.tensor(list(itertools.product([1.0, -1.0], repeat=2)), dtype=torch.float64)
    x = signs[:, :1] * oracle.eigenvalues.sqrt()
    eps = signs[:, 1:] * torch.ones_like(oracle.eigenvalues)
    if oracle.basis is not None:
        # Sum over directions of rank-one covariances: one group of four for each direction, rescaled by sqrt(d).
        d = len(oracle.eigenvalues)
        each = torch.eye(d, dtype=torch.float64) * d**0.5
        x = torch.cat([x * e for e in each]) @ oracle.basis.T
        eps = torch.cat([eps * e for e in each]) @ oracle.basis.T
    x, eps = x.reshape(-1, *shape), eps.reshape(-1, *shape)
    return x, GivenNoise(Dense(x), eps)


def fine_edges(pieces: int) -> Tensor:
    """[pieces + 1] places from 0 to 1, close together at both ends, where gamma' of many schedules is as large as 1 / t
    or 1 / (1 - t)."""
    edges = torch.sigmoid(torch.linspace(-16, 16, pieces + 1, dtype=torch.float64))
    edges[0], edges[-1] = 0, 1
    return edges


def zero_centre_basis(n: int, channels: int = 3) -> Tensor:
    """[n * channels, (n - 1) * channels] orthonormal basis of the points with zero centre of mass."""
    q, _ = torch.linalg.qr(torch.eye(n, dtype=torch.float64)[:, 1:] - 1.0 / n)
    return torch.kron(q.contiguous(), torch.eye(channels, dtype=torch.float64))


def projection(space: Space) -> Tensor:
    """[B, D, D] the matrix of the projection."""
    batch, size = space.shape[0], torch.zeros(space.shape[1:]).numel()
    columns = [space.project(e.expand(batch, size).reshape(space.shape)).flatten(1) for e in torch.eye(size).double()]
    return torch.stack(columns, dim=2)


def molecule_space(mask: Tensor, features: int) -> Product:
    """The space of a molecule: zero-centre positions and masked features."""
    return Product({"positions": ZeroCentre(mask), "features": Masked(mask, features)})


def spaces_of(batch: int) -> dict[str, Space]:
    """One space of every kind, small, with the same padding in every example."""
    mask = (torch.arange(4) < 3).expand(batch, 4)
    return {
        "dense": Dense(torch.zeros(batch, 3, 2)),
        "masked": Masked(mask, 2),
        "zero_centre": ZeroCentre(mask),
        "product": molecule_space(mask, 1),
    }


def subspace_basis(space: Space) -> Tensor:
    """[D, d] orthonormal basis of a space that is the same for every example."""
    values, vectors = torch.linalg.eigh(projection(space)[0])
    return vectors[:, values > 0.5]


every_space = pytest.mark.parametrize("where", spaces_of(1))
