"""Ventricles and lesions measured on scans, against what the phantoms truly have."""

import numpy as np
import pytest

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.judge.anatomy import lesion_load, ventricle_volume
from medmol_diffusion.mri.phantom import Contrast, Phantom, head_phantom
from medmol_diffusion.mri.transforms import Grid
from medmol_diffusion.mri.volume import Volume

SHAPE = (48, 60, 48)


def heads(count: int, contrast: Contrast, lesions: int = 0) -> list[Phantom]:
    return [
        head_phantom(500 + i, SHAPE, contrast=contrast, atrophy=i / (count - 1), lesions=(5 * i) % 11 if lesions else 0)
        for i in range(count)
    ]


@pytest.mark.parametrize("contrast", ["T1w", "T2w", "FLAIR"])
def test_the_ventricles_measured_are_those_that_the_phantoms_have(contrast: Contrast) -> None:
    found = heads(10, contrast)
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


def test_more_lesions_on_flair_measure_more() -> None:
    """The same people with and without: cortex may look like lesions, the difference does not."""
    bare, ill = ([head_phantom(700 + i, SHAPE, contrast="FLAIR", lesions=n) for i in range(6)] for n in (0, 10))
    gain = [lesion_load(b.volume) - lesion_load(a.volume) for a, b in zip(bare, ill, strict=True)]
    assert min(gain) > 0
    truth = np.array([head.lesion_load for head in [*bare, *ill]])
    measured = np.array([lesion_load(head.volume) for head in [*bare, *ill]])
    assert np.corrcoef(truth, measured)[0, 1] > 0.6


def test_what_cannot_be_measured_is_refused() -> None:
    flat = Volume(np.zeros((8, 8, 8)), np.diag([1.0, 1.0, 3.0, 1.0]))
    for measure in (lambda: ventricle_volume(flat, "T1w"), lambda: lesion_load(flat)):
        with pytest.raises(InputError, match="cubes"):
            measure()
    with pytest.raises(InputError, match="'PET' is unknown"):
        ventricle_volume(flat, "PET")  # type: ignore[arg-type]
