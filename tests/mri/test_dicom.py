"""DICOM series in: where every voxel lies, what it is worth, and what is refused."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEGLSLossless, generate_uid

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import Volume
from medmol_diffusion.mri.formats.files import find_scans
from tests.mri.series import COLUMN, ROW, dataset, numbers, with_pixels, write, write_enhanced, write_series

DATA = np.random.default_rng(0).integers(1, 4000, (5, 6, 7))  # columns, rows, slices
NORMAL = np.cross(ROW, COLUMN)
LPS = np.diag([-1.0, -1.0, 1.0])


def place(i: int, j: int, k: int, step: np.ndarray = 2.5 * NORMAL) -> np.ndarray:
    """RAS millimetres of the pixel in column i and row j of slice k of `write_series`, by PS3.3 C.7.6.2.1-1."""
    return LPS @ (np.array([-10.0, 4.0, 20.0]) + i * 0.75 * ROW + j * 1.5 * COLUMN + k * step)


def check_places(volume: Volume, step: np.ndarray = 2.5 * NORMAL) -> None:
    for index in ((0, 0, 0), (4, 0, 0), (0, 5, 0), (0, 0, 6), (3, 2, 5)):
        np.testing.assert_allclose(volume.to_mm(index), place(*index, step), atol=1e-5)


def test_an_oblique_anisotropic_series_lies_where_its_pixels_lie(tmp_path: Path) -> None:
    write_series(tmp_path / "t1", DATA)
    volume = Volume.read(tmp_path / "t1")
    np.testing.assert_array_equal(volume.data, DATA)
    check_places(volume)
    np.testing.assert_allclose(volume.spacing, (0.75, 1.5, 2.5), atol=1e-6)
    again = Volume.read(volume.write(tmp_path / "t1.nii.gz"))
    assert again.same_grid(volume)
    np.testing.assert_array_equal(again.data, volume.data)


def test_a_series_taken_from_the_far_end_is_the_same_scan(tmp_path: Path) -> None:
    """Slices are sorted by place along the normal, whatever their numbers and their files are."""
    write_series(tmp_path / "there", DATA)
    write_series(
        tmp_path / "back",
        DATA[:, :, ::-1],
        step=-2.5 * NORMAL,
        origin=tuple(np.array([-10.0, 4.0, 20.0]) + 15 * NORMAL),
        seed=1,
    )
    one, other = Volume.read(tmp_path / "there"), Volume.read(tmp_path / "back")
    np.testing.assert_array_equal(one.data, other.data)
    np.testing.assert_allclose(one.affine, other.affine, atol=1e-5)


def test_every_slice_has_its_own_rescaling(tmp_path: Path) -> None:
    slopes = [0.5 + k for k in range(7)]
    write_series(tmp_path / "pet", DATA, RescaleSlope=slopes, RescaleIntercept=-3.0)
    expected = DATA * np.array(slopes) - 3
    np.testing.assert_allclose(Volume.read(tmp_path / "pet").data, expected, rtol=1e-6)
    volume = Volume.read(write_enhanced(tmp_path / "enhanced" / "one.dcm", DATA, slopes))
    np.testing.assert_allclose(volume.data, DATA * np.array(slopes) + 7, rtol=1e-6)
    check_places(volume)


def test_a_tilted_gantry_is_in_the_affine_and_straightened_right(tmp_path: Path) -> None:
    """A ball stays where it is, and round, when the shear is taken out."""
    step = 1.0 * NORMAL + 0.4 * COLUMN
    index = np.stack(np.meshgrid(*map(np.arange, (40, 36, 24)), indexing="ij"), -1)
    where = np.array([-10.0, 4.0, 20.0]) + index @ np.stack([0.75 * ROW, 0.75 * COLUMN, step])
    centre = np.array([-10.0, 4.0, 20.0]) + np.array([20, 18, 12]) @ np.stack([0.75 * ROW, 0.75 * COLUMN, step])
    ball = np.rint(3000 * np.exp(-np.square(where - centre).sum(-1) / (2 * 2.5**2)))
    write_series(tmp_path / "ct", ball, step=step, spacing=(0.75, 0.75))
    volume = Volume.read(tmp_path / "ct")
    np.testing.assert_allclose(volume.to_mm((20, 18, 12)), LPS @ centre, atol=1e-5)
    straight = volume.straighten()
    axes = straight.affine[:3, :3] / straight.spacing
    np.testing.assert_allclose(axes.T @ axes, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(straight.spacing, (0.75, 0.75, 1.0), atol=1e-5)
    voxels = np.stack(np.meshgrid(*map(np.arange, straight.shape), indexing="ij"), -1)
    expected = 3000 * np.exp(-np.square(straight.to_mm(voxels) - LPS @ centre).sum(-1) / (2 * 2.5**2))
    assert np.abs(straight.data - expected).max() < 0.02 * 3000
    assert straight.straighten() is straight


def test_frames_are_chosen_in_order_of_time(tmp_path: Path) -> None:
    for time in range(3):
        write_series(tmp_path / str(time), DATA + time, TemporalPositionIdentifier=time + 1, SeriesInstanceUID="1.2.3")
    for file in [file for time in range(3) for file in (tmp_path / str(time)).iterdir()]:
        (tmp_path / "all").mkdir(exist_ok=True)
        file.rename(tmp_path / "all" / f"{file.parent.name}-{file.name}")
    with pytest.raises(InputError, match=r"all is 4-D with 3 frames.*--frame.*frame=0 to 2"):
        Volume.read(tmp_path / "all")
    for time in range(3):
        np.testing.assert_array_equal(Volume.read(tmp_path / "all", frame=time).data, DATA + time)


def test_one_of_several_series_is_chosen_by_number_or_description(tmp_path: Path) -> None:
    write_series(tmp_path, DATA)
    for file in write_series(tmp_path / "more", DATA[:, :, :3] + 1, SeriesNumber=8, SeriesDescription="FLAIR axial"):
        file.rename(tmp_path / f"flair-{file.name}")
    (tmp_path / "more").rmdir()
    with pytest.raises(InputError, match=r"2 series \(3: t1_mprage, 7 files; 8: FLAIR axial, 3 files\).*--series"):
        Volume.read(tmp_path)
    for series in ("8", "flair"):
        np.testing.assert_array_equal(Volume.read(tmp_path, series=series).data, DATA[:, :, :3] + 1)
    for series, said in (("t2", "no series 't2'"), ("a", "more than one series 'a'")):
        with pytest.raises(InputError, match=said):
            Volume.read(tmp_path, series=series)


def test_who_the_patient_is_does_not_travel(tmp_path: Path) -> None:
    for folder in ("JohnDoe_t1", "mrn4711", "19700131", "scan-1"):
        write_series(tmp_path / folder, DATA)
        volume = Volume.read(tmp_path / folder)
        written = volume.write(tmp_path / "out.nii").read_bytes() + repr(volume.provenance).encode()
        assert not re.search(rb"(?i)doe|john|4711|19700131", written)
        assert (volume.provenance["source"] == folder) == (folder == "scan-1")


def test_folders_of_series_are_found_beside_nifti_files(tmp_path: Path) -> None:
    write_series(tmp_path / "patient-1" / "t1", DATA)
    bare = write_series(tmp_path / "patient-2", DATA)
    for k, file in enumerate(bare):
        file.rename(file.with_name(f"1.2.840.{k}"))  # as scanners write them, known by what is in them
    (tmp_path / "patient-2" / "DICOMDIR").write_bytes(b"no image")
    Volume(DATA, np.eye(4)).write(tmp_path / "x" / "t1.nii.gz")
    (tmp_path / "x" / "notes").write_text("nothing")
    found = [str(scan.relative_to(tmp_path)) for scan in find_scans(tmp_path)]
    assert found == ["patient-1/t1", "patient-2", "x/t1.nii.gz"]
    assert Volume.read(tmp_path / "patient-2").shape == DATA.shape
    assert find_scans(tmp_path, "*.nii.gz") == [tmp_path / "x" / "t1.nii.gz"]


def changed(file: Path, **fields: Any) -> None:
    content = pydicom.dcmread(file)
    for name, value in fields.items():
        setattr(content, name, value)
    content.save_as(file)


def test_what_is_no_whole_scan_is_refused_by_name(tmp_path: Path) -> None:
    def refused(kind: str, said: str) -> None:
        with pytest.raises(InputError, match=said) as caught:
            Volume.read(tmp_path / kind)
        assert "\n" not in str(caught.value)
        assert kind in str(caught.value)

    kinds = ["gap", "twice", "twin", "turned", "aside", "cut", "garbled", "screen", "colour", "mosaic", "packed"]
    files = {kind: write_series(tmp_path / kind, DATA) for kind in kinds}
    before, missing, after = files["gap"][2:5]
    missing.unlink()
    refused("gap", rf"{before.name} and {after.name} are neighbours 5 mm apart.*2.5 mm")

    copy = pydicom.dcmread(files["twice"][3])
    copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    copy.InstanceNumber = 99
    copy.save_as(tmp_path / "twice" / "X.dcm")
    refused("twice", rf"{files['twice'][3].name} and X.dcm lie at one place")
    (tmp_path / "twin" / "Y.dcm").write_bytes(files["twin"][3].read_bytes())
    refused("twin", rf"{files['twin'][3].name} and Y.dcm are the same slice")

    changed(files["turned"][3], ImageOrientationPatient=numbers(np.concatenate([COLUMN, ROW])))
    refused("turned", r"another size, pixel spacing or orientation")
    changed(files["aside"][3], ImagePositionPatient=numbers(np.array([-10, 4, 20]) + 7.5 * NORMAL + 5 * ROW))
    refused("aside", rf"{files['aside'][3].name} lies 5 mm off the line")
    changed(files["cut"][3], PixelData=b"\0\0")
    refused("cut", r"no whole image")
    for file in files["garbled"][:1]:
        file.write_bytes(file.read_bytes()[:60])
    refused("garbled", "cannot be read as DICOM")
    for file in files["screen"]:
        content = pydicom.dcmread(file)
        del content.ImagePositionPatient
        content.save_as(file)
    refused("screen", r"ImagePositionPatient missing")
    changed(files["colour"][0], SamplesPerPixel=3)
    refused("colour", "colour")
    changed(files["mosaic"][0], ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"])
    refused("mosaic", "Siemens mosaic")

    for file in files["packed"]:
        content = pydicom.dcmread(file)
        content.file_meta.TransferSyntaxUID = JPEGLSLossless
        content.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51" + bytes(60)])
        content["PixelData"].VR = "OB"
        content.save_as(file)
    refused("packed", r"compressed \(JPEG-LS.*pip install pylibjpeg")

    lone = with_pixels(dataset(), DATA[:, :, 0].T)
    lone.ImagePositionPatient, lone.PixelSpacing = [0, 0, 0], [1, 1]
    lone.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    with pytest.raises(InputError, match=r"one place only.*folder of a whole series"):
        Volume.read(write(lone, tmp_path / "lone.dcm"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no DICOM image"):
        Volume.read(tmp_path / "empty")
