"""A planted copy of a training scan is found, and only that."""

import numpy as np
import pytest

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.judge.memorisation import nearest, thumbnail


def test_distances_are_root_mean_squares_of_block_means() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-1, 1, (2, 48, 20, 30)).astype(np.float32)
    blocks = [x.reshape(24, 2, 10, 2, 15, 2).mean((1, 3, 5)) for x in (a, b)]
    expected = np.sqrt(np.square(blocks[0] - blocks[1]).mean())
    assert np.linalg.norm(thumbnail(a) - thumbnail(b)) == pytest.approx(expected, rel=1e-5)
    assert len(thumbnail(a[:25, :25])) == 13 * 10 * 15  # 30 voxels still make blocks of two


def test_authenticity_by_hand() -> None:
    training = np.array([[0.0], [1.0], [4.0]])
    found = nearest(np.array([[0.25], [2.6], [9.0]]), training)
    np.testing.assert_array_equal(found.place, [0, 2, 2])
    np.testing.assert_allclose(found.distance, [0.25, 1.4, 5.0])
    np.testing.assert_allclose(found.authenticity, [0.25, 1.4 / 3, 5 / 3])
    np.testing.assert_array_equal(found.copies, [True, True, False])
    assert found.order() == [0, 1, 2]


def test_a_noisy_copy_is_caught_and_new_draws_are_not() -> None:
    rng = np.random.default_rng(0)

    def scans(count: int) -> np.ndarray:
        """Heads, if you like: one shape, with some two hundred ways to differ."""
        return np.array([thumbnail(x) for x in np.repeat(rng.uniform(-1, 1, (count, 6, 6, 6)), 4, axis=3)])

    training, fresh = scans(40), scans(60)
    copy = training[7] + 0.1 * rng.standard_normal(training.shape[1]) / training.shape[1] ** 0.5
    found = nearest(np.concatenate([fresh, [copy]]), training)
    assert found.copies.tolist() == [False] * 60 + [True]
    assert found.place[-1] == 7
    assert 0.3 < (found.authenticity > 1).mean() < 0.8


def test_equal_training_scans_still_give_away_their_copy() -> None:
    training = np.array([[0.0], [0.0], [3.0]])
    found = nearest(np.array([[0.0], [0.1]]), training)
    assert found.copies.tolist() == [True, False]
    assert found.authenticity[1] == np.inf
    with pytest.raises(InputError, match="at least 2 training scans"):
        nearest(training, training[:1])
