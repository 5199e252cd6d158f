"""Classes of intensity against every split there is, and volumes in millilitres."""

import numpy as np
import pytest

from medmol_diffusion.mri.judge.measure import Anatomy
from medmol_diffusion.mri.judge.measures import intensity_distance, volume_distances
from medmol_diffusion.mri.judge.tissue import class_volumes, intensity_counts, thresholds


def test_thresholds_are_the_best_of_all_splits() -> None:
    counts = np.random.default_rng(0).integers(0, 30, 14).astype(float)
    values = np.repeat(np.arange(14), counts.astype(int))

    def scatter(first: int, second: int) -> float:
        parts = values[values < first], values[(values >= first) & (values < second)], values[values >= second]
        return sum(((part - part.mean()) ** 2).sum() for part in parts if len(part))

    every = {(i, j): scatter(i, j) for i in range(15) for j in range(i, 15)}
    assert every[thresholds(counts)] == pytest.approx(min(every.values()), rel=1e-12)


def test_volumes_are_millilitres_of_what_lies_in_the_mask() -> None:
    data = np.full((10, 10, 10), -1.0, dtype=np.float32)
    data[:5], data[5:7], data[7:9] = -0.5, 0.1, 0.8
    mask = data > -1
    np.testing.assert_allclose(class_volumes(data, mask, voxel=8.0), [4.0, 1.6, 1.6])
    assert intensity_counts(data, mask).sum() == 900


def anatomy(histograms: np.ndarray, volumes: np.ndarray) -> Anatomy:
    return Anatomy(histograms, volumes, np.zeros((len(volumes), 32)))


def test_histograms_that_are_shifted_are_as_far_apart_as_the_shift() -> None:
    rng = np.random.default_rng(0)
    histograms = np.zeros((9, 256))
    histograms[:, 40:90] = rng.dirichlet(np.ones(50), 9)
    volumes = rng.uniform(100, 200, (9, 3))
    shifted = np.roll(histograms, 51, axis=1)  # a fifth of 255 steps
    found = intensity_distance(anatomy(shifted, volumes), anatomy(histograms, volumes))
    assert found.value == pytest.approx(20, rel=1e-12)
    assert found.generated - found.real == pytest.approx(20, rel=1e-12)
    assert found.low <= 20 <= found.high
    same = intensity_distance(anatomy(histograms, volumes), anatomy(histograms, volumes))
    assert same.value == 0


def test_larger_heads_are_seen_in_their_volume_and_not_in_the_shares() -> None:
    volumes = np.random.default_rng(0).uniform(100, 200, (12, 3))
    histograms = np.full((12, 256), 1 / 256)
    head, *classes = volume_distances(anatomy(histograms, 1.5 * volumes), anatomy(histograms, volumes))
    assert head.value == pytest.approx(0.5 * volumes.sum(1).mean(), rel=1e-12)
    assert [one.value for one in classes] == pytest.approx([0, 0, 0], abs=1e-12)
