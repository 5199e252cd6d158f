"""Batches of molecules of one size."""

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.training.loader import DealtBatches


class SizeBucketSampler(DealtBatches):
    """Batches of molecules of one size N, at most pair_budget / N^2 of them; what is left of a size joins the next.

    The number of batches and their sizes are the same in every epoch; which molecules meet, and the order of the
    batches, are drawn from (seed, epoch), or once and for all from the seed without shuffle. Each item comes once an
    epoch. The budget is that of all ranks together: a rank's share may be one molecule above its part of it.
    """

    def __init__(
        self,
        num_atoms: np.ndarray,
        pair_budget: int,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        super().__init__(rank, ranks)
        largest = int(num_atoms.max(initial=0))
        if largest**2 > pair_budget:
            raise InputError(
                f"pair_budget {pair_budget} does not hold one molecule of {largest} atoms: give {largest**2} or more."
            )
        self.num_atoms, self.pair_budget, self.seed, self.shuffle = num_atoms, pair_budget, seed, shuffle
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

    def __len__(self) -> int:
        return len(self._slots)

    def batches(self) -> list[list[int]]:
        draw = np.random.default_rng((self.seed, self.epoch if self.shuffle else 0))
        tie = draw.random(len(self.num_atoms)) if self.shuffle else np.arange(len(self.num_atoms))
        rows = np.lexsort((tie, self.num_atoms))
        order = draw.permutation(len(self._slots))  # without shuffle too: the first few are a fair sample of all sizes
        return [rows[self._slots[place]].tolist() for place in order]
