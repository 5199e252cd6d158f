"""Exam: scans as the stages of anomaly detection take them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from medmol_diffusion.mri.batch import VolumeBatch


@dataclass(frozen=True)
class Exam:
    """B scans under examination, on the model's grid.

    Attributes:
        batch: the scans.
        inside: bool (B, 1, X, Y, Z), the voxels that are looked at: the brain, or the whole head.
    """

    batch: VolumeBatch
    inside: Tensor

    @property
    def data(self) -> Tensor:
        """(B, 1, X, Y, Z) the scans, in [-1, 1]."""
        return self.batch.data

    def repeated(self, count: int) -> "Exam":
        """Every scan ``count`` times: all of them, then all of them again."""
        return self.take(torch.arange(len(self)).repeat(count))

    def take(self, rows: Tensor) -> "Exam":
        """Some of the scans."""
        return Exam(self.batch.take(rows), self.inside[rows.to(self.inside.device)])

    def __len__(self) -> int:
        return len(self.batch)
