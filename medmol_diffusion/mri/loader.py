"""The order in which scans are served."""

from typing import Any

import torch

from medmol_diffusion.training.loader import DealtBatches


class ScanBatches(DealtBatches):
    """Batches of ``batch_size`` scans for each rank, as places in a VolumeSet.

    With shuffle in an order drawn from seed + epoch, as (epoch, place), so that workers know the epoch; what does not
    fill a batch is left out of that epoch, unless there is not even one. Without, in their order, all of them.
    """

    def __init__(
        self, count: int, batch_size: int, shuffle: bool = False, seed: int = 0, rank: int = 0, ranks: int = 1
    ) -> None:
        super().__init__(rank, ranks)
        self.count, self.size, self.shuffle, self.seed = count, batch_size * ranks, shuffle, seed

    def __len__(self) -> int:
        return max(1, self.count // self.size) if self.shuffle else -(-self.count // self.size)

    def batches(self) -> list[list[Any]]:
        starts = range(0, len(self) * self.size, self.size)
        if not self.shuffle:
            return [list(range(start, min(start + self.size, self.count))) for start in starts]
        order = torch.randperm(self.count, generator=torch.Generator().manual_seed(self.seed + self.epoch)).tolist()
        return [[(self.epoch, place) for place in order[start : start + self.size]] for start in starts]
