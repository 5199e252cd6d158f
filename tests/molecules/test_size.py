import numpy as np
import pytest
import torch

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.size import SizeDistribution

COUNTS = np.array([0, 0, 1, 0, 3, 4])


def fitted():
    return SizeDistribution(10).fit(COUNTS)


def test_log_prob_is_that_of_the_counts_and_minus_infinity_for_sizes_never_seen():
    log_p = fitted().log_prob(torch.tensor([2, 4, 5, 3, 0, 10, 11]))
    assert log_p.dtype == torch.float64
    assert log_p.exp().tolist() == pytest.approx([1 / 8, 3 / 8, 1 / 2, 0, 0, 0, 0])
    assert log_p[3:].tolist() == [-np.inf] * 4


def test_samples_are_the_inverse_distribution_function():
    u = torch.tensor([0.0, 0.1249, 0.1251, 0.4999, 0.5001, 1 - 1e-16], dtype=torch.float64)
    assert fitted().sample(u).tolist() == [2, 2, 4, 4, 5, 5]


def test_evenly_spaced_uniforms_bring_back_the_counts():
    u = (torch.arange(8000) + 0.5) / 8000
    np.testing.assert_array_equal(np.bincount(fitted().sample(u)), COUNTS * 1000)


def test_entropy_is_the_mean_of_minus_log_prob():
    p = COUNTS[COUNTS > 0] / 8
    assert fitted().entropy().item() == pytest.approx(-(p * np.log(p)).sum())


def test_before_fit_every_size_is_equally_likely():
    size = SizeDistribution(4)
    assert size.log_prob(torch.arange(5)).exp().tolist() == pytest.approx([0, 0.25, 0.25, 0.25, 0.25])


def test_the_state_survives():
    other = SizeDistribution(10)
    other.load_state_dict(fitted().state_dict())
    assert torch.equal(other.log_probabilities, fitted().log_probabilities)


@pytest.mark.parametrize("counts", [np.zeros(5), np.ones(12)])
def test_counts_that_do_not_fit_are_refused(counts):
    with pytest.raises(InputError, match="max_atoms = 10"):
        SizeDistribution(10).fit(counts)
