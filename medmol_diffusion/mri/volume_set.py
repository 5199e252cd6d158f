"""Prepared scans in memory, some of them as examples, and examples as a batch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from medmol_diffusion.mri import transforms
from medmol_diffusion.mri.batch import VolumeBatch
from medmol_diffusion.mri.table import Row
from medmol_diffusion.mri.tokens import padded
from medmol_diffusion.mri.transforms import Augmentation, Prepared


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
