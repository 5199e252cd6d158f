import numpy as np
import pytest
import torch

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.size import SizeDistribution

COUNTS = np.array([0, 0, 1, 0, 3, 4])


def fitted():
    return SizeDistribution(10).fit(COUNTS)


def test_log_prob_is_that_of_the_counts_and_of_one_molecule_spread_over_all_sizes():
    log_p = fitted().log_prob(torch.tensor([2, 4, 5, 3, 10, 0, 1, 11]))
    assert log_p.dtype == torch.float64
    assert log_p.exp().tolist() == pytest.approx([10 / 81, 28 / 81, 37 / 81, 1 / 81, 1 / 81, 0, 0, 0])
    assert log_p[5:].tolist() == [-np.inf] * 3
    assert fitted().log_probabilities.exp().sum().item() == pytest.approx(1)


def test_samples_are_the_inverse_distribution_function():
    u = torch.tensor([0.0, 9.99, 10.01, 11.01, 38.99, 39.01, 75.99, 76.01, 81 - 1e-14], dtype=torch.float64) / 81
    assert fitted().sample(u).tolist() == [2, 2, 3, 4, 4, 5, 5, 6, 10]


def test_evenly_spaced_uniforms_bring_back_the_counts():
    u = (torch.arange(8100) + 0.5) / 8100
    expected = 900 * np.pad(COUNTS, (0, 5)) + 100 * (np.arange(11) >= 2)
    np.testing.assert_array_equal(np.bincount(fitted().sample(u)), expected)


def test_before_fit_every_size_is_equally_likely():
    size = SizeDistribution(5)
    assert size.log_prob(torch.arange(6)).exp().tolist() == pytest.approx([0, 0, 0.25, 0.25, 0.25, 0.25])


def test_the_state_survives():
    other = SizeDistribution(10)
    other.load_state_dict(fitted().state_dict())
    assert torch.equal(other.log_probabilities, fitted().log_probabilities)


@pytest.mark.parametrize("counts", [np.zeros(5), np.eye(12)[11], np.eye(5)[1]])
def test_counts_that_do_not_fit_are_refused(counts):
    with pytest.raises(InputError, match="max_atoms = 10"):
        SizeDistribution(10).fit(counts)
