"""Survey: what lies in a folder of scans, what is wrong with it, and which grid would hold it."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.bids import session_of, subject_of, suffix_of
from medmol_diffusion.mri.formats import nifti
from medmol_diffusion.mri.table import SHOWN, Row, Table, counts_of, summary_of
from medmol_diffusion.mri.transforms import Grid, grid_holding
from medmol_diffusion.mri.volume import Volume

LABELS = 0.6
"""Share of neighbours inside with one value from which on whole numbers are the labels of a map, not intensities."""


@dataclass(frozen=True)
class Scan:
    """What is kept of a scan that was read. shape and spacing are those of its axes turned to RAS."""

    name: str
    subject: str
    format: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    orientation: str
    oblique: float
    sheared: bool
    placed: bool
    low: float
    high: float
    labels: bool
    digest: str


@dataclass(frozen=True)
class Survey:
    """Scans, those that cannot be used with their faults, and what a table says of them.

    Attributes:
        scans: in order.
        faults: one sentence for each scan that cannot be used.
        covariates: the table's row of each scan; None where there is no table.
        unused: rows of the table that name none of the scans.
    """

    scans: list[Scan]
    faults: list[str]
    covariates: list[Row] | None = None
    unused: int = 0
    columns: list[str] = field(default_factory=list)

    @property
    def grid(self) -> Grid:
        """The smallest that holds every scan, each size a multiple of 4: two Haar levels."""
        whole = grid_holding([scan.shape for scan in self.scans], [scan.spacing for scan in self.scans])
        x, y, z = (-(-size // 4) * 4 for size in whole.shape)
        return Grid((x, y, z), whole.spacing)

    def rows(self) -> list[tuple[str, str]]:
        """(what, value) for a table."""
        scans, subjects = self.scans, sorted({scan.subject for scan in self.scans})
        found = [("scans", counts_of(scan.format for scan in scans)), ("cannot be used", str(len(self.faults)))]
        if not scans:
            return found
        sessions = {(scan.subject, session) for scan in scans if (session := session_of(scan.name))}
        found += [
            ("subjects", f"{len(subjects)}: {_listed(subjects)}"),
            *([("sessions", str(len(sessions)))] if sessions else []),
            ("suffixes", counts_of(suffix_of(scan.name) or "none" for scan in scans)),
            ("voxels (in RAS)", counts_of(" x ".join(map(str, scan.shape)) for scan in scans)),
            ("mm between voxels", counts_of(" x ".join(f"{mm:.3g}" for mm in scan.spacing) for scan in scans)),
            ("orientations", counts_of(scan.orientation for scan in scans)),
            (
                "oblique",
                f"{sum(scan.oblique > 1 for scan in scans)}, at most {max(s.oblique for s in scans):.0f} degrees",
            ),
            ("intensities", f"{min(s.low for s in scans):.4g} to {max(s.high for s in scans):.4g} (0.5 to 99.5 %)"),
            *self._fit(),
        ]
        rows = self.covariates or []
        return found + [(f"covariate {name}", summary_of(rows, name)) for name in self.columns]

    def _fit(self) -> list[tuple[str, str]]:
        """What putting the scans on their grid takes."""
        grid = self.grid
        volume, own = float(np.prod(grid.shape)), []
        resampled = 0
        for scan in self.scans:
            ratio = np.ones(3) if grid.spacing is None else np.array(scan.spacing) / grid.spacing
            resampled += bool(np.abs(ratio - 1).max() > 0.01)
            own.append(float(np.prod(np.ceil(np.array(scan.shape) * ratio - 1e-3))) / volume)
        spacing = "each scan's own" if grid.spacing is None else f"{grid.spacing:g} mm"
        held = f"{volume * len(self.scans) / 2**30:.2g} GiB at 256 levels"
        return [
            ("the grid that holds all", f"shape {list(grid.shape)}, spacing {spacing}: {held}"),
            ("resampled to it", str(resampled)),
            ("padded to it", f"{sum(share < 1 for share in own)}, {100 * (1 - np.mean(own)):.0f} % of all voxels"),
        ]

    def doubts(self) -> list[str]:
        """What is no fault of one file, but worth a look before a run."""
        same: dict[str, list[Scan]] = {}
        for scan in self.scans:
            same.setdefault(scan.digest, []).append(scan)
        copies = [group for group in same.values() if len(group) > 1]
        found = [f"the same scan lies in {_listed(scan.name for scan in group)}" for group in copies]
        across = [group for group in copies if len({scan.subject for scan in group}) > 1]
        if across:
            found.append("copies are counted as different subjects: training and test would share them")
        for fault, names in {
            "look like label maps or masks, not scans: leave them out by suffix or pattern": [
                scan.name for scan in self.scans if scan.labels
            ],
            "do not say where they lie (sform and qform code 0): their orientation is a guess": [
                scan.name for scan in self.scans if not scan.placed
            ],
            "have axes that are not at right angles: they are interpolated onto such": [
                scan.name for scan in self.scans if scan.sheared
            ],
            "have no row in the table": [
                scan.name for scan, row in zip(self.scans, self.covariates or (), strict=False) if not row
            ],
        }.items():
            if names:
                found.append(f"{len(names)} of {len(self.scans)} scans {fault} ({_listed(names)})")
        if self.unused:
            found.append(f"{self.unused} rows of the table name none of the scans")
        if 0 < len({scan.subject for scan in self.scans}) < 3:
            found.append("there are fewer than three subjects: set data.validation and data.test to 0, or add some")
        return found


def survey(
    files: Sequence[Path],
    name: Callable[[Path], str],
    table: Table | None = None,
    frame: int | None = None,
    series: str | None = None,
    progress: Callable[[int], None] | None = None,
) -> Survey:
    """Read every scan once, one at a time.

    Args:
        files: as of `find_scans`.
        name: what a scan is called.
        table: of covariates.
        frame, series: as of Volume.read.
        progress: called with the number of scans read.
    """
    scans, faults = [], []
    for done, file in enumerate(files, start=1):
        try:
            subject = table.subject_named(name(file)) if table else subject_of(name(file))
            scans.append(_look(file, name(file), subject, Volume.read(file, frame, series=series)))
        except InputError as error:
            faults.append(str(error))
        if progress is not None:
            progress(done)
    if table is None:
        return Survey(scans, faults)
    rows = [table.row(scan.name) for scan in scans]
    return Survey(scans, faults, rows, table.unused([scan.name for scan in scans]), table.columns)


def _look(file: Path, name: str, subject: str, volume: Volume) -> Scan:
    straight = volume.straighten()
    turned = straight.reorient()
    unit = turned.affine[:3, :3] / turned.spacing
    data = turned.data
    low, high = (float(value) for value in np.percentile(data, [0.5, 99.5]))
    is_nifti = file.name.endswith(nifti.SUFFIXES)
    return Scan(
        name=name,
        subject=subject,
        format="NIfTI" if is_nifti else "DICOM",
        shape=turned.shape,
        spacing=turned.spacing,
        orientation=volume.orientation,
        oblique=float(np.degrees(np.arccos(np.clip(np.diag(unit), -1, 1))).max()),
        sheared=straight is not volume,
        placed=not is_nifti or nifti.says_where(file),
        low=low,
        high=high,
        labels=_are_labels(data),
        digest=hashlib.sha256(repr(turned.shape).encode() + data.tobytes()).hexdigest(),
    )


def _are_labels(data: np.ndarray) -> bool:
    """Whole numbers that are mostly those of their neighbours, where these are not 0."""
    here, there = data[:-1], data[1:]
    inside = (here != 0) & (there != 0)
    return bool(inside.any() and (here == there)[inside].mean() > LABELS and (data == np.rint(data)).all())


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
