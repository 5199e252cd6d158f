from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.formats.files import find_scans, read_scans, stem
from medmol_diffusion.mri.volume import Volume

DIAGONAL = np.array([[2.0, 0, 0, -20], [0, 1.0, 0, -9], [0, 0, 1.5, 7], [0, 0, 0, 1]])


def oblique() -> np.ndarray:
    turn = np.eye(4)
    a, b = 0.3, -0.2
    turn[:3, :3] = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    )
    return turn @ DIAGONAL


AFFINES = {
    "diagonal": DIAGONAL,
    "oblique": oblique(),
    "left-handed": DIAGONAL @ np.diag([-1.0, 1, 1, 1]),
    "permuted": DIAGONAL[:, [2, 0, 1, 3]] @ np.diag([1.0, -1, 1, 1]),
    "oblique, permuted, left-handed": oblique()[:, [1, 0, 2, 3]],
}


def blob(affine: np.ndarray, shape: tuple[int, int, int] = (25, 30, 33)) -> Volume:
    """A smooth spot away from the centre and from every axis of symmetry."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    mm = index @ affine[:3, :3].T
    centre = np.array([11.3, 16.1, 14.4]) @ affine[:3, :3].T
    return Volume(np.exp(-np.square(mm - centre).sum(-1) / (2 * 3.0**2)), affine)


def centroid(volume: Volume) -> np.ndarray:
    index = np.stack(np.meshgrid(*map(np.arange, volume.shape), indexing="ij"), -1)
    weight = volume.data.astype(np.float64)[..., None]
    return volume.to_mm((index * weight).sum((0, 1, 2)) / weight.sum())


@pytest.mark.parametrize("name", AFFINES)
def test_a_mark_stays_at_its_millimetres_through_every_step(name: str, tmp_path: Path) -> None:
    volume = blob(AFFINES[name])
    where = centroid(volume)
    turned = volume.reorient("RAS")
    assert turned.orientation == "RAS"
    fine = turned.resample(0.9, order=3)
    np.testing.assert_allclose(fine.spacing, 0.9)
    padded = fine.crop_or_pad([n + d for n, d in zip(fine.shape, (9, 4, 7), strict=True)])
    cropped = padded.crop_or_pad([n - d for n, d in zip(fine.shape, (1, 2, 1), strict=True)])
    back = Volume.read(cropped.write(tmp_path / "step.nii.gz"))
    assert back.same_grid(cropped)
    for step in (turned, fine, padded, cropped, back):
        np.testing.assert_allclose(centroid(step), where, atol=2e-3)

    # A map on the processed grid goes back to the scan's own voxels.
    returned = back.resample(like=volume, order=3)
    assert returned.same_grid(volume)
    np.testing.assert_allclose(centroid(returned), where, atol=5e-3)
    assert np.unravel_index(returned.data.argmax(), returned.shape) == np.unravel_index(
        volume.data.argmax(), volume.shape
    )


@pytest.mark.parametrize("codes", ["LPS", "SAR", "PIR", "RAS"])
def test_reorienting_there_and_back_changes_nothing(codes: str) -> None:
    volume = blob(AFFINES["oblique"])
    turned = volume.reorient(codes)
    assert turned.orientation == codes
    again = turned.reorient(volume.orientation)
    np.testing.assert_array_equal(again.data, volume.data)
    np.testing.assert_allclose(again.affine, volume.affine, atol=1e-12)


def test_resampling_keeps_the_corner_and_the_field_of_view() -> None:
    volume = blob(np.diag([1.0, 1, 1, 1]), (20, 30, 24))
    coarse = volume.resample(2.0)
    assert coarse.shape == (10, 15, 12)
    np.testing.assert_allclose(coarse.to_mm([-0.5] * 3), volume.to_mm([-0.5] * 3))
    np.testing.assert_allclose(coarse.to_mm([9.5, 14.5, 11.5]), volume.to_mm([19.5, 29.5, 23.5]))
    np.testing.assert_allclose(coarse.data.sum() * 8, volume.data.sum(), rtol=1e-3)
    assert volume.resample(like=volume).same_grid(volume)
    np.testing.assert_allclose(volume.resample(like=volume, order=0).data, volume.data)


def test_crop_and_pad_are_inverse_and_count_voxels() -> None:
    volume = blob(DIAGONAL)
    padded = volume.crop_or_pad((28, 31, 34), value=-7.0)
    assert (padded.data == -7).sum() == 28 * 31 * 34 - volume.data.size
    again = padded.crop_or_pad(volume.shape)
    np.testing.assert_array_equal(again.data, volume.data)
    assert again.same_grid(volume)
    assert not padded.same_grid(volume)


@pytest.mark.parametrize("dtype", ["uint8", "int16", ">i2", "uint16", "<f4", ">f4", "f8"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_reads_every_type_and_byte_order(dtype: str, suffix: str, tmp_path: Path) -> None:
    data = np.arange(24).reshape(2, 3, 4).astype(dtype)
    header = nib.Nifti1Header(endianness=">" if dtype.startswith(">") else "<")
    header.set_data_dtype(data.dtype)
    nib.save(nib.Nifti1Image(data, DIAGONAL, header), tmp_path / f"scan{suffix}")
    volume = Volume.read(tmp_path / f"scan{suffix}")
    np.testing.assert_array_equal(volume.data, np.arange(24).reshape(2, 3, 4))
    np.testing.assert_allclose(volume.affine, DIAGONAL)
    assert volume.provenance == {"source": f"scan{suffix}"}


def test_applies_the_slope_and_squeezes_one_frame(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4, 1), DIAGONAL)
    image.header.set_slope_inter(0.5, -3.0)
    nib.save(image, tmp_path / "scan.nii")
    np.testing.assert_array_equal(Volume.read(tmp_path / "scan.nii").data, 0.5 * np.arange(24).reshape(2, 3, 4) - 3)


def test_one_frame_of_several_is_read_with_its_slope_and_place(tmp_path: Path) -> None:
    data = np.random.default_rng(0).integers(0, 500, (4, 5, 6, 3)).astype(">i2")
    image = nib.Nifti1Image(data, AFFINES["oblique"], nib.Nifti1Header(endianness=">"))
    image.header.set_slope_inter(0.25, 10.0)
    nib.save(image, tmp_path / "bold.nii.gz")
    for frame in range(3):
        volume = Volume.read(tmp_path / "bold.nii.gz", frame=frame)
        np.testing.assert_allclose(volume.data, 0.25 * data[..., frame].astype(float) + 10)
        np.testing.assert_allclose(volume.affine, AFFINES["oblique"], atol=1e-5)


@pytest.mark.parametrize(("unit", "millimetres"), [("mm", 1.0), ("meter", 1000.0), ("micron", 0.001)])
def test_space_is_in_millimetres_whatever_the_header_counts_in(unit: str, millimetres: float, tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), DIAGONAL)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "scan.nii")
    volume = Volume.read(tmp_path / "scan.nii")
    np.testing.assert_allclose(volume.spacing, np.array([2.0, 1.0, 1.5]) * millimetres, rtol=1e-6)
    np.testing.assert_allclose(volume.affine[:3, 3], DIAGONAL[:3, 3] * millimetres, rtol=1e-6)


def test_a_sheared_affine_is_straightened_before_the_grid_and_undone_after_it() -> None:
    shear = np.eye(4)
    shear[1, 2] = 0.3
    volume = blob(shear @ DIAGONAL)
    straight = volume.straighten()
    np.testing.assert_allclose(centroid(straight), centroid(volume), atol=5e-3)
    np.testing.assert_allclose(straight.data.sum() / volume.data.sum(), 1.0, rtol=2e-3)
    corners = np.stack(np.meshgrid(*[(0, n - 1) for n in volume.shape]), -1).reshape(-1, 3)
    reached = (volume.to_mm(corners) - straight.affine[:3, 3]) @ np.linalg.inv(straight.affine[:3, :3]).T
    assert reached.min() > -1e-6  # the whole image lies in it
    assert (reached <= np.array(straight.shape) - 1 + 1e-3).all()
    for name in AFFINES:
        assert (other := blob(AFFINES[name])).straighten() is other


def test_masks_are_written_as_integers(tmp_path: Path) -> None:
    mask = Volume(blob(DIAGONAL).data > 0.5, DIAGONAL)
    path = mask.write(tmp_path / "deeper" / "mask.nii.gz", dtype=np.uint8)
    assert nib.load(path).get_data_dtype() == np.uint8
    np.testing.assert_array_equal(Volume.read(path).data, mask.data)
    assert [file.name for file in path.parent.iterdir()] == ["mask.nii.gz"]


def save(path: Path, data: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(data, np.eye(4)), path)
    return path


def test_bad_files_are_named_with_their_fault(tmp_path: Path) -> None:
    ramp = np.arange(4096, dtype=np.float32).reshape(16, 16, 16)
    hole = ramp.copy()
    hole[0, 0, :3] = np.nan
    whole = save(tmp_path / "whole.nii", ramp).read_bytes()
    zipped = save(tmp_path / "whole.nii.gz", ramp).read_bytes()
    (tmp_path / "cut.nii").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "cut.nii.gz").write_bytes(zipped[: len(zipped) // 2])
    (tmp_path / "noise.nii.gz").write_bytes(bytes(range(256)))
    (tmp_path / "zero.nii").write_bytes(b"")
    (tmp_path / "scan.png").write_bytes(b"")
    save(tmp_path / "frames.nii", np.stack([ramp, ramp], -1))
    save(tmp_path / "hole.nii", hole)
    save(tmp_path / "nan.nii", np.full_like(ramp, np.nan))
    save(tmp_path / "flat.nii", np.full_like(ramp, 2))
    save(tmp_path / "empty.nii", ramp[:, :, :0])
    save(tmp_path / "plane.nii", ramp[0])
    save(tmp_path / "complex.nii", ramp.astype(np.complex64))
    save(tmp_path / "five.nii", np.zeros((4, 4, 4, 2, 3), np.float32))
    faults = {
        "missing.nii": "does not exist",
        "scan.png": "ends in .nii",
        "cut.nii": "cannot be read",
        "cut.nii.gz": "cannot be read",
        "noise.nii.gz": "cannot be read",
        "zero.nii": "cannot be read",
        "frames.nii": r"2 frames.*frame=0 to 1",
        "hole.nii": "3 of 4096 voxels NaN",
        "nan.nii": "all voxels NaN",
        "flat.nii": r"constant \(every voxel is 2\)",
        "empty.nii": "empty",
        "plane.nii": "2 dimensions",
        "complex.nii": "complex numbers",
        "five.nii": "5 dimensions",
    }
    for name, fault in faults.items():
        with pytest.raises(InputError, match=rf"(?s){name}.*{fault}") as caught:
            Volume.read(tmp_path / name)
        assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(Volume.read(tmp_path / "frames.nii", frame=1).data, ramp)
    with pytest.raises(InputError, match="frame=2 does not exist"):
        Volume.read(tmp_path / "frames.nii", frame=2)


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    volume = blob(DIAGONAL)
    with pytest.raises(InputError, match="'RAX'"):
        volume.reorient("RAX")
    with pytest.raises(InputError, match="either spacing or like"):
        volume.resample()
    with pytest.raises(InputError, match="above 0 mm"):
        volume.resample(0.0)
    with pytest.raises(InputError, match="three sizes"):
        volume.crop_or_pad((3, 4))
    with pytest.raises(InputError, match=r"ends in .nii"):
        volume.write(tmp_path / "scan.mgz")
    with pytest.raises(InputError, match="invertible affine"):
        Volume(np.zeros((2, 2, 2)), np.zeros((4, 4)))


def test_folders_are_read_whole_and_bad_files_named(tmp_path: Path) -> None:
    ramp = np.arange(64, dtype=np.float32).reshape(4, 4, 4)
    (tmp_path / "deeper").mkdir()
    save(tmp_path / "b.nii.gz", ramp)
    save(tmp_path / "deeper" / "a.nii", 2 * ramp)
    read = list(read_scans(find_scans(tmp_path)))
    assert [volume.provenance["source"] for _, volume in read] == ["b.nii.gz", "a.nii"]
    (tmp_path / "c.nii").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"(?s)1 of 3 files are skipped.*c\.nii"):
        assert len(list(read_scans(find_scans(tmp_path)))) == 2
    with pytest.raises(InputError, match=r"None of the 1 files.*c\.nii"):
        list(read_scans(find_scans(tmp_path, "c*")))
    with pytest.raises(InputError, match="nowhere does not exist"):
        find_scans(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"matches '\*\.mgz'"):
        find_scans(tmp_path, "*.mgz")
    assert stem("x/sub-01_T1w.nii.gz") == stem("sub-01_T1w.nii") == "sub-01_T1w"
