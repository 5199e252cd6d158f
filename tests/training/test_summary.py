"""The standard errors of the likelihood table."""

import math

import pytest
import torch

from medmol_diffusion.core import Elbo
from medmol_diffusion.training.validation import summary

DIM = torch.tensor([2.0, 4.0])
DRAWS = torch.tensor([0.16, 0.09], dtype=torch.float64)


def bound(*nats: float, draws: torch.Tensor = DRAWS) -> Elbo:
    return Elbo({"prior": torch.tensor(nats)}, DIM[: len(nats)], draws[: len(nats)])


def test_the_error_of_a_total_is_no_smaller_than_that_of_its_draws() -> None:
    """Two examples that happen to agree: sqrt(0.4^2 + 0.3^2) / 2; of apart ones a and b, |a - b| / 2."""
    assert summary(bound(1.0, 1.0))["total"] == (1.0, pytest.approx(0.25))
    assert summary(bound(1.0, 1.0))["total"][1] == pytest.approx(bound(1.0, 1.0).draw_error)
    assert summary(bound(1.0, 1.0))["prior"] == (1.0, 0.0)  # the draws are those of the total
    assert summary(bound(1.0, 4.0)) == bound(1.0, 4.0).summary()


def test_the_error_of_the_draws_per_dimension_divides_by_each_dimension() -> None:
    error = math.sqrt(0.16 / 2**2 + 0.09 / 4**2) / 2
    found = summary(bound(2.0, 4.0))  # one nat per dimension each
    assert found["nats_per_dim"] == (1.0, pytest.approx(error))
    assert found["bits_per_dim"] == (pytest.approx(1 / math.log(2)), pytest.approx(error / math.log(2)))


def test_what_cannot_be_told_is_not_made_up() -> None:
    unknown = bound(1.0, 2.0, draws=DRAWS * math.nan)
    assert summary(unknown) == unknown.summary()
    assert math.isnan(summary(bound(1.0))["total"][1])
