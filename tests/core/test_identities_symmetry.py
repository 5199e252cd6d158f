"""V18: rotation, reflection, translation, permutation, padding and batch composition leave every term unchanged."""

import pytest
import torch
from torch import Tensor, nn

from medmol_diffusion import core
from medmol_diffusion.core import (
    Cosine,
    Streams,
    elbo,
)
from medmol_diffusion.core.observation import (
    Categorical,
    Gaussian,
)
from medmol_diffusion.core.observation import (
    Product as ProductObservation,
)
from tests.core.oracle import GivenNoise, molecule_space


class PairNetwork(nn.Module):
    """A small E(3)-equivariant, permutation-equivariant network on the blocks of a molecule-like state."""

    def forward(self, z: Tensor, gamma: Tensor, space: core.Space, condition: object = None) -> Tensor:
        inner = space.inner if isinstance(space, GivenNoise) else space
        assert isinstance(inner, core.Product)
        parts = inner.split(z)
        x, h = parts["positions"], parts["features"]
        mask = inner.blocks["positions"].mask  # type: ignore[attr-defined]
        pairs = (mask[:, :, None] & mask[:, None])[..., None]
        difference = x[:, :, None] - x[:, None]
        weight = (
            torch.exp(-difference.square().sum(-1, keepdim=True)) * (1 + h.sum(-1)[:, None, :, None].tanh()) * pairs
        )
        scale = core.sigma(gamma)[:, None, None].to(z)
        return inner.join(
            {"positions": scale * (difference * weight).sum(2), "features": scale * h.tanh() + weight.sum(2)}
        )


def molecule_bound(positions: Tensor, features: Tensor, mask: Tensor, streams: Streams, transitions: int) -> core.Elbo:
    space = molecule_space(mask, features.shape[-1])
    labels = features.argmax(-1)
    x = space.project(space.join({"positions": positions, "features": features}))
    data = {"positions": space.split(x)["positions"], "features": labels}
    denoiser = core.NetworkDenoiser(PairNetwork(), core.Eps())
    observation = ProductObservation({"positions": Gaussian(), "features": Categorical(1.0)})
    return elbo(denoiser, Cosine(-9.0, 6.0), space, x, observation, data, streams, transitions, draws=2)


@pytest.mark.parametrize("transitions", [0, 100])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_v18_padding_and_batch_composition_leave_every_term_unchanged(transitions: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = [3, 7, 5]
    mask = torch.arange(7) < torch.tensor(sizes)[:, None]
    positions = torch.randn(3, 7, 3, generator=generator, dtype=dtype) * mask[..., None]
    features = nn.functional.one_hot(torch.randint(4, (3, 7), generator=generator), 4).to(dtype) * mask[..., None]
    together = molecule_bound(positions, features, mask, Streams(5, torch.arange(3)), transitions)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    for i, n in enumerate(sizes):
        alone = molecule_bound(
            positions[i : i + 1, :n],
            features[i : i + 1, :n],
            mask[i : i + 1, :n],
            Streams(5, torch.tensor([i])),
            transitions,
        )
        for name, value in alone.terms.items():
            torch.testing.assert_close(value[0], together.terms[name][i], rtol=tolerance, atol=tolerance)


class Moved(core.Product):
    """A molecule space whose noise is that of ``source``, rotated and permuted like the molecule."""

    def __init__(self, source: core.Product, rotation: Tensor, order: Tensor) -> None:
        super().__init__(source.blocks)
        self.rotation, self.order = rotation, order

    def noise(self, like: Tensor, generator: core.Randomness) -> Tensor:
        parts = self.split(super().noise(like, generator))
        return self.join(
            {
                "positions": parts["positions"][:, self.order] @ self.rotation,
                "features": parts["features"][:, self.order],
            }
        )


@pytest.mark.parametrize("reflect", [False, True])
@pytest.mark.parametrize("transitions", [0, 100])
def test_v18_rotation_reflection_translation_and_permutation_leave_every_term_unchanged(
    reflect: bool, transitions: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    n = 6
    positions = torch.randn(2, n, 3, generator=generator, dtype=torch.float64)
    labels = torch.randint(4, (2, n), generator=generator)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    if (torch.det(rotation) < 0) != reflect:
        rotation = -rotation
    order = torch.randperm(n, generator=generator)
    space = molecule_space(torch.ones(2, n, dtype=torch.bool), 4)
    observation = ProductObservation({"positions": Gaussian(), "features": Categorical(1.0)})
    denoiser = core.NetworkDenoiser(PairNetwork(), core.Eps())

    def bound(where: core.Product, points: Tensor, names: Tensor) -> core.Elbo:
        features = nn.functional.one_hot(names, 4).double()
        x = where.project(where.join({"positions": points, "features": features}))
        data = {"positions": where.split(x)["positions"], "features": names}
        return elbo(
            denoiser, Cosine(-9.0, 6.0), where, x, observation, data, Streams(1, torch.arange(2)), transitions, 2
        )

    still = bound(space, positions, labels)
    moved = bound(Moved(space, rotation, order), positions[:, order] @ rotation + 5.0, labels[:, order])
    for name, value in still.terms.items():
        torch.testing.assert_close(moved.terms[name], value, rtol=1e-10, atol=1e-10)
