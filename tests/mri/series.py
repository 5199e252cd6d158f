"""DICOM series written for the tests."""

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

ROW = np.array([1.0, 0.0, 0.0])
COLUMN = np.array([0.0, 0.8, 0.6])


def dataset(syntax: UID = ExplicitVRLittleEndian) -> Dataset:
    """What every DICOM file of the tests says; the patient is John Doe."""
    content = Dataset()
    content.file_meta = FileMetaDataset()
    content.file_meta.TransferSyntaxUID = syntax
    content.file_meta.MediaStorageSOPClassUID = content.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.4")
    content.file_meta.MediaStorageSOPInstanceUID = content.SOPInstanceUID = generate_uid()
    content.PatientName, content.PatientID, content.PatientBirthDate = "Doe^John", "MRN4711", "19700131"
    content.Modality, content.SeriesNumber, content.SeriesDescription = "MR", 3, "t1_mprage"
    content.SamplesPerPixel, content.PhotometricInterpretation = 1, "MONOCHROME2"
    content.BitsAllocated = content.BitsStored = 16
    content.HighBit, content.PixelRepresentation = 15, 0
    return content


def with_pixels(content: Dataset, pixels: np.ndarray) -> Dataset:
    """Unsigned 16-bit values (rows, columns) or (frames, rows, columns)."""
    content.Rows, content.Columns = pixels.shape[-2:]
    content.PixelData = pixels.astype("<u2").tobytes()
    return content


def numbers(values: np.ndarray) -> list[str]:
    return [f"{value:.8g}" for value in values]


def write(content: Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, content, enforce_file_format=True)
    return path


def write_series(
    folder: Path,
    data: np.ndarray,
    step: np.ndarray | None = None,
    spacing: tuple[float, float] = (1.5, 0.75),
    origin: tuple[float, float, float] = (-10.0, 4.0, 20.0),
    seed: int = 0,
    **fields: Any,
) -> list[Path]:
    """One file a slice, named in shuffled order. data: (columns, rows, slices); spacing: between rows, and columns."""
    step = 2.5 * np.cross(ROW, COLUMN) if step is None else step
    uid = generate_uid(entropy_srcs=[folder.name, str(fields)])
    names = np.random.default_rng(seed).permutation(data.shape[2])
    files = []
    for k in range(data.shape[2]):
        content = with_pixels(dataset(), data[:, :, k].T)
        content.SeriesInstanceUID, content.InstanceNumber = uid, k + 1
        content.ImagePositionPatient = numbers(np.array(origin) + k * step)
        content.ImageOrientationPatient = numbers(np.concatenate([ROW, COLUMN]))
        content.PixelSpacing = numbers(np.array(spacing))
        for name, value in fields.items():
            setattr(content, name, value[k] if isinstance(value, list) else value)
        files.append(write(content, folder / f"IM{names[k]:03d}.dcm"))
    return files


def write_enhanced(path: Path, data: np.ndarray, slopes: list[float]) -> Path:
    """All slices as frames of one file, last first, each with its own slope. data: (columns, rows, slices)."""
    content = with_pixels(dataset(), data[:, :, ::-1].transpose(2, 1, 0))
    content.SeriesInstanceUID, content.NumberOfFrames = generate_uid(), data.shape[2]
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = numbers(np.concatenate([ROW, COLUMN]))
    measures.PixelSpacing = ["1.5", "0.75"]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    content.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for k in range(data.shape[2])[::-1]:
        frame, place, values = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = numbers(np.array([-10.0, 4.0, 20.0]) + k * 2.5 * np.cross(ROW, COLUMN))
        values.RescaleSlope, values.RescaleIntercept, values.RescaleType = slopes[k], 7.0, "US"
        frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [place], [values]
        frames.append(frame)
    content.PerFrameFunctionalGroupsSequence = frames
    return write(content, path)
