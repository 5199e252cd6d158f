"""NIfTI files as scans: any number type and byte order, one frame of several, in millimetres whatever the unit."""

import gzip
import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from medmol_diffusion.errors import InputError, one_line
from medmol_diffusion.mri.volume import Volume

SUFFIXES = (".nii", ".nii.gz")
DEFLATED = 1032
"""The most by which gzip shrinks anything (zlib's manual, "Maximum expansion factor")."""
MILLIMETRES = {"meter": 1000.0, "micron": 0.001}
"""Of the units a header can name; nibabel leaves the affine in them."""


def read_nifti(path: Path, frame: int | None = None) -> Volume:
    """The scan of a file, or one of its frames, which alone is read; scl_slope is applied.

    Raises:
        InputError: the file is not NIfTI, truncated, complex, has several frames and none was chosen, is empty, is not
            three-dimensional, or its affine cannot be inverted.
    """
    try:
        image: Any = nib.load(path)
        affine = image.affine.copy()
        affine[:3] *= MILLIMETRES.get(image.header.get_xyzt_units()[0], 1.0)
        place = _place(image.shape, frame, path)
        _check_size(image, path)
        if np.iscomplexobj(np.empty(0, image.get_data_dtype())):
            raise InputError(f"{path} holds complex numbers: save their magnitude, or another part, as a scan.")
        data = _values(image, path, place)
    except InputError:
        raise
    except Exception as error:  # nibabel, gzip and zlib each raise their own kinds on a damaged file
        raise InputError(f"{path} cannot be read as NIfTI, so copy it again ({one_line(error)}).") from error
    try:
        return Volume(data, affine, {"source": path.name})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _values(image: Any, path: Path, place: tuple[Any, ...]) -> np.ndarray:
    """The voxels, float32. Of a packed file all is read, also what follows them: there stands its checksum."""
    if path.suffix != ".gz":
        return np.asarray(image.dataobj[place], dtype=np.float32)
    with gzip.open(path) as stream:
        data = np.asarray(type(image).from_stream(stream).dataobj[place], dtype=np.float32)
        while stream.read(1 << 20):
            pass
    return data


def says_where(path: Path) -> bool:
    """Whether the header of a NIfTI file places the scan in space, by its sform or its qform."""
    header = nib.load(path).header
    return bool(header["sform_code"] > 0 or header["qform_code"] > 0)


def frame_chosen(count: int, frame: int | None, path: Path) -> int:
    """Which of ``count`` frames to read.

    Raises:
        InputError: there are several and none was chosen, or the one chosen is not there.
    """
    last = count - 1
    if frame is None and last:
        raise InputError(
            f"{path} is 4-D with {count} frames: choose one by data.frame, by --frame, or in Python by "
            f"Volume.read(..., frame=0 to {last})."
        )
    if frame is not None and not 0 <= frame <= last:
        raise InputError(f"{path} has frames 0 to {last}, so frame={frame} does not exist.")
    return frame or 0


def _check_size(image: Any, path: Path) -> None:
    """Raises InputError where the header promises more than the file can hold: reading would take the memory first."""
    promised = math.prod(image.shape) * image.get_data_dtype().itemsize
    held = path.stat().st_size * (DEFLATED if path.suffix == ".gz" else 1)
    if promised > held:
        raise InputError(
            f"{path} cannot be read as NIfTI, so copy it again (its header says shape {image.shape}, {promised} bytes; "
            f"it holds {held} at most)."
        )


def _place(shape: tuple[int, ...], frame: int | None, path: Path) -> tuple[Any, ...]:
    """The index that takes three dimensions out of an image of this shape."""
    if 0 in shape:
        raise InputError(f"{path} is empty (shape {shape}): it holds no voxel to use.")
    beyond = shape[3:]
    while beyond and beyond[-1] == 1:
        beyond = beyond[:-1]
    if len(shape) < 3 or len(beyond) > 1:
        count = len(shape[:3]) + len(beyond)
        raise InputError(f"{path} has {count} dimensions (shape {shape}): give a 3-D scan.")
    if not beyond:  # a file of one frame is 3-D, whatever frame is asked of the others in its folder
        return (..., *(0 for _ in shape[3:]))
    return (..., frame_chosen(beyond[0], frame, path), *(0 for _ in shape[4:]))
