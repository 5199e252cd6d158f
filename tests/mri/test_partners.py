"""Scans of one subject and session find each other, and move together."""

from pathlib import Path

import numpy as np
import pytest
import torch

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.data import VolumeData
from medmol_diffusion.mri.phantom_data import PhantomData
from medmol_diffusion.mri.transforms import Augmentation
from medmol_diffusion.mri.volume import Volume

SHAPE = (8, 10, 8)


def blob(centre: np.ndarray, affine: np.ndarray, shape: tuple[int, int, int]) -> Volume:
    """A bright ball about a point in millimetres."""
    mm = Volume(np.zeros(shape), affine).to_mm(np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1))
    return Volume(100 * np.exp(-((mm - centre) ** 2).sum(-1) / 8), affine)


def study(folder: Path) -> Path:
    """Four subjects, of whom the second has two sessions; FLAIR of 1 mm, T1w of 0.5 mm turned over and moved."""
    fine = np.diag([-0.5, -0.5, 0.5, 1.0])
    fine[:3, 3] = [8.0, 9.5, -1.0]
    names = ["sub-a", "sub-b_ses-1", "sub-b_ses-2", "sub-c", "sub-d"]
    for i, name in enumerate(names):
        centre = np.array([2.0 + i, 6.0 - i, 3.0])
        blob(centre, np.eye(4), SHAPE).write(folder / f"{name}_FLAIR.nii.gz")
        blob(centre, fine, (18, 20, 18)).write(folder / f"{name}_T1w.nii.gz")
    return folder


def opened(folder: Path, **options: object) -> VolumeData:
    data = VolumeData(
        str(folder), list(SHAPE), suffix="FLAIR", images={"T1w": "*_T1w.nii.gz"}, validation=0, test=0, **options
    )
    data.setup()
    return data


def test_every_scan_gets_the_image_of_its_subject_and_session_on_its_own_grid(tmp_path: Path) -> None:
    data = opened(study(tmp_path))
    batch = next(iter(data.evaluation_dataloader("train", np.arange(5))))
    assert batch.data.shape == batch.images["T1w"].shape == (5, 1, *SHAPE)
    for scan, image in zip(batch.data, batch.images["T1w"], strict=True):
        centres = [(one[0] > 0).nonzero().double().mean(0) for one in (scan, image)]
        torch.testing.assert_close(*centres, atol=0.3, rtol=0)
        assert np.corrcoef(scan.flatten(), image.flatten())[0, 1] > 0.95
    for moved in (batch.take(torch.tensor([3])), batch.to("cpu")):
        assert torch.equal(moved.images["T1w"][-1], batch.images["T1w"][3 if len(moved) == 1 else 4])


def test_scans_without_a_partner_are_named_in_one_warning(tmp_path: Path) -> None:
    (study(tmp_path) / "sub-c_T1w.nii.gz").unlink()
    (tmp_path / "sub-b_ses-2_T1w.nii.gz").unlink()
    with pytest.warns(UserWarning, match="2 of 5 scans are left out") as said:
        data = opened(tmp_path)
    assert [warning.message.args[0].count("has no T1w") for warning in said] == [2]
    assert "sub-c_FLAIR.nii.gz has no T1w" in str(said[0].message)
    assert data.train.names == [f"{name}_FLAIR.nii.gz" for name in ("sub-a", "sub-b_ses-1", "sub-d")]


def test_a_scan_with_two_partners_or_none_at_all_is_an_error(tmp_path: Path) -> None:
    blob(np.zeros(3), np.eye(4), SHAPE).write(study(tmp_path) / "sub-a_run-2_T1w.nii.gz")
    with pytest.raises(InputError, match=r"sub-a_FLAIR.nii.gz has several partners for data.images.T1w"):
        opened(tmp_path)
    for file in tmp_path.glob("*_T1w.nii.gz"):
        file.unlink()
    blob(np.zeros(3), np.eye(4), SHAPE).write(tmp_path / "sub-z_T1w.nii.gz")
    with pytest.raises(InputError, match="no scan has a partner"):
        opened(tmp_path)


def test_augmentation_moves_scan_and_images_alike_and_bends_the_images_alone() -> None:
    draw = np.random.default_rng(0)
    scan = torch.from_numpy(draw.integers(0, 256, (1, 6, 6, 6)) * (2 / 255) - 1).float()
    both, mask = scan.expand(2, -1, -1, -1), torch.ones(1, 6, 6, 6, dtype=torch.bool)
    seen = set()
    for epoch in range(12):
        moved, moved_mask = Augmentation((0, 1), 2)(both, mask, 256, epoch, 0)
        assert torch.equal(moved[0], moved[1])
        assert (moved[:1][~moved_mask] == -1).all()
        seen.add(float(moved[0].sum()))
        bent, _ = Augmentation(bend=0.5)(both, mask, 256, epoch, 0)
        assert torch.equal(bent[0], scan[0])
        assert not torch.equal(bent[1], scan[0])
        alone, _ = Augmentation((0, 1), 2)(scan, mask, 256, epoch, 0)
        assert torch.equal(alone[0], moved[0])
    assert len(seen) > 6


def test_phantoms_bring_other_contrasts_of_the_same_heads() -> None:
    data = PhantomData(3, [16, 20, 16], contrast="FLAIR", images=["T1w"], validation=0, test=0)
    data.setup()
    plain = PhantomData(3, [16, 20, 16], contrast="T1w", validation=0, test=0)
    plain.setup()
    for i in range(3):
        assert torch.equal(data.train[i].images["T1w"], plain.train[i].data)
        assert not torch.equal(data.train[i].data, plain.train[i].data)
