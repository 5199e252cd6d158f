"""The scans of a folder on the judge's grid, read one at a time: a folder of thousands is never held at once."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.judging.table import Stage, silent
from medmol_diffusion.mri.formats.files import find_scans, read_scans
from medmol_diffusion.mri.transforms import Grid, Prepared
from medmol_diffusion.mri.volume import Volume

ALIKE = 2.0
"""By how much a field of view may differ from the real scans' usual one, along each axis."""


@dataclass(frozen=True)
class Reading:
    """How scans are found and read.

    Attributes:
        pattern: which files of a folder are scans; None takes all.
        frame: of 4-D scans, from 0.
        series: of folders with several DICOM series, its number or description.
    """

    pattern: str | None = None
    frame: int | None = None
    series: str | None = None

    def read(self, files: Sequence[Path]) -> Iterator[tuple[Path, Volume]]:
        """`read_scans`, which see."""
        return read_scans(files, self.frame, self.series)


EVERYTHING = Reading()


@dataclass(frozen=True)
class Extent:
    """A file, and what its scan is like once turned to RAS: voxels, and millimetres between them."""

    file: Path
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]

    @property
    def size(self) -> np.ndarray:
        """(3,) millimetres along each axis."""
        return np.multiply(self.shape, self.spacing)


@dataclass(frozen=True)
class ScanFolder:
    """The scans of a folder that can be read.

    Attributes:
        path: the folder.
        extents: of each file, in order of name.
        reading: how they are read.
    """

    path: Path
    extents: tuple[Extent, ...]
    reading: Reading

    @classmethod
    def survey(cls, path: Path, reading: Reading = EVERYTHING, stage: Stage = silent) -> "ScanFolder":
        """Read every file once for its extent; those that cannot be used are named in a warning and left out.

        Args:
            reading: how they are found and read.
            stage: makes the bar.

        Raises:
            InputError: no such folder, or nothing in it can be used.
        """
        extents: list[Extent] = []
        files = find_scans(path, reading.pattern)
        with stage(f"extents of {Path(path).name}", len(files)) as reach:
            for file, volume in reading.read(files):
                turned = volume.reorient()
                extents.append(Extent(file, turned.shape, turned.spacing))
                reach(len(extents))
        return cls(Path(path), tuple(extents), reading)

    def __len__(self) -> int:
        return len(self.extents)

    def prepared(self, grid: Grid, reach: Callable[[int], None] = lambda done: None) -> Iterator[tuple[Path, Prepared]]:
        """Every scan on the grid, normalised by its own percentiles, one after the other."""
        for done, (file, volume) in enumerate(self.reading.read([extent.file for extent in self.extents])):
            yield file, grid.prepare(volume)
            reach(done + 1)


@dataclass(frozen=True)
class JudgedGrid:
    """The one grid that both sides are brought to.

    Attributes:
        grid: the smallest RAS grid that holds every scan, at the spacing that all share (to 1%) or else at the
            median of the real scans; each is centred on it.
        spacing: (3,) millimetres between its voxels.
        resampled: how many of all scans are interpolated to get there: those count as a little blurred.
    """

    grid: Grid
    spacing: tuple[float, float, float]
    resampled: int

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return {"shape": list(self.grid.shape), "spacing_mm": list(self.spacing), "resampled": self.resampled}

    def __str__(self) -> str:
        return f"{' x '.join(map(str, self.grid.shape))} voxels of {' x '.join(f'{mm:.3g}' for mm in self.spacing)} mm"


def judged_grid(real: ScanFolder, *others: ScanFolder) -> JudgedGrid:
    """The grid on which `others` are held against `real`.

    Raises:
        InputError: a field of view is more than ALIKE times, or less than 1 / ALIKE of, the real scans' median one
            along an axis: a crop cannot be held against a whole head.
    """
    usual = np.median([extent.size for extent in real.extents], axis=0)
    every = [extent for folder in (real, *others) for extent in folder.extents]
    for extent in every:
        ratio = extent.size / usual
        if (ratio > ALIKE).any() or (ratio < 1 / ALIKE).any():
            raise InputError(
                f"{extent.file} shows {_millimetres(extent.size)}, the usual scan of {real.path} "
                f"{_millimetres(usual)}: score scans of one field of view, cropped or padded alike."
            )
    spacings = np.array([extent.spacing for extent in every])
    shapes = np.array([extent.shape for extent in every])
    if np.allclose(spacings, spacings[0], rtol=0.01):
        x, y, z = shapes.max(0).tolist()
        sx, sy, sz = spacings[0].tolist()
        return JudgedGrid(Grid((x, y, z)), (sx, sy, sz), 0)
    spacing = round(float(np.median([extent.spacing for extent in real.extents])), 3)
    x, y, z = np.ceil(shapes * spacings / spacing - 1e-3).astype(int).max(0).tolist()
    resampled = int((~np.isclose(spacings, spacing, rtol=0.01).all(1)).sum())
    return JudgedGrid(Grid((x, y, z), spacing), (spacing,) * 3, resampled)


def _millimetres(size: np.ndarray) -> str:
    return f"{' x '.join(f'{mm:.0f}' for mm in size)} mm"
