import math

import pytest
import torch

from medmol_diffusion.core import Dense, Elbo, GaussianDenoiser, LinearGamma, Streams, elbo
from medmol_diffusion.core.observation import Gaussian

ORACLE = GaussianDenoiser(torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64))


X = ORACLE.sample(torch.zeros(1000, 3, dtype=torch.float64), torch.Generator().manual_seed(0))


def bound(count: int, transitions: int = 0, draws: int | None = 1, start: int = 0) -> Elbo:
    x, streams = X[start:count], Streams(0, torch.arange(start, count))
    return elbo(ORACLE, LinearGamma(-6.0, 6.0), Dense(x), x, Gaussian(), x, streams, transitions, draws)


def test_total_adds_every_term_but_the_log_volume() -> None:
    terms = {"prior": torch.tensor([1.0, 2.0]), "size": torch.tensor([0.5, 0.5]), "log_volume": torch.tensor([3.0, -3])}
    found = Elbo(terms, dim=torch.tensor([2.0, 4.0]), draw_variance=torch.zeros(2))
    assert found.total.tolist() == [-1.5, 5.5]
    assert found.nats_per_dim.tolist() == [-0.75, 1.375]
    torch.testing.assert_close(found.bits_per_dim, torch.tensor([-0.75, 1.375]) / math.log(2))
    assert found.with_terms(latent=torch.ones(2)).total.tolist() == [-0.5, 6.5]
    mean, error = found.summary()["total"]
    assert (mean, error) == (2.0, pytest.approx(7 / 2))  # std of two values is |a - b| / sqrt 2
    assert list(found.summary()) == [*terms, "total", "nats_per_dim", "bits_per_dim"]


def test_one_example_has_no_standard_error() -> None:
    mean, error = bound(1).summary()["total"]
    assert math.isfinite(mean)
    assert math.isnan(error)


@pytest.mark.parametrize(("transitions", "draws"), [(0, 2), (10, 2), (10, None)])
def test_parts_concatenate_to_the_whole(transitions: int, draws: int | None) -> None:
    whole = bound(9, transitions, draws)
    joined = Elbo.concatenate([bound(4, transitions, draws), bound(9, transitions, draws, start=4)])
    for name, value in whole.terms.items():
        torch.testing.assert_close(joined.terms[name], value)
    torch.testing.assert_close(joined.dim, whole.dim)
    torch.testing.assert_close(joined.draw_variance, whole.draw_variance, equal_nan=True)
    assert joined.settings == whole.settings


def test_the_map_sums_to_the_diffusion_term() -> None:
    found = bound(5, draws=3)
    assert found.map is not None
    torch.testing.assert_close(found.map.sum(1), found.terms["diffusion"])


def test_draws_agree_with_the_exact_sum() -> None:
    exact, drawn = bound(1000, 20, None), bound(1000, 20, 4)
    difference = drawn.terms["diffusion"] - exact.terms["diffusion"]
    error = difference.std().item() / 1000**0.5
    assert abs(difference.mean().item()) < 3 * error
    assert error < 0.05 * exact.terms["diffusion"].mean().item()  # and the test can tell
    assert exact.draw_variance.isnan().all()
    assert exact.settings == {"gamma_0": -6.0, "gamma_1": 6.0, "transitions": 20.0, "draws": 20.0}


def test_draw_variance_bounds_the_spread_of_the_estimate() -> None:
    """Independent draws of one example would spread by it; stratified ones spread less. One draw tells nothing."""
    x = X[:1].expand(400, 3)
    streams = Streams(0, torch.arange(400))
    found = elbo(ORACLE, LinearGamma(-6.0, 6.0), Dense(x), x, Gaussian(), x, streams, draws=4)
    assert 0 < found.total.var() < found.draw_variance.mean() * 1.2
    assert found.draw_error == pytest.approx((found.draw_variance.mean() / len(found.total)).sqrt().item())
    assert bound(2).draw_variance.isnan().all()


def test_impossible_draws_are_refused() -> None:
    with pytest.raises(ValueError, match="give transitions, or draws"):
        bound(2, 0, None)
    with pytest.raises(ValueError, match="draws = 0"):
        bound(2, 10, 0)
