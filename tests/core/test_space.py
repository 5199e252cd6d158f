from collections.abc import Callable

import pytest
import torch

from medmol_diffusion.core import Dense, Masked, Product, Randomness, Space, Streams, ZeroCentre
from tests.core.oracle import projection

MASK = torch.arange(5) < torch.tensor([5, 2])[:, None]

SPACES: dict[str, Space] = {
    "dense": Dense(torch.zeros(2, 5, 3)),
    "masked": Masked(MASK, 3),
    "masked_grid": Masked(MASK.reshape(2, 1, 5), 2),
    "zero_centre": ZeroCentre(MASK),
    "zero_centre_plane": ZeroCentre(MASK, 2),
    "product": Product({"positions": ZeroCentre(MASK), "features": Masked(MASK, 2)}),
}
spaces = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES.keys())


@spaces
def test_projection_is_orthogonal_and_its_trace_is_the_dimension(space: Space) -> None:
    p = projection(space)
    torch.testing.assert_close(p @ p, p, rtol=0, atol=1e-14)
    torch.testing.assert_close(p, p.transpose(1, 2), rtol=0, atol=1e-14)
    torch.testing.assert_close(p.diagonal(dim1=1, dim2=2).sum(1), space.dim(), rtol=1e-13, atol=0)
    assert space.dim().dtype == torch.float64


@spaces
@pytest.mark.parametrize("streams", [True, False])
def test_noise_is_normal_on_the_space(space: Space, streams: bool) -> None:
    like = torch.zeros(space.shape, dtype=torch.float64)
    source: Randomness = Streams(0, torch.arange(2)) if streams else torch.Generator().manual_seed(0)
    draws = 2000
    eps = torch.stack([space.noise(like, source) for _ in range(draws)])
    torch.testing.assert_close(space.project(eps[0]), eps[0], rtol=0, atol=1e-14)
    flat = eps.flatten(2)
    covariance = torch.einsum("kbi,kbj->bij", flat, flat) / draws
    assert (covariance - projection(space)).abs().max() < 5 * (2 / draws) ** 0.5  # five standard errors
    assert flat.mean(0).abs().max() < 5 / draws**0.5


@spaces
@pytest.mark.parametrize("streams", [True, False])
def test_noise_drawn_ahead_is_that_drawn_in_turn(space: Space, streams: bool) -> None:
    like = torch.zeros(space.shape)
    sources: list[Randomness] = [
        Streams(0, torch.arange(2)) if streams else torch.Generator().manual_seed(0) for _ in "ab"
    ]
    ahead = [*space.noises(like, sources[0], 3), *space.noises(like, sources[0], 2)]
    for eps in ahead:
        torch.testing.assert_close(eps, space.noise(like, sources[1]), rtol=1e-6, atol=1e-6)
        assert eps.shape == like.shape
    assert not torch.equal(ahead[0], ahead[1])


@pytest.mark.parametrize("kind", [lambda mask: Masked(mask, 4), lambda mask: ZeroCentre(mask, 4)])
def test_a_batch_without_padding_is_what_it_is_beside_padding(kind: Callable[[torch.Tensor], Masked]) -> None:
    """Nothing is masked where nothing is padded: the same draws and projections, without a pass over the state."""
    plain, padded = kind(torch.ones(2, 5, dtype=torch.bool)), kind((torch.arange(7) < 5).expand(2, 7))
    eps = [space.noise(torch.zeros(space.shape), Streams(0, torch.arange(2))) for space in (plain, padded)]
    torch.testing.assert_close(eps[0], eps[1][:, :5])
    assert not eps[1][:, 5:].any()
    v = torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(plain.project(v[:, :5]), padded.project(v)[:, :5])


@pytest.mark.parametrize("name", ["masked", "zero_centre", "product"])
def test_padding_is_not_summed(name: str) -> None:
    space = SPACES[name]
    v = torch.randn(space.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    real = Masked(MASK, 3).project(torch.ones(2, 5, 3)).flatten(1).double()
    if isinstance(space, Product):
        real = torch.cat([real, Masked(MASK, 2).project(torch.ones(2, 5, 2)).flatten(1).double()], 1)
    torch.testing.assert_close(space.sum(v), (v.flatten(1) * real).sum(1))
    torch.testing.assert_close(space.squared_norm(v), (v.flatten(1) ** 2 * real).sum(1))


def test_product_takes_states_apart_and_together() -> None:
    space = SPACES["product"]
    assert isinstance(space, Product)
    v = torch.randn(space.shape)
    parts = space.split(v)
    assert {name: tuple(part.shape) for name, part in parts.items()} == {"positions": (2, 5, 3), "features": (2, 5, 2)}
    assert torch.equal(space.join(dict(reversed(parts.items()))), v)


def test_impossible_spaces_are_refused() -> None:
    with pytest.raises(ValueError, match="must be boolean"):
        Masked(torch.ones(2, 3), 1)
    with pytest.raises(ValueError, match="without a single element"):
        Masked(torch.tensor([[True], [False]]), 1)
    with pytest.raises(ValueError, match="two points or more"):
        ZeroCentre(torch.tensor([[True, True], [True, False]]))
    with pytest.raises(ValueError, match="batch size"):
        Product({"a": Dense(torch.zeros(2, 1)), "b": Dense(torch.zeros(3, 1))})


@spaces
@pytest.mark.parametrize("streams", [True, False])
def test_signs_are_projected_and_their_second_moment_is_the_projection(space: Space, streams: bool) -> None:
    like = torch.zeros(space.shape, dtype=torch.float64)
    source: Randomness = Streams(0, torch.arange(2)) if streams else torch.Generator().manual_seed(0)
    draws = 2000
    v = torch.stack([space.signs(like, source) for _ in range(draws)])
    torch.testing.assert_close(space.project(v[0]), v[0], rtol=0, atol=1e-14)
    moment = torch.einsum("kbi,kbj->bij", v.flatten(2), v.flatten(2)) / draws
    assert (moment - projection(space)).abs().max() < 5 / draws**0.5
    if isinstance(space, Dense):
        assert set(v.unique().tolist()) == {-1.0, 1.0}


@pytest.mark.parametrize("name", ["masked", "zero_centre", "product"])
def test_signs_of_an_example_ignore_padding_and_the_batch(name: str) -> None:
    space, mask = SPACES[name], MASK[1:, :2]
    alone = {
        "masked": Masked(mask, 3),
        "zero_centre": ZeroCentre(mask),
        "product": Product({"positions": ZeroCentre(mask), "features": Masked(mask, 2)}),
    }[name]
    together = space.signs(torch.zeros(space.shape), Streams(0, torch.arange(2)))[1:]
    found = alone.signs(torch.zeros(alone.shape), Streams(0, torch.tensor([1])))
    assert torch.equal(together[together != 0].sort().values, found[found != 0].sort().values)
