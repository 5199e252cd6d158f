"""The scans of a folder on the judge's grid, read one at a time: a folder of thousands is never held at once."""

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.judging.kept import NOTHING, Kept
from medmol_diffusion.judging.table import Stage, silent
from medmol_diffusion.mri.formats.files import find_scans, read_scans
from medmol_diffusion.mri.part import Part
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

    def read(self, files: Sequence[Path], fewest: bool = True) -> Iterator[tuple[Path, Volume]]:
        """`read_scans`, which see; not ``fewest``: that none can be used is a warning."""
        try:
            yield from read_scans(files, self.frame, self.series)
        except InputError as error:
            if fewest:
                raise
            warnings.warn(str(error), stacklevel=2)

    def kept(self, file: Path, cache: Path | None) -> Kept:
        """What is kept of a scan, read in this way: of a file, or of a folder of DICOM files."""
        if cache is None:
            return NOTHING
        files = sorted(one for one in file.rglob("*") if one.is_file()) if file.is_dir() else [file]
        return Kept.of(cache, files, frame=self.frame, series=self.series)


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
        cache: a folder in which what is measured of each of them is kept.
    """

    path: Path
    extents: tuple[Extent, ...]
    reading: Reading
    cache: Path | None = None

    @classmethod
    def survey(
        cls, source: Path | Part, reading: Reading = EVERYTHING, stage: Stage = silent, cache: Path | None = None
    ) -> "ScanFolder":
        """Read every file once for its extent; those that cannot be used are named in a warning and left out.

        Args:
            source: a folder, or the part of one, whose files are not looked for by the reading's pattern.
            reading: how they are found and read.
            stage: makes the bar.
            cache: a folder to keep what is measured of each scan.

        Raises:
            InputError: no such folder, or nothing in it can be used.
        """
        path, files = (
            (source.path, source.files) if isinstance(source, Part) else (source, find_scans(source, reading.pattern))
        )
        known = {file: before for file in files if (before := reading.kept(file, cache).plain("extent")) is not None}
        with stage(f"extents of {path.name}", len(files)) as reach:
            for file, volume in reading.read([file for file in files if file not in known], fewest=not known):
                turned = volume.reorient()
                known[file] = [list(turned.shape), list(map(float, turned.spacing))]
                reading.kept(file, cache).keep_plain("extent", known[file])
                reach(len(known))
        extents = [Extent(file, tuple(known[file][0]), tuple(known[file][1])) for file in files if file in known]
        return cls(path, tuple(extents), reading, cache)

    def __len__(self) -> int:
        return len(self.extents)

    def prepared(self, grid: Grid) -> Iterator[tuple[Path, Prepared]]:
        """Every scan on the grid, normalised by its own percentiles, one after the other."""
        for file, volume in self.reading.read([extent.file for extent in self.extents]):
            yield file, grid.prepare(volume)

    def measured(
        self,
        name: str,
        measures: Callable[[int, Prepared], dict[str, np.ndarray]],
        grid: Grid,
        wanted: Callable[[int, dict[str, np.ndarray]], bool] = lambda place, before: True,
        reach: Callable[[int], None] = lambda done: None,
    ) -> Iterator[tuple[Path, dict[str, np.ndarray]]]:
        """What is measured of every scan, one after the other, or was kept of it.

        Args:
            name: stands for all that decides the measures, in the names of what is kept.
            measures: of a scan at a place on the grid, normalised by its own percentiles.
            grid: that the scans are brought to.
            wanted: whether what was kept of the scan at a place will do.
            reach: told how many are done.
        """
        for place, file in enumerate(extent.file for extent in self.extents):
            kept = self.reading.kept(file, self.cache)
            found = kept.arrays(name)
            if found is None or not wanted(place, found):
                ((_, volume),) = self.reading.read([file])
                found = kept.keep_arrays(name, measures(place, grid.prepare(volume)))
            yield file, found
            reach(place + 1)


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

    @property
    def key(self) -> str:
        """What decides a scan on it, as a part of a file's name."""
        told = json.dumps([self.grid.shape, self.grid.spacing, self.grid.levels, self.spacing])
        return hashlib.sha256(told.encode()).hexdigest()[:16]

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
