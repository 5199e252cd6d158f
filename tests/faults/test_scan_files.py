"""Scans, tables and splits that are none, or not whole: one sentence that names the thing and the cure, exit code 2."""

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.faults.refusal import listing, refusal

pytestmark = pytest.mark.filterwarnings("default::UserWarning")  # which the suite turns into errors elsewhere
SCAN = np.random.default_rng(0).normal(size=(6, 7, 8)).astype(np.float32)


def nifti(data: np.ndarray = SCAN, name: str = "scan.nii") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        nib.save(nib.Nifti1Image(data, np.eye(4)), folder / name)
        return folder / name

    return make


def bytes_changed(change: Callable[[bytearray], bytes], name: str = "scan.nii") -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        file = nifti(name=name)(folder)
        file.write_bytes(change(bytearray(file.read_bytes())))
        return file

    return make


def header(place: int, *content: int) -> Callable[[Path], Path]:
    """With other bytes at a place of the header."""

    def change(file: bytearray) -> bytes:
        file[place : place + len(content)] = bytes(content)
        return bytes(file)

    return bytes_changed(change)


def file_of(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def folder_called(name: str, *files: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).mkdir()
        for file in files:
            (folder / name / file).write_bytes(b"x" * 200)
        return folder / name

    return make


def sform(*rows: float) -> Callable[[Path], Path]:
    """With another affine, (3, 4), in the header: nibabel would not write it."""

    def change(file: bytearray) -> bytes:
        file[252:256] = np.array([0, 1], "<i2").tobytes()
        file[280:328] = np.array(rows, "<f4").tobytes()
        return bytes(file)

    return bytes_changed(change)


# how the scan is made, what the sentence must say beside its path
SCANS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no_bytes": (file_of("scan.nii", b""), "cannot be read as NIfTI"),
    "noise": (file_of("scan.nii", bytes(range(256)) * 4), "cannot be read as NIfTI"),
    "text": (file_of("scan.nii", b"a scan, perhaps\n" * 40), "cannot be read as NIfTI"),
    "cut_in_the_header": (bytes_changed(lambda b: bytes(b[:200])), "cannot be read as NIfTI"),
    "cut_in_the_data": (bytes_changed(lambda b: bytes(b[:-8])), "cannot be read as NIfTI"),
    "gzip_cut": (bytes_changed(lambda b: bytes(b[:-9]), "scan.nii.gz"), "cannot be read as NIfTI"),
    "gzip_without_its_checksum": (bytes_changed(lambda b: bytes(b[:-4]), "scan.nii.gz"), "cannot be read as NIfTI"),
    "gzip_of_another_checksum": (bytes_changed(lambda b: bytes(b[:-8] + b"abcd" + b[-4:]), "scan.nii.gz"), "CRC"),
    "gzip_of_text": (file_of("scan.nii.gz", gzip.compress(b"nothing")), "cannot be read as NIfTI"),
    "not_gzip": (bytes_changed(lambda b: gzip.decompress(bytes(b)), "scan.nii.gz"), "cannot be read as NIfTI"),
    "huge_by_its_header": (header(42, 255, 127, 255, 127, 255, 127), "cannot be read as NIfTI"),
    "negative_size": (header(42, 0, 128), "scan.nii"),
    "unknown_type": (header(70, 99, 9), "cannot be read as NIfTI"),
    "zero_dimensions": (header(40, 0, 0), "scan.nii"),
    "flat": (nifti(SCAN[:, :, 0]), "2 dimensions"),
    "line": (nifti(SCAN[:, 0, 0]), "1 dimensions"),
    "four_d": (nifti(np.stack([SCAN] * 3, -1)), "4-D with 3 frames"),
    "five_d": (nifti(np.zeros((4, 4, 4, 2, 3))), "5 dimensions"),
    "empty": (nifti(np.zeros((8, 0, 8), np.float32)), "empty"),
    "nan": (nifti(np.full((4, 4, 4), np.nan)), "all voxels NaN"),
    "one_nan": (nifti(np.where(np.arange(8) == 3, np.nan, SCAN)), "42 of 336 voxels NaN"),
    "infinite": (nifti(np.copysign(np.inf, SCAN)), "NaN or infinite"),
    "constant": (nifti(np.ones((4, 4, 4))), "constant"),
    "complex": (nifti(SCAN.astype(np.complex64)), "complex numbers"),
    "colours": (nifti(np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])), "scan.nii"),
    "affine_of_zeros": (sform(*[0] * 12), "invertible affine"),
    "affine_nan": (sform(*[np.nan] * 12), "finite and invertible affine"),
    "affine_of_two_equal_axes": (sform(0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0), "invertible affine"),
    "no_nifti": (file_of("scan.txt", b"nothing"), "not a NIfTI file"),
    "folder_for_a_file": (folder_called("scan.nii"), "scan.nii"),
    "folder_of_nothing": (folder_called("empty"), "empty"),
    "dicom_damaged": (file_of("scan.dcm", b"\0" * 128 + b"DICM" + b"\xff" * 60), "holds no DICOM image"),
    "dicom_empty": (file_of("scan.dcm", b""), "scan.dcm"),
    "dicom_series_damaged": (folder_called("series", "0001.dcm", "0002.dcm"), "cannot be read as DICOM"),
    "missing": (lambda folder: folder / "none.nii.gz", "does not exist"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "fault"), SCANS.values(), ids=SCANS.keys())
def test_bad_scan(
    make: Callable[[Path], Path], fault: str, volume_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By `doctor`, and by `detect`, which would write a folder."""
    path = make(tmp_path)
    before = listing(tmp_path)
    said = refusal(["detect", str(volume_run), str(path), "-o", str(tmp_path / "out")], capsys)
    assert str(path) in said
    assert fault in said
    assert str(path) in refusal(["doctor", str(path)], capsys)
    assert listing(tmp_path) == before
