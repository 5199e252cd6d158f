"""The judge's grid, and that scans pass one by one."""

import weakref
from pathlib import Path

import numpy as np
import pytest

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.judge.extractor import HaarFeatures
from medmol_diffusion.mri.judge.measure import kept_scans, measure, read_thumbnails
from medmol_diffusion.mri.judge.scans import ScanFolder, judged_grid
from medmol_diffusion.mri.volume import Volume


def write(folder: Path, shapes: list[tuple[int, int, int]], spacing: float = 2.0, flip: bool = False) -> ScanFolder:
    rng = np.random.default_rng(0)
    affine = np.diag([-spacing if flip else spacing, spacing, spacing, 1.0])
    for place, shape in enumerate(shapes):
        Volume(rng.uniform(0, 900, shape), affine).write(folder / f"scan-{place}.nii.gz")
    return ScanFolder.survey(folder)


def test_scans_of_one_spacing_share_the_smallest_grid_that_holds_all(tmp_path: Path) -> None:
    real = write(tmp_path / "real", [(14, 16, 15), (12, 18, 15)])
    made = write(tmp_path / "made", [(13, 13, 16)], flip=True)
    judged = judged_grid(real, made)
    assert judged.grid.shape == (14, 18, 16)
    assert (judged.spacing, judged.resampled) == ((2.0, 2.0, 2.0), 0)
    (_, prepared), *_ = made.prepared(judged.grid)
    assert prepared.volume.orientation == "RAS"
    assert prepared.volume.shape == judged.grid.shape


def test_other_spacings_come_to_that_of_the_real_scans(tmp_path: Path) -> None:
    real = write(tmp_path / "real", [(14, 16, 14)] * 3)
    made = write(tmp_path / "made", [(28, 32, 28)] * 2, spacing=1.0)
    judged = judged_grid(real, made)
    assert judged.grid.shape == (14, 16, 14)
    assert judged.spacing == (2.0, 2.0, 2.0)
    assert judged.resampled == 2
    assert judged.to_dict() == {"shape": [14, 16, 14], "spacing_mm": [2.0, 2.0, 2.0], "resampled": 2}


def test_a_crop_is_not_held_against_a_whole_head(tmp_path: Path) -> None:
    real = write(tmp_path / "real", [(30, 30, 30)] * 2)
    with pytest.raises(InputError, match=r"made/scan-1\.nii\.gz shows 60 x 60 x 28 mm, the usual scan of .*real 60 x"):
        judged_grid(real, write(tmp_path / "made", [(30, 30, 30), (30, 30, 14)]))


def test_no_scan_is_held_longer_than_it_is_looked_at(tmp_path: Path) -> None:
    folder = write(tmp_path, [(12, 12, 12)] * 6)
    alive = []
    for _, prepared in folder.prepared(judged_grid(folder).grid):
        alive.append(weakref.ref(prepared))
        del prepared
        assert sum(one() is not None for one in alive) <= 1


def test_measuring_keeps_numbers_of_all_and_a_few_scans_drawn_at_random(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path, [(12, 12, 12)] * 6)
    judged = judged_grid(folder)
    monkeypatch.setattr("medmol_diffusion.mri.judge.measure.MOST_KEPT", 4)
    found = measure(folder, judged, HaarFeatures(), anatomy=True)
    assert found.features.shape == (6, 107)
    assert found.anatomy is not None
    assert found.anatomy.volumes.sum(1) == pytest.approx(12**3 * 8 / 1000, rel=0.3)
    assert len(set(found.kept_places)) == len(found.kept) == 4
    prepared = [one.volume.data for _, one in folder.prepared(judged.grid)]
    np.testing.assert_array_equal(found.scans(), np.array(prepared)[found.kept_places])
    np.testing.assert_array_equal(read_thumbnails(folder, judged).values, found.thumbnails)
    assert measure(folder, judged, HaarFeatures()).anatomy is None


def test_larger_scans_are_kept_in_smaller_numbers() -> None:
    assert kept_scans(40 * 56 * 48) == 45
    assert kept_scans(182 * 218 * 182) == 8
    assert kept_scans(512**3) == 4
