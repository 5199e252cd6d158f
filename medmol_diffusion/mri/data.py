"""Scans for training from a folder: found, read once, put on one grid, and what lies beside each."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.bids import subject_of
from medmol_diffusion.mri.formats.files import find_scans, read_scans
from medmol_diffusion.mri.partners import Partners
from medmol_diffusion.mri.split import SubjectSplit
from medmol_diffusion.mri.table import Table, find_table
from medmol_diffusion.mri.tokens import find_tokens
from medmol_diffusion.mri.transforms import UPPER, Augmentation, Grid, flip_axes
from medmol_diffusion.mri.volume import Volume
from medmol_diffusion.mri.volume_module import VolumeModule
from medmol_diffusion.mri.volume_set import Scans
from medmol_diffusion.training.split_file import PARTS

MARKED = 0.1
"""The share of a voxel that a mask must fill for it to be left out: an edge that is partly lesion is not healthy."""


class VolumeData(VolumeModule):
    """A folder of scans, searched with its subfolders: NIfTI files, plain or BIDS, and folders of DICOM series.

    Scans that cannot be used are skipped with one warning that names each and its fault. The subject of a scan is what
    the table says or else bids.subject_of its path; the scans of one subject are never divided between training,
    validation and test. A table (table.Table; participants.tsv of the folder or the one above, or `table`) gives
    `covariates` of each scan and `participants`: subject -> its row.

    Args:
        path: the folder.
        shape: the common grid; scans are padded to it, or cropped about the centre with a warning.
        pattern: which scans, as a glob: "images/*.nii.gz"; all when None.
        spacing: millimetres to resample to; None keeps each scan's own.
        orientation: where the axes shall point to.
        levels: number of intensity bins.
        validation, test: shares of the subjects.
        split_seed: of the split by subject.
        batch_size: scans a batch, of each rank.
        flip: mirror training scans: True means left-right, a list names the axes.
        num_workers: processes that load; 0 is fastest here, for all is in memory.
        limit: use only the first so many files, in order of their names.
        seed: of shuffling and augmentation.
        shift: move training scans by up to so many voxels along each axis.
        bend: change the contrast of training scans by a power law, with exponents of exp(-bend) to exp(bend).
        suffix: of BIDS, T1w for example: only scans whose names end in it.
        frame: which frame of 4-D scans.
        series: which DICOM series of folders with several, by number or a part of the description.
        table: a csv or tsv with a column of files or subjects.
        split_file: of `medmol split`: says which subjects are for what, in the place of shares and split_seed.
        images: name -> glob of other scans in the folder, {T1w: "*_T1w.nii.gz"} for example: of each, every scan gets
            the one of its subject and session (partners.Partners), interpolated onto its grid by both affines. Scans
            without are left out with a warning.
        tokens: a folder with a sequence of embeddings, floats of (L, D), for every scan that has one: NAME.npy for the
            scan NAME.nii.gz (tokens.find_tokens). They come from any encoder of reports.
        upper_percentile: of a scan's intensities, all above which become 1 (Grid.upper): nearer to 100 where what is
            looked for is small and bright.
        exclude: a glob of masks in the folder, "*_lesions.nii.gz" for example: a model learns nothing from the voxels
            of a scan that the mask of its subject and session marks (VolumeBatch.excluded). A scan may have none. The
            masks are no scans. The bound that validation computes counts every voxel, and what a distilled model says
            there it has from its teacher.

    Raises:
        InputError: the folder does not exist, nothing in it matches, no scan is usable, the table names none of them,
            the split file does not fit, or a scan has several partners or masks.
    """

    def __init__(
        self,
        path: str,
        shape: list[int],
        pattern: str | None = None,
        spacing: float | None = None,
        orientation: str = "RAS",
        levels: int = 256,
        validation: float = 0.1,
        test: float = 0.1,
        split_seed: int = 0,
        batch_size: int = 8,
        flip: bool | list[int] = False,
        num_workers: int = 0,
        limit: int | None = None,
        seed: int = 0,
        shift: int = 0,
        bend: float = 0.0,
        suffix: str | None = None,
        frame: int | None = None,
        series: str | None = None,
        table: str | None = None,
        split_file: str | None = None,
        images: dict[str, str] | None = None,
        tokens: str | None = None,
        upper_percentile: float = UPPER,
        exclude: str | None = None,
    ) -> None:
        augmentation = Augmentation(flip_axes(flip), shift, bend, seed)
        shares = (validation, test, split_seed)
        super().__init__(shape, levels, *shares, batch_size, augmentation, num_workers, split_file, upper_percentile)
        self.path = Path(path)
        self.pattern, self.suffix, self.limit = pattern, suffix, limit
        self.frame, self.series = frame, series
        self.table = None if table is None else Path(table)
        self.grid = Grid(self.shape, spacing, orientation, levels, upper_percentile)
        self.images = dict(images or {})
        self.tokens = tokens
        self.exclude = exclude

    def find(self) -> list[Path]:
        """The scans, not yet read."""
        masks = set() if self.exclude is None else set(find_scans(self.path, self.exclude))
        return [scan for scan in find_scans(self.path, self.pattern, self.suffix) if scan not in masks][: self.limit]

    def scan_name(self, scan: Path) -> str:
        """What a scan is called: its path within the folder, or the folder's own name if it is the scan."""
        return self.path.resolve().name if scan == self.path else str(scan.relative_to(self.path))

    def subjects(self) -> list[str]:
        """Whose scans they are, in the order of `find`."""
        table = self._table()
        return [table.subject_named(name) if table else subject_of(name) for name in map(self.scan_name, self.find())]

    def draw_split(self) -> SubjectSplit:
        """Which subjects are for what by the shares and split_seed; no scan is read."""
        return SubjectSplit.draw(self.subjects(), *self.shares, self.split_seed)

    def parts(self) -> dict[str, dict[Path, str]]:
        """train, validation and test: file -> whose it is. No scan is read: one that cannot be used is there too, and
        counts where shares are drawn."""
        partners = Partners.of(self.path, self.images, self.scan_name, self._table())
        files = partners.complete(self.find())
        subjects = [partners.subject_of(file) for file in files]
        members = self._split(subjects).members(subjects)
        return {part: {files[i]: subjects[i] for i in rows} for part, rows in zip(PARTS, members, strict=True)}

    def _table(self) -> Table | None:
        path = self.table or find_table(self.path)
        return None if path is None else Table.read(path)

    def load(self) -> Scans:
        prepared, names = [], []
        images: list[dict[str, np.ndarray]] = []
        excluded: list[np.ndarray] = []
        table = self._table()
        partners = Partners.of(self.path, self.images, self.scan_name, table)
        patterns = {} if self.exclude is None else {"exclude": self.exclude}
        masks = Partners.of(self.path, patterns, self.scan_name, table, option="data")
        for file, volume in read_scans(partners.complete(self.find()), self.frame, self.series):
            prepared.append(self.grid.prepare(volume))
            names.append(self.scan_name(file))
            if self.images:
                read = {name: Volume.read(path, self.frame) for name, path in partners.of_scan(file).items()}
                images.append({name: self.grid.beside(partner, prepared[-1]) for name, partner in read.items()})
            if self.exclude is not None:
                excluded.append(marked(masks.of_scan(file).get("exclude"), prepared[-1].volume))
        cropped = [name for name, scan in zip(names, prepared, strict=True) if scan.cropped]
        if cropped:
            shown = ", ".join(cropped[:3]) + (", ..." if len(cropped) > 3 else "")
            warnings.warn(
                f"{len(cropped)} of {len(names)} scans in {self.path} are larger than {list(self.shape)} and lose "
                f"voxels at their borders ({shown}): enlarge data.shape to keep them.",
                stacklevel=2,
            )
        subjects = [table.subject_named(name) if table else subject_of(name) for name in names]
        scans = Scans.stack(prepared, names, subjects, self.levels, images)
        if self.exclude is not None:
            scans.excluded = np.stack(excluded)
        if self.tokens is not None:
            scans.tokens = find_tokens(self.tokens, names)
        if table is None:
            return scans
        scans.covariates = [table.row(name) for name in names]
        if self.table is not None and not any(scans.covariates):
            raise InputError(f"The table {self.table} names none of the scans in {self.path}, such as {names[0]}.")
        scans.participants = table.participants()
        return scans


def every_scan(path: str, grid: Grid, skip: bool = False) -> VolumeData:
    """All scans of a folder in the training part, on a model's grid. What it cannot hold is cropped: ``skip``, which
    leaves out what a model cannot hold, raises InputError."""
    if skip:
        raise InputError("--skip leaves out what a model cannot hold: it is for molecules, a scan is cropped")
    return VolumeData(
        path,
        list(grid.shape),
        spacing=grid.spacing,
        levels=grid.levels,
        upper_percentile=grid.upper,
        validation=0.0,
        test=0.0,
    )


def marked(file: Path | None, like: Volume) -> np.ndarray:
    """bool (X, Y, Z): the voxels of ``like`` of which a mask, above 0 in its file, fills more than MARKED."""
    if file is None:
        return np.zeros(like.shape, dtype=bool)
    mask = Volume.read(file, constant=True)
    return replace(mask, data=mask.data > 0).resample(like=like).data > MARKED
