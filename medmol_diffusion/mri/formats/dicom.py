"""DICOM series as scans: classic files, one a slice, and enhanced ones of many frames. Who the patient is stays there.

pydicom reads the files: nibabel.nicom needs it too and knows neither enhanced files nor what is missing from a series,
SimpleITK fills gaps with a warning.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom

from medmol_diffusion.errors import InputError, one_line
from medmol_diffusion.mri.formats.stack import Slice, stack
from medmol_diffusion.mri.volume import Volume

SUFFIXES = (".dcm", ".ima", ".dicom")
MAGIC = b"DICM"
"""After 128 bytes of anything."""
TIMES = ("TemporalPositionIndex", "TemporalPositionIdentifier", "EchoTime", "EffectiveEchoTime", "AcquisitionNumber")
"""What tells frames apart; then the number of the instance does."""


def is_dicom(file: Path) -> bool:
    """By the name's ending, or by the mark in a file whose name has none or a number's, as scanners write them."""
    suffix = file.suffix.lower()
    if suffix in SUFFIXES:
        return True
    if (suffix and not suffix[1:].isdigit()) or not file.is_file():
        return False
    with file.open("rb") as content:
        return content.read(132)[128:] == MAGIC


def dicom_files(folder: Path) -> list[Path]:
    """The DICOM files that lie in a folder itself, in order of name."""
    return sorted(file for file in folder.iterdir() if not file.name.startswith(".") and is_dicom(file))


def read_dicom(path: Path, frame: int | None = None, series: str | None = None) -> Volume:
    """The scan of a series; values are rescaled by each slice's own slope and intercept.

    Args:
        path: a folder with the files of a series, or one file of many frames.
        frame: of a series with several slices at each place, in order of time.
        series: its number or a part of its description; needed where there are several.

    Raises:
        InputError: no image, several series and none chosen, a file that cannot be read or decoded, colour, a mosaic,
            no positions, or what ``stack`` raises.
    """
    try:
        return _read_series(path, frame, series)
    except InputError:
        raise
    except Exception as error:  # pydicom parses a field when it is asked for, and lets through what its parsers raise
        raise InputError(f"{path} cannot be read as DICOM, so copy it again ({one_line(error)}).") from error


def _read_series(path: Path, frame: int | None, series: str | None) -> Volume:
    files = dicom_files(path) if path.is_dir() else [path]
    headers = [(file, header) for file in files if "Rows" in (header := _read(file, stop_before_pixels=True))]
    if not headers:
        raise InputError(f"{path} holds no DICOM image: give the folder that holds the slices.")
    headers = _chosen(headers, series, path)
    seen: dict[str, Path] = {}
    for file, header in headers:
        if (twin := seen.setdefault(str(header.get("SOPInstanceUID", file)), file)) != file:
            raise InputError(f"{path}: {twin.name} and {file.name} are the same slice: take one of them out.")
    slices = [one for file, header in headers for one in _slices(file, header)]
    data, affine = stack(slices, path, frame)
    first = headers[0][1]
    name = f"series-{hashlib.sha256(str(first.get('SeriesInstanceUID')).encode()).hexdigest()[:12]}"
    return Volume(data, affine, {"source": name if _tells_who(path.name, first) else path.name})


def _read(file: Path, **options: Any) -> Any:
    try:
        return pydicom.dcmread(file, **options)
    except Exception as error:  # pydicom lets through what its parsers raise on damaged bytes
        raise InputError(f"{file} cannot be read as DICOM, so copy it again ({one_line(error)}).") from error


def _chosen(headers: list[tuple[Path, Any]], series: str | None, path: Path) -> list[tuple[Path, Any]]:
    """The files of one series."""
    groups: dict[str, list[tuple[Path, Any]]] = {}
    for file, header in headers:
        groups.setdefault(str(header.get("SeriesInstanceUID", "")), []).append((file, header))
    found = [group for group in groups.values() if series is None or _answers(group[0][1], series)]
    if len(found) == 1:
        return found[0]
    listed = "; ".join(sorted(f"{_title(group[0][1])}, {len(group)} files" for group in groups.values()))
    if series is None:
        raise InputError(
            f"{path} holds {len(groups)} series ({listed}): choose one by its number or a part of its description, as "
            "data.series, --series, or in Python Volume.read(..., series=...)."
        )
    many = "no" if not found else "more than one"
    raise InputError(f"{path} holds {many} series {series!r}; it has {listed}.")


def _answers(header: Any, series: str) -> bool:
    described = str(header.get("SeriesDescription", "")).casefold()
    return series == str(header.get("SeriesNumber", "")) or series.casefold() in described


def _title(header: Any) -> str:
    number, described = header.get("SeriesNumber"), header.get("SeriesDescription") or "without description"
    return f"{described}" if number is None else f"{number}: {described}"


def _slices(file: Path, header: Any) -> Iterator[Slice]:
    """The slices of a file: itself, or each frame of an enhanced one."""
    if int(header.get("SamplesPerPixel", 1)) != 1:
        raise InputError(f"{file} is a colour image: give a series of grey values.")
    if "MOSAIC" in (header.get("ImageType") or ()):
        raise InputError(
            f"{file} is a Siemens mosaic of slices in one image: convert it by dcm2niix and give the NIfTI."
        )
    if "PerFrameFunctionalGroupsSequence" not in header:
        yield _slice(file.name, file, header, [header], partial(_pixels, file), header.get("InstanceNumber"))
        return
    whole = cache(partial(_pixels, file))  # decoded once, when the first frame is asked for
    shared = list(header.get("SharedFunctionalGroupsSequence", []))
    for place, own in enumerate(header.PerFrameFunctionalGroupsSequence):
        groups = [element.value[0] for holder in (own, *shared) for element in holder if element.value]

        def read(place: int = place) -> np.ndarray:
            pixels = whole()
            return pixels.reshape(-1, *pixels.shape[-2:])[place]

        yield _slice(f"frame {place + 1} of {file.name}", file, header, groups, read, place)


def _slice(name: str, file: Path, header: Any, groups: list[Any], read: Callable[[], np.ndarray], number: Any) -> Slice:
    """A slice whose geometry, rescaling and time stand in ``groups``, the first that has them."""

    def found(key: str, otherwise: Any = None) -> Any:
        return next((group.get(key) for group in groups if group.get(key) is not None), otherwise)

    geometry = {key: found(key, ()) for key in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")}
    if missing := [key for key, value in geometry.items() if not len(value)]:
        raise InputError(
            f"{file} does not say where it lies ({', '.join(missing)} missing; a screenshot?): give the scan's files."
        )
    position, orientation, spacing = (np.array([float(part) for part in value]) for value in geometry.values())
    slope, intercept = float(found("RescaleSlope", 1.0)), float(found("RescaleIntercept", 0.0))
    return Slice(
        name,
        (int(header.Rows), int(header.Columns)),
        position,
        orientation.reshape(2, 3),
        spacing,
        (*(float(found(key, 0.0)) for key in TIMES), float(number or 0)),
        lambda: read().astype(np.float64) * slope + intercept,
    )


def _pixels(file: Path) -> np.ndarray:
    """The stored values: (rows, columns), or (frames, rows, columns)."""
    content = _read(file)
    syntax = getattr(getattr(content, "file_meta", None), "TransferSyntaxUID", None)
    try:
        return np.asarray(content.pixel_array)
    except Exception as error:  # of as many kinds as there are decoders
        if syntax is not None and syntax.is_compressed and isinstance(error, (RuntimeError, NotImplementedError)):
            raise InputError(
                f"{file} is compressed ({syntax.name}), and no decoder of it is installed: pip install pylibjpeg "
                "pylibjpeg-libjpeg pylibjpeg-openjpeg, or decompress the series by gdcmconv --raw."
            ) from error
        raise InputError(f"{file} has no whole image in it, so copy it again ({one_line(error)}).") from error


def _tells_who(text: str, header: Any) -> bool:
    """Whether a part of the patient's name, identifier or date of birth stands in a text."""
    known = " ".join(str(header.get(key, "")) for key in ("PatientName", "PatientID", "PatientBirthDate"))
    parts = [part for part in re.split(r"[\W_]+", known.casefold()) if len(part) > 2]
    return any(part in text.casefold() for part in parts)
