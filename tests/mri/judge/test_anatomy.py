"""Ventricles and lesions measured on scans, against what the phantoms truly have."""

import numpy as np
import pytest

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.judge.anatomy import lesion_load, ventricle_volume
from medmol_diffusion.mri.phantom import Contrast, Phantom, head_phantom
from medmol_diffusion.mri.transforms import Grid
from medmol_diffusion.mri.volume import Volume

SHAPE = (48, 60, 48)


@pytest.mark.parametrize("contrast", ["T1w", "T2w", "FLAIR"])
def test_the_ventricles_measured_are_those_that_the_phantoms_have(contrast: Contrast) -> None:
    found = [head_phantom(500 + i, SHAPE, contrast=contrast, atrophy=i / 6) for i in range(7)]
    truth = np.array([head.ventricles for head in found])
    measured = np.array([ventricle_volume(head.volume, contrast) for head in found])
    assert np.corrcoef(truth, measured)[0, 1] > 0.97
    assert np.abs(measured - truth).mean() < 6


def test_what_is_measured_does_not_depend_on_the_units() -> None:
    """Scans as a model makes them, in [-1, 1] of a grid about the origin."""
    head = head_phantom(3, SHAPE, contrast="T1w", atrophy=0.5)
    prepared = Grid(SHAPE).prepare(head.volume).volume
    bare = Volume(prepared.data, np.diag([4.0, 4.0, 4.0, 1.0]))
    assert ventricle_volume(bare, "T1w") == pytest.approx(ventricle_volume(head.volume, "T1w"), rel=0.03)


@pytest.fixture(scope="module")
def with_lesions() -> list[Phantom]:
    """The same three people without lesions, with some and with many."""
    return [head_phantom(700 + i, SHAPE, contrast="FLAIR", lesions=n) for n in (0, 4, 8) for i in range(3)]


def test_the_lesions_measured_are_those_that_the_phantoms_have(with_lesions: list[Phantom]) -> None:
    truth = np.array([head.lesion_load for head in with_lesions])
    measured = np.array([lesion_load(head.volume) for head in with_lesions])
    assert measured[:3].max() < 0.5
    assert np.corrcoef(truth, measured)[0, 1] > 0.85
    assert np.abs(measured - truth).mean() < 0.25 * truth.mean() + 0.5


def test_lesions_are_measured_the_same_on_a_grid_that_clips_nothing_and_lost_on_one_that_does(
    with_lesions: list[Phantom],
) -> None:
    ill = with_lesions[6:]
    truth = [lesion_load(head.volume) for head in ill]
    kept, lost = (
        [lesion_load(Grid(SHAPE, upper=upper).prepare(head.volume).volume) for head in ill] for upper in (100, 99.5)
    )
    np.testing.assert_allclose(kept, truth, atol=0.5)
    assert np.mean(lost) < 0.5 * np.mean(truth)


def test_what_cannot_be_measured_is_refused() -> None:
    flat = Volume(np.zeros((8, 8, 8)), np.diag([1.0, 1.0, 3.0, 1.0]))
    for measure in (lambda: ventricle_volume(flat, "T1w"), lambda: lesion_load(flat)):
        with pytest.raises(InputError, match="cubes"):
            measure()
    with pytest.raises(InputError, match="'PET' is unknown"):
        ventricle_volume(flat, "PET")  # type: ignore[arg-type]
