"""Batches that do not depend on the number of ranks, and a loader over them that can be taken up in the middle of an
epoch."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler


class DealtBatches(Sampler[list[Any]], ABC):
    """The batches of an epoch, dealt out: of each, rank r of R takes the examples at r, r + R, r + 2 R, ...

    One process whose batches are R times as large sees the same batches. Shares differ by one example at most. A batch
    of fewer than R examples leaves nothing for the last ranks: they get its first one, which does not count
    (step.Share), for every rank must take part in every step.

    Args:
        rank, ranks: r and R.
    """

    def __init__(self, rank: int = 0, ranks: int = 1) -> None:
        self.rank, self.ranks = rank, ranks
        self.epoch = 0
        self.skip = 0

    @abstractmethod
    def batches(self) -> list[list[Any]]:
        """What the data set is asked for, batch by batch, in this epoch, by all ranks together."""

    @abstractmethod
    def __len__(self) -> int:
        """How many batches an epoch has, on every rank."""

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[Any]]:
        """This rank's shares, without the first ``skip``."""
        for batch in self.batches()[self.skip :]:
            yield batch[self.rank :: self.ranks] or batch[:1]


class ResumableLoader(DataLoader):
    """A DataLoader over DealtBatches that Lightning can stop and take up again in the middle of an epoch.

    It counts its epochs itself, one for every pass: Lightning tells batch samplers nothing, and its own count moves on
    when a run stops in the middle of an epoch. Every batch is told how many examples it has over all ranks (``total``).
    Where a resumed epoch has more batches than the one that was stopped, or fewer, as with another number of ranks, it
    is taken up at the same share of it.
    """

    def __init__(self, dataset: Dataset, sampler: DealtBatches, **options: Any) -> None:
        # Without a generator of its own every epoch would draw from the global one.
        super().__init__(dataset, batch_sampler=sampler, generator=torch.Generator().manual_seed(0), **options)
        self.dealt = sampler
        self._served = 0
        self._next = {"epoch": 0, "served": 0, "batches": len(sampler)}

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        epoch, served, batches = self._next["epoch"], self._next["served"], self._next["batches"]
        served = served * len(self.dealt) // max(1, batches)
        if served >= len(self.dealt):  # a checkpoint of the end of an epoch
            epoch, served = epoch + 1, 0
        self._next = {"epoch": epoch + 1, "served": 0, "batches": len(self.dealt)}
        self.dealt.set_epoch(epoch)
        self._served = self.dealt.skip = served
        totals = [len(batch) for batch in self.dealt.batches()]
        for batch in super().__iter__():
            batch.total = totals[self._served]
            self._served += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.dealt.epoch, "served": self._served, "batches": len(self.dealt)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._next = {"batches": len(self.dealt), **state}
