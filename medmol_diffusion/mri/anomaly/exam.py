"""Exam: scans as the stages of anomaly detection take them."""

from collections.abc import Sequence
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

    @classmethod
    def joined(cls, exams: Sequence["Exam"]) -> "Exam":
        """Several as one; of the batches, what stages read."""
        batches = [exam.batch for exam in exams]
        return cls(
            VolumeBatch(
                torch.cat([batch.data for batch in batches]),
                torch.cat([batch.mask for batch in batches]),
                torch.cat([batch.index for batch in batches]),
                [name for batch in batches for name in batch.names],
                images={name: torch.cat([batch.images[name] for batch in batches]) for name in batches[0].images},
            ),
            torch.cat([exam.inside for exam in exams]),
        )

    def __len__(self) -> int:
        return len(self.batch)
