"""Scans for training: read once, put on one grid, split by subject, served in batches that any worker count repeats."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import transforms
from medmol_diffusion.mri.batch import VolumeBatch
from medmol_diffusion.mri.bids import subject_of
from medmol_diffusion.mri.formats.files import find_scans, read_scans
from medmol_diffusion.mri.loader import ScanBatches
from medmol_diffusion.mri.partners import Partners
from medmol_diffusion.mri.split import SubjectSplit
from medmol_diffusion.mri.table import Row, Table, find_table, summary_of
from medmol_diffusion.mri.tokens import find_tokens, padded
from medmol_diffusion.mri.transforms import LOWER, UPPER, Augmentation, Grid, Prepared
from medmol_diffusion.mri.volume import Volume
from medmol_diffusion.training.loader import ResumableLoader

MARKED = 0.1
"""The share of a voxel that a mask must fill for it to be left out: an edge that is partly lesion is not healthy."""


@dataclass
class Scans:
    """Prepared scans in memory: bin numbers (N, X, Y, Z) uint8 or uint16, boxes (N, 3, 2), what they are called, and
    what a table knows of each (``covariates``) and of each subject (``participants``); ``images``: name -> bin numbers
    of other scans of the same heads, on the same grids; ``tokens``: the sequence of embeddings of each, or None;
    ``excluded``: bool (N, X, Y, Z), voxels that nothing is to be learnt from, or None for none."""

    bins: np.ndarray
    boxes: np.ndarray
    names: list[str]
    subjects: list[str]
    covariates: list[Row]
    participants: dict[str, Row] = field(default_factory=dict)
    images: dict[str, np.ndarray] = field(default_factory=dict)
    tokens: list[np.ndarray | None] = field(default_factory=list)
    excluded: np.ndarray | None = None

    @classmethod
    def stack(
        cls,
        prepared: Sequence[Prepared],
        names: list[str],
        subjects: list[str],
        levels: int,
        images: Sequence[dict[str, np.ndarray]] = (),
    ) -> "Scans":
        """Of prepared scans, and the images beside each, (X, Y, Z) in [-1, 1]."""
        bins = np.stack([transforms.to_bins(scan.volume.data, levels) for scan in prepared])
        beside = {
            name: np.stack([transforms.to_bins(each[name], levels) for each in images])
            for name in (images[0] if images else ())
        }
        boxes = np.stack([scan.box for scan in prepared])
        return cls(bins, boxes, names, subjects, [{} for _ in names], images=beside)


class Example(NamedTuple):
    """A scan as a data set serves it."""

    data: Tensor
    mask: Tensor
    place: int
    name: str
    covariates: Row
    images: Mapping[str, Tensor] = MappingProxyType({})
    tokens: np.ndarray | None = None
    excluded: Tensor | None = None


class VolumeSet(Dataset):
    """Some of the scans, as examples. `self[i]` is as read, `self[epoch, i]` is augmented.

    `covariates[i]` is what the table knows of scan i: column -> text, without what is missing.
    """

    def __init__(self, scans: Scans, members: list[int], levels: int, augmentation: Augmentation | None = None) -> None:
        self.bins = torch.from_numpy(scans.bins[members])
        self.boxes = scans.boxes[members]
        self.names = [scans.names[i] for i in members]
        self.subjects = [scans.subjects[i] for i in members]
        self.covariates = [scans.covariates[i] for i in members]
        self.images = {name: torch.from_numpy(bins[members]) for name, bins in scans.images.items()}
        self.tokens = [scans.tokens[i] if scans.tokens else None for i in members]
        self.excluded = None if scans.excluded is None else torch.from_numpy(scans.excluded[members])
        self.levels = levels
        self.augmentation = augmentation

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, key: int | tuple[int, int]) -> Example:
        epoch, i = key if isinstance(key, tuple) else (None, key)
        bins = torch.stack([self.bins[i], *(image[i] for image in self.images.values())])
        # The same centres as transforms.from_bins, rounded once from float64.
        data = (bins.double() * (2 / (self.levels - 1)) - 1).float()
        mask = torch.zeros_like(data[:1], dtype=torch.bool)
        (x0, x1), (y0, y1), (z0, z1) = self.boxes[i].tolist()
        mask[:, x0:x1, y0:y1, z0:z1] = True
        if self.excluded is not None:  # moved as the scan's own voxels are
            mask = torch.cat([mask, mask & self.excluded[i]])
        if self.augmentation is not None and epoch is not None:
            data, mask = self.augmentation(data, mask, self.levels, epoch, i)
        images = {name: data[k : k + 1] for k, name in enumerate(self.images, start=1)}
        excluded = mask[1:] if self.excluded is not None else None
        return Example(data[:1], mask[:1], i, self.names[i], self.covariates[i], images, self.tokens[i], excluded)


def collate(examples: Sequence[tuple[Any, ...]]) -> VolumeBatch:
    """Examples, each with the fields of Example, as a batch."""
    rows = [Example(*example) for example in examples]
    images = {name: torch.stack([row.images[name] for row in rows]) for name in rows[0].images}
    batch = VolumeBatch(
        torch.stack([row.data for row in rows]),
        torch.stack([row.mask for row in rows]),
        torch.tensor([row.place for row in rows]),
        [row.name for row in rows],
        [row.covariates for row in rows],
        images,
    )
    if any(row.tokens is not None for row in rows):
        batch.tokens, batch.token_mask = padded([row.tokens for row in rows])
    excluded = [row.excluded for row in rows if row.excluded is not None]
    if excluded:
        batch.excluded = torch.stack(excluded)
    return batch


class VolumeModule(pl.LightningDataModule, ABC):
    """Scans held in memory and split by subject: what all sources of scans share.

    After `setup`: `train`, `validation` and `test` (VolumeSet) and `participants`, what is known of each subject.
    """

    def __init__(
        self,
        shape: list[int],
        levels: int,
        validation: float,
        test: float,
        split_seed: int,
        batch_size: int,
        augmentation: Augmentation,
        num_workers: int,
        split_file: str | None = None,
        upper_percentile: float = UPPER,
    ) -> None:
        super().__init__()
        if len(shape) != 3 or min(shape) < 1:
            raise InputError(f"data.shape needs three sizes of at least 1, not {shape}.")
        if not 2 <= levels <= 65536:
            raise InputError(f"data.levels must lie between 2 and 65536, not {levels}.")
        if validation < 0 or test < 0 or validation + test >= 1:
            raise InputError(
                f"data.validation and data.test are shares of the subjects and must leave some for training, "
                f"but {validation} + {test} >= 1."
            )
        if not LOWER < upper_percentile <= 100:
            raise InputError(f"data.upper_percentile must lie above {LOWER} and not above 100, not {upper_percentile}.")
        self.shape = (shape[0], shape[1], shape[2])
        self.levels = levels
        self.upper_percentile = upper_percentile
        self.shares = (validation, test)
        self.split_seed = split_seed
        self.split_file = split_file
        self.batch_size = batch_size
        self.augmentation = augmentation
        self.num_workers = num_workers
        self.participants: dict[str, Row] = {}

    @abstractmethod
    def load(self) -> Scans:
        """Read and prepare all scans."""

    def setup(self, stage: str | None = None) -> None:
        if hasattr(self, "train"):
            return
        scans = self.load()
        split = self._split(scans.subjects)
        train, validation, test = split.members(scans.subjects)
        if not train:
            raise InputError(f"The split file {self.split_file} leaves none of these scans to train on.")
        self.participants = scans.participants
        self.validation = VolumeSet(scans, validation, self.levels)
        self.test = VolumeSet(scans, test, self.levels)
        self.train = VolumeSet(scans, train, self.levels, self.augmentation)
        if scans.excluded is not None and self.trainer is not None:
            warnings.warn(
                "data.exclude leaves voxels out of training alone: the bound that validation computes counts them, and "
                "a distilled model says there what its teacher does.",
                stacklevel=2,
            )

    def _split(self, subjects: Sequence[str]) -> SubjectSplit:
        if self.split_file is not None:
            return SubjectSplit.read(self.split_file)
        return SubjectSplit.draw(subjects, *self.shares, self.split_seed)

    def describe(self) -> list[tuple[str, str]]:
        """What `medmol doctor` says of these data once they are set up."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        boxes = np.concatenate([part.boxes for part in parts.values()])
        own = np.prod(boxes[:, :, 1] - boxes[:, :, 0], axis=1) / np.prod(self.shape)
        sizes = ", ".join(f"{len(part)} {name} ({len(set(part.subjects))})" for name, part in parts.items())
        padded = f"{(own < 1).sum()} of {len(own)} scans, {100 * (1 - own.mean()):.0f} % of all voxels"
        rows = [row for part in parts.values() for row in part.covariates]
        names = dict.fromkeys(name for row in rows for name in row)
        known = [(f"covariate {name}", summary_of(rows, name)) for name in names]
        masks = [part.excluded for part in parts.values() if part.excluded is not None]
        if masks:
            marked = torch.cat(masks).flatten(1).double().mean(1)
            left_out = f"{int((marked > 0).sum())} of {len(own)} scans, {100 * marked.mean():.2g} % of all voxels"
            known = [("excluded", left_out), *known]
        return [("scans (subjects)", sizes), ("grid", f"{list(self.shape)}"), ("padded", padded), *known]

    def train_dataloader(self) -> ResumableLoader:
        return self._loader(self.train, shuffle=True)

    def val_dataloader(self) -> ResumableLoader:
        return self._loader(self.validation)

    def test_dataloader(self) -> ResumableLoader:
        return self._loader(self.test)

    def evaluation_dataloader(self, split: str, rows: np.ndarray) -> ResumableLoader:
        """These scans of the train, validation or test part as they were read, each once, in their order."""
        return self._loader(Subset(getattr(self, split), rows.tolist()))

    def _loader(self, scans: Any, shuffle: bool = False) -> ResumableLoader:
        rank, ranks = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return ResumableLoader(
            scans,
            ScanBatches(len(scans), self.batch_size, shuffle, self.augmentation.seed, rank, ranks),
            collate_fn=collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )


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


def marked(file: Path | None, like: Volume) -> np.ndarray:
    """bool (X, Y, Z): the voxels of ``like`` of which a mask, above 0 in its file, fills more than MARKED."""
    if file is None:
        return np.zeros(like.shape, dtype=bool)
    mask = Volume.read(file, constant=True)
    return replace(mask, data=mask.data > 0).resample(like=like).data > MARKED


def flip_axes(flip: bool | list[int]) -> tuple[int, ...]:
    """The axes that data.flip names.

    Raises:
        InputError: there is no such axis.
    """
    axes = ((0,) if flip else ()) if isinstance(flip, bool) else tuple(flip)
    if not set(axes) <= {0, 1, 2}:
        raise InputError(f"data.flip names axes 0, 1 and 2, not {list(axes)}.")
    return axes
