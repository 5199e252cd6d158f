"""VolumeBatch: scans as a model takes them."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class VolumeBatch:
    """B scans on one grid.

    Attributes:
        data: (B, 1, X, Y, Z) float32 in [-1, 1], each value a bin centre 2 k / (levels - 1) - 1.
        mask: (B, 1, X, Y, Z) bool, the voxels that count: those of the scan's own grid. Padding (data -1) does not.
        index: (B,) int64, the place of each scan in its data set.
        names: the file of each scan, so that a fault can name it.
    """

    data: Tensor
    mask: Tensor
    index: Tensor
    names: list[str]

    def to(self, device: torch.device | str, **options: Any) -> "VolumeBatch":
        data, mask, index = (tensor.to(device, **options) for tensor in (self.data, self.mask, self.index))
        return VolumeBatch(data, mask, index, self.names)

    def __len__(self) -> int:
        return len(self.data)
