"""Which reader a path wants, and all the scans of a folder."""

import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.formats import nifti
from medmol_diffusion.mri.volume import Volume

NOT_RAW = ("derivatives", "sourcedata", "code", "stimuli")
"""Folders of a BIDS data set that hold no scans of its own."""


def read_scan(path: Path, frame: int | None = None, series: str | None = None, constant: bool = False) -> Volume:
    """Volume.read, which see."""
    if path.name.endswith(nifti.SUFFIXES):
        if not path.is_file():
            raise InputError(f"{path} does not exist: check the path.")
        volume = nifti.read_nifti(path, frame)
    else:
        from medmol_diffusion.mri.formats.dicom import SUFFIXES, is_dicom, read_dicom

        if not path.exists():
            raise InputError(f"{path} does not exist: check the path.")
        if not (path.is_dir() or is_dicom(path)):
            endings = ", ".join((*nifti.SUFFIXES, *SUFFIXES))
            raise InputError(
                f"{path} is not a NIfTI file, which ends in .nii or .nii.gz, nor DICOM: give a file that ends in "
                f"{endings}, or the folder of a DICOM series."
            )
        volume = read_dicom(path, frame, series)
    _check_values(volume.data, path, constant)
    return volume


def stem(path: str | os.PathLike[str]) -> str:
    """The name without folder and without .nii, .nii.gz or .dcm."""
    return Path(path).name.removesuffix(".gz").removesuffix(".nii").removesuffix(".dcm")


def find_scans(folder: str | os.PathLike[str], pattern: str | None = None, suffix: str | None = None) -> list[Path]:
    """The scans of a folder and of those below it, sorted: NIfTI files, and folders that hold DICOM files.

    Of a BIDS data set (one with a dataset_description.json) the derivatives and the source data are left out.

    Args:
        folder: where.
        pattern: a glob that names, or the ends of paths, must match: "images/*.nii.gz".
        suffix: of BIDS, T1w or FLAIR for example: the last part of the name.

    Raises:
        InputError: the folder does not exist or holds no such scan.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"The folder {folder} does not exist: give the one that holds the scans.")
    found = [scan for scan in _scans(folder) if pattern is None or scan.match(pattern)]
    if not found:
        raise InputError(
            f"{folder} holds no scan, neither NIfTI (.nii, .nii.gz) nor DICOM: give another folder."
            if pattern is None
            else f"Nothing in {folder} matches {pattern!r}: give another folder or pattern."
        )
    chosen = [scan for scan in found if suffix is None or stem(scan).rpartition("_")[2] == suffix]
    if not chosen:
        ends = sorted({end for scan in found if "-" not in (end := stem(scan).rpartition("_")[2])})
        raise InputError(f"No scan in {folder} is a {suffix}: names end in {', '.join(ends[:8]) or 'no suffix'}.")
    return chosen


def holds_scans(path: Path) -> bool:
    """Whether a path is a scan, or a folder that holds some."""
    if path.is_dir():
        return bool(_scans(path))
    from medmol_diffusion.mri.formats.dicom import is_dicom

    return path.name.endswith(nifti.SUFFIXES) or is_dicom(path)


def read_scans(
    files: Sequence[Path], frame: int | None = None, series: str | None = None
) -> Iterator[tuple[Path, Volume]]:
    """Read one scan after the other; those that cannot be used are skipped, and named with their faults in one warning.

    Raises:
        InputError: none can be used.
    """
    faults = []
    for file in files:
        try:
            volume = Volume.read(file, frame, series=series)
        except InputError as error:
            faults.append(str(error))
        else:
            yield file, volume
    if files and len(faults) == len(files):
        raise InputError(f"None of the {len(files)} files can be used; the first: {faults[0]}")
    if faults:
        listed = "\n".join(f"  {fault}" for fault in faults)
        warnings.warn(f"{len(faults)} of {len(files)} files are skipped:\n{listed}", stacklevel=2)


def _scans(folder: Path) -> list[Path]:
    from medmol_diffusion.mri.formats.dicom import is_dicom

    bids = (folder / "dataset_description.json").is_file()
    found, series = [], set[Path]()
    for file in sorted(folder.rglob("*")):
        parts = file.relative_to(folder).parts
        if any(part.startswith(".") for part in parts) or (bids and parts[0] in NOT_RAW):
            continue
        if file.name.endswith(nifti.SUFFIXES):
            found += [file] if file.is_file() else []
        elif file.parent not in series and is_dicom(file):
            series.add(file.parent)
    return sorted([*found, *series])


def _check_values(data: np.ndarray, path: Path, constant: bool) -> None:
    faulty = int(data.size - np.isfinite(data).sum())
    if faulty:
        share = "all" if faulty == data.size else f"{faulty} of {data.size}"
        raise InputError(f"{path} has {share} voxels NaN or infinite: replace them before use.")
    if not constant and data.min() == data.max():
        raise InputError(f"{path} is constant (every voxel is {data.flat[0]:g}): it shows nothing.")
