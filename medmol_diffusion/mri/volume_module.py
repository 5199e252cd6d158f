"""Scans for training, whatever they come from: split by subject, served in batches that any worker count repeats."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import Subset

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.loader import ScanBatches
from medmol_diffusion.mri.split import SubjectSplit
from medmol_diffusion.mri.table import Row, summary_of
from medmol_diffusion.mri.transforms import LOWER, UPPER, Augmentation
from medmol_diffusion.mri.volume_set import Scans, VolumeSet, collate
from medmol_diffusion.training.loader import ResumableLoader


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
