"""The order of the training scans, and a loader that can be taken up in the middle of an epoch."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader, DistributedSampler

from medmol_diffusion.mri.batch import VolumeBatch


class EpochSampler(DistributedSampler):
    """Shuffles by seed + epoch, shares out among ranks, and yields (epoch, index), so that workers know the epoch.

    Lightning calls `set_epoch`, after a resume too. The first ``skip`` scans of this rank are left out.
    """

    skip = 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((self.epoch, int(index)) for index in islice(super().__iter__(), self.skip, None))


class ResumableScans(DataLoader):
    """A DataLoader over an EpochSampler that Lightning can stop and take up again in the middle of an epoch: without a
    state of its own, a resumed run would begin the epoch anew."""

    sampler: EpochSampler
    batch_size: int
    _served = 0
    _next: dict[str, int] | None = None

    def __iter__(self) -> Iterator[VolumeBatch]:  # type: ignore[override]
        self._served = self.sampler.skip = 0
        if self._next is not None:
            epoch, served = self._next["epoch"], self._next["served"]
            if served >= len(self):  # a checkpoint of the end of an epoch
                epoch, served = epoch + 1, 0
            self.sampler.set_epoch(epoch)
            self._served, self.sampler.skip, self._next = served, served * self.batch_size, None
        for batch in super().__iter__():
            self._served += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.sampler.epoch, "served": self._served}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._next = dict(state)
