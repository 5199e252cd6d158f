from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import HaarStage, UNet3D, VolumeDiffusion
from medmol_diffusion.mri.bids import subject_of
from medmol_diffusion.mri.data import VolumeData
from medmol_diffusion.mri.phantom_data import PhantomData
from medmol_diffusion.mri.split import SubjectSplit
from medmol_diffusion.mri.volume_module import VolumeModule
from medmol_diffusion.mri.volume_set import collate


def folder(path: Path, count: int = 10, shape: tuple[int, int, int] = (7, 9, 6)) -> Path:
    """Scans of `count` subjects, two sessions each, every scan of its own random values."""
    for subject in range(count):
        for session in range(2):
            data = np.random.default_rng([subject, session]).integers(0, 500, shape).astype(np.int16)
            file = path / f"sub-{subject:02d}" / f"sub-{subject:02d}_ses-{session}_T1w.nii.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(data, np.eye(4)), file)
    return path


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_splits_are_disjoint_by_subject_complete_and_repeatable(seed: int, tmp_path: Path) -> None:
    data = VolumeData(str(folder(tmp_path)), [8, 10, 8], validation=0.2, test=0.3, split_seed=seed)
    data.setup()
    parts = [set(part.subjects) for part in (data.train, data.validation, data.test)]
    assert [len(part) for part in parts] == [5, 2, 3]
    assert len(set.union(*parts)) == 10
    names = [*data.train.names, *data.validation.names, *data.test.names]
    assert len(set(names)) == 20
    again = VolumeData(str(tmp_path), [8, 10, 8], validation=0.2, test=0.3, split_seed=seed)
    again.setup()
    assert again.test.names == data.test.names


def split_subjects(
    subjects: list[str], validation: float, test: float, seed: int
) -> tuple[list[int], list[int], list[int]]:
    return SubjectSplit.draw(subjects, validation, test, seed).members(subjects)


def test_split_depends_on_its_seed_and_keeps_one_for_training() -> None:
    subjects = [f"s{i}" for i in range(40)]
    assert split_subjects(subjects, 0.1, 0.1, 0) != split_subjects(subjects, 0.1, 0.1, 1)
    assert split_subjects(subjects, 0.0, 0.0, 0) == (list(range(40)), [], [])
    assert [len(part) for part in split_subjects(["a", "b", "c"], 0.1, 0.1, 0)] == [1, 1, 1]
    with pytest.raises(InputError, match="2 subjects are too few"):
        split_subjects(["a", "b"], 0.1, 0.1, 0)


def test_batches_hold_bin_centres_and_count_the_scans_own_voxels(tmp_path: Path) -> None:
    data = VolumeData(str(folder(tmp_path, 4)), [8, 12, 8], batch_size=3, validation=0.25, test=0.25)
    data.setup()
    for batch in data.train_dataloader():
        assert batch.data.shape == batch.mask.shape == (3, 1, 8, 12, 8)
        assert batch.data.dtype == torch.float32
        assert batch.mask.sum((1, 2, 3, 4)).tolist() == [7 * 9 * 6] * 3
        assert torch.all(batch.data[~batch.mask] == -1)
        bins = (batch.data.double() + 1) / 2 * 255
        torch.testing.assert_close(bins, bins.round(), rtol=0, atol=1e-4)
        assert batch.names == [data.train.names[i] for i in batch.index]
        moved = batch.to("cpu", non_blocking=True)
        assert len(moved) == 3
        assert moved.names == batch.names


@pytest.mark.parametrize("workers", [0, 1])
def test_order_and_augmentation_follow_seed_and_epoch_alone(workers: int) -> None:
    def epoch(number: int, batch_size: int, seed: int = 0) -> torch.Tensor:
        data = PhantomData(
            10, [8, 8, 8], batch_size=batch_size, flip=[0, 1, 2], shift=1, seed=seed, num_workers=workers
        )
        data.setup()
        loader = data.train_dataloader()
        loader.load_state_dict({"epoch": number, "served": 0})
        return torch.cat([batch.data for batch in loader])

    base = epoch(1, 4)
    assert torch.equal(epoch(1, 4), base)
    assert torch.equal(epoch(1, 2), base)
    assert not torch.equal(epoch(2, 4), base)


def test_bad_files_are_named_and_skipped(tmp_path: Path) -> None:
    folder(tmp_path, 3)
    (tmp_path / "sub-09_T1w.nii.gz").write_bytes(b"no scan")
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4)), np.eye(4)), tmp_path / "sub-10_T1w.nii.gz")
    data = VolumeData(str(tmp_path), [8, 10, 8])
    with pytest.warns(UserWarning, match=r"(?s)2 of 8 files.*sub-09_T1w.*cannot be read.*sub-10_T1w.*constant"):
        data.setup()
    assert len(data.train) + len(data.validation) + len(data.test) == 6
    lone = VolumeData(str(tmp_path), [8, 10, 8], pattern="sub-09*.nii.gz")
    with pytest.raises(InputError, match=r"None of the 1 files.*sub-09"):
        lone.setup()


def test_cropping_is_said(tmp_path: Path) -> None:
    data = VolumeData(str(folder(tmp_path, 3)), [8, 8, 8])
    with pytest.warns(UserWarning, match=r"6 of 6 scans.*larger than \[8, 8, 8\].*enlarge data.shape"):
        data.setup()
    assert next(iter(data.train_dataloader())).mask.sum(dim=(1, 2, 3, 4))[0] == 7 * 8 * 6


def test_whose_scan_it_is_stands_in_its_path() -> None:
    assert subject_of("sub-07/ses-1/anat/sub-07_ses-1_T1w.nii.gz") == "sub-07"
    assert subject_of("Subj10_FLAIR.nii.gz") == "Subj10"
    assert subject_of("hippocampus_001.nii.gz") == "hippocampus_001"


def test_phantoms_are_data_too() -> None:
    data = PhantomData(6, [16, 20, 16], contrast="FLAIR", lesions=True, batch_size=2)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert batch.data.shape == (2, 1, 16, 20, 16)
    assert batch.mask.all()
    i = int(data.train.names[0][-4:])
    prepared = data.grid.prepare(data.phantom(i).volume).volume
    np.testing.assert_array_equal(data.train[0][0][0].numpy(), prepared.data)


def test_the_upper_percentile_reaches_the_scans_of_files_and_of_phantoms(tmp_path: Path) -> None:
    files = [VolumeData(str(folder(tmp_path, 3)), [8, 9, 8], upper_percentile=p, validation=0.2) for p in (99.5, 100)]
    heads = [PhantomData(3, [16, 20, 16], upper_percentile=p, validation=0.2) for p in (99.5, 100)]
    for pair in (files, heads):
        usual, whole = (_share_of_the_brightest(data) for data in pair)
        assert whole < usual


def _share_of_the_brightest(data: VolumeModule) -> float:
    data.setup()
    return float((data.train.bins == data.levels - 1).double().mean())


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing does not exist"):
        VolumeData(str(tmp_path / "missing"), [8, 8, 8]).setup()
    with pytest.raises(InputError, match=r"matches '\*.nii.gz'.*pattern"):
        VolumeData(str(tmp_path), [8, 8, 8], pattern="*.nii.gz").setup()
    with pytest.raises(InputError, match=r"holds no scan, neither NIfTI.*nor DICOM"):
        VolumeData(str(tmp_path), [8, 8, 8]).setup()
    with pytest.raises(InputError, match=r"data.shape"):
        VolumeData(str(tmp_path), [8, 8])
    with pytest.raises(InputError, match=r"data.levels"):
        VolumeData(str(tmp_path), [8, 8, 8], levels=1)
    for percentile in (0.5, 100.5):
        with pytest.raises(InputError, match=r"data.upper_percentile"):
            VolumeData(str(tmp_path), [8, 8, 8], upper_percentile=percentile)
    with pytest.raises(InputError, match="leave some for training"):
        VolumeData(str(tmp_path), [8, 8, 8], validation=0.5, test=0.5)
    with pytest.raises(InputError, match=r"data.flip"):
        VolumeData(str(tmp_path), [8, 8, 8], flip=[3])
    with pytest.raises(InputError, match=r"data.count"):
        PhantomData(0)


def test_every_phantom_says_what_it_was_asked_to_be_and_what_it_has() -> None:
    def data(**more: object) -> PhantomData:
        arguments = {"contrast": ["T1w", "FLAIR"], "lesions": [0, 4], "atrophy": [0.2, 0.9], "validation": 0.2, **more}
        made = PhantomData(10, [16, 20, 16], batch_size=2, **arguments)  # type: ignore[arg-type]
        made.setup()
        return made

    found, again = data(), data()
    for one, other in ((found.train, again.train), (found.test, again.test)):
        assert one.covariates == other.covariates
        assert torch.equal(one.bins, other.bins)
    rows = found.train.covariates
    assert {row["contrast"] for row in rows} == {"T1w", "FLAIR"}
    assert all(0.2 <= float(row["atrophy"]) <= 0.9 for row in rows)
    for name, row in zip(found.train.names, rows, strict=True):
        head = found.phantom(int(name.removeprefix("phantom-")))
        assert float(row["ventricles"]) == pytest.approx(head.ventricles)
        assert float(row["lesion_load"]) == pytest.approx(head.lesion_load)
    assert min(float(row["lesion_load"]) for row in rows) == 0 < max(float(row["lesion_load"]) for row in rows)
    (batch, *_) = found.val_dataloader()
    assert set(batch.covariates[0]) == {"contrast", "atrophy", "ventricles", "lesion_load", "brain"}
    said = dict(found.describe())
    assert said["covariate contrast"].startswith(("T1w (", "FLAIR ("))
    assert said["covariate atrophy"].endswith("in the median")
    for wrong in ({"lesions": [3, 1]}, {"atrophy": [0.0, 2.0]}, {"contrast": []}):
        with pytest.raises(InputError, match=f"data.{next(iter(wrong))}"):
            data(**wrong)


def test_a_model_opens_files_on_its_own_grid(tmp_path: Path) -> None:
    network = UNet3D(16, 16, [8], 1)
    model = VolumeDiffusion([8, 8, 8], HaarStage(1), 128, network, spacing=2.0, upper_percentile=99.9)
    assert model.open_data(str(tmp_path)).grid == model.grid


def test_the_voxels_that_masks_mark_are_excluded_and_move_with_the_scan(tmp_path: Path) -> None:
    folder(tmp_path, 4)
    lesion = np.zeros((7, 9, 6), dtype=np.uint8)
    lesion[2:4, 3:6, 1:3] = 1
    for subject in (0, 1, 2):  # the fourth has no mask: nothing of it is left out
        for session in range(2):
            name = f"sub-{subject:02d}_ses-{session}"
            mask = lesion if subject else np.zeros_like(lesion)
            nib.save(nib.Nifti1Image(mask, np.eye(4)), tmp_path / f"sub-{subject:02d}" / f"{name}_lesions.nii.gz")
    made = {"validation": 0, "test": 0, "batch_size": 8, "exclude": "*_lesions.nii.gz"}
    data = VolumeData(str(tmp_path), [8, 10, 8], **made)  # type: ignore[arg-type]
    data.setup()
    assert len(data.train) == 8  # the masks are no scans
    batch = collate([data.train[i] for i in range(8)])
    assert batch.excluded is not None
    assert {name[:6]: int(n) for name, n in zip(batch.names, batch.excluded.flatten(1).sum(1), strict=True)} == {
        "sub-00": 0, "sub-01": 12, "sub-02": 12, "sub-03": 0,
    }  # fmt: skip
    assert dict(data.describe())["excluded"].startswith("4 of 8 scans")
    trained = VolumeData(str(tmp_path), [8, 10, 8], **made)  # type: ignore[arg-type]
    trained.trainer = SimpleNamespace()  # type: ignore[assignment]
    with pytest.warns(UserWarning, match="the bound that validation computes counts them"):
        trained.setup()
    taken = batch.take(torch.tensor([2])).to("cpu")
    assert taken.excluded is not None
    assert torch.equal(taken.kept, ~batch.excluded[2:3])

    moving = VolumeData(str(tmp_path), [8, 10, 8], flip=[0, 1, 2], shift=2, **made)  # type: ignore[arg-type]
    moving.setup()
    still = collate([moving.train[i] for i in range(8)])
    moved = collate([moving.train[3, i] for i in range(8)])
    assert still.excluded is not None
    assert moved.excluded is not None
    assert not torch.equal(moved.excluded, still.excluded)
    for i in range(2, 6):  # values are random, so their sum says that the same voxels are marked
        kept = min(int(moved.excluded[i].sum()), 12)
        assert kept == 12
        assert moved.data[i][moved.excluded[i]].sum() == pytest.approx(
            float(still.data[i][still.excluded[i]].sum()), abs=1e-4
        )
    plain = VolumeData(str(tmp_path), [8, 10, 8], suffix="T1w", flip=[0, 1, 2], shift=2, validation=0, test=0)
    plain.setup()
    same = collate([plain.train[3, i] for i in range(8)])
    assert torch.equal(same.data, moved.data)
    assert same.excluded is None


def test_a_scan_with_two_masks_is_refused(tmp_path: Path) -> None:
    folder(tmp_path, 3)
    for which in "ab":
        nib.save(
            nib.Nifti1Image(np.eye(7)[:, :, None].repeat(6, 2), np.eye(4)),
            tmp_path / "sub-00" / f"sub-00_ses-0_{which}_mask.nii.gz",
        )
    with pytest.raises(InputError, match=r"several partners for data.exclude"):
        VolumeData(str(tmp_path), [8, 10, 8], exclude="*_mask.nii.gz").setup()
