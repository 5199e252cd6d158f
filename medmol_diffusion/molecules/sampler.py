"""Batches of one size, and a loader over them that can be taken up in the middle of an epoch."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.dataset import MoleculeDataset
from medmol_diffusion.molecules.molecule import MoleculeBatch


class SizeBucketSampler(Sampler[list[int]]):
    """Batches of molecules of one size N, at most pair_budget / N^2 of them; what is left of a size joins the next.

    The number of batches and their sizes are the same in every epoch; which molecules meet, and the order of the
    batches, are drawn from (seed, epoch), or once and for all from the seed without shuffle. Each item comes once an
    epoch. With several ranks each takes every num_replicas-th batch, and the first batches are repeated until all ranks
    have as many.
    """

    def __init__(
        self,
        num_atoms: np.ndarray,
        pair_budget: int,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        num_replicas: int = 1,
    ) -> None:
        largest = int(num_atoms.max(initial=0))
        if largest**2 > pair_budget:
            raise InputError(
                f"pair_budget {pair_budget} does not hold one molecule of {largest} atoms: give {largest**2} or more."
            )
        self.num_atoms, self.pair_budget, self.seed, self.shuffle = num_atoms, pair_budget, seed, shuffle
        self.rank, self.num_replicas = rank, num_replicas
        self.epoch = 0
        self.skip = 0
        self._slots = self._plan()

    def _plan(self) -> list[np.ndarray]:
        """Batches as places in the order of size."""
        sizes = np.sort(self.num_atoms)
        batches, left = [], np.empty(0, dtype=np.int64)
        for size in np.unique(sizes):
            capacity = self.pair_budget // int(size) ** 2
            # what smaller sizes left behind goes first; a batch is as large as its largest molecule allows
            slots = np.concatenate([left, np.flatnonzero(sizes == size)])
            while len(left) > capacity:
                batches.append(left[:capacity])
                left, slots = left[capacity:], slots[capacity:]
            whole = len(slots) // capacity * capacity
            batches += np.split(slots[:whole], max(whole // capacity, 1)) if whole else []
            left = slots[whole:]
        return [*batches, left] if len(left) else batches

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self._slots) // self.num_replicas)

    def __iter__(self) -> Iterator[list[int]]:
        draw = np.random.default_rng((self.seed, self.epoch if self.shuffle else 0))
        tie = draw.random(len(self.num_atoms)) if self.shuffle else np.arange(len(self.num_atoms))
        rows = np.lexsort((tie, self.num_atoms))
        order = draw.permutation(len(self._slots))  # without shuffle too: the first few are a fair sample of all sizes
        mine = np.resize(order, len(self) * self.num_replicas)[self.rank :: self.num_replicas]
        for place in mine[self.skip :]:
            yield rows[self._slots[place]].tolist()


class ResumableLoader(DataLoader):
    """A DataLoader over a SizeBucketSampler that Lightning can stop and take up again in the middle of an epoch.

    It counts its epochs itself, one for every pass: Lightning tells batch samplers nothing, and its own count moves on
    when a run stops in the middle of an epoch.
    """

    def __init__(self, dataset: MoleculeDataset, sampler: SizeBucketSampler, num_workers: int = 0) -> None:
        super().__init__(
            dataset,
            batch_sampler=sampler,
            num_workers=num_workers,
            collate_fn=_as_is,  # the data set hands over whole batches
            generator=torch.Generator().manual_seed(sampler.seed),  # else every epoch draws from the global one
        )
        self.buckets = sampler
        self._served = 0
        self._next = {"epoch": 0, "served": 0}

    def __iter__(self) -> Iterator[MoleculeBatch]:  # type: ignore[override]
        epoch, served = self._next["epoch"], self._next["served"]
        if served >= len(self.buckets):  # a checkpoint of the end of an epoch
            epoch, served = epoch + 1, 0
        self._next = {"epoch": epoch + 1, "served": 0}
        self.buckets.set_epoch(epoch)
        self._served = self.buckets.skip = served
        for batch in super().__iter__():
            self._served += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.buckets.epoch, "served": self._served}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._next = dict(state)


def _as_is(batch: Any) -> Any:
    return batch
