"""VolumeBatch: scans as a model takes them."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from medmol_diffusion.mri.table import Row


@dataclass
class VolumeBatch:
    """B scans on one grid.

    Attributes:
        data: (B, 1, X, Y, Z) float32 in [-1, 1], each value a bin centre 2 k / (levels - 1) - 1.
        mask: (B, 1, X, Y, Z) bool, the voxels that count: those of the scan's own grid. Padding (data -1) does not.
        index: (B,) int64, the place of each scan in its data set.
        names: the file of each scan, so that a fault can name it.
        covariates: what a table knows of each scan, column -> text; empty without a table.
        images: name -> (B, 1, X, Y, Z) float32 in [-1, 1]: other scans of the same heads on the same grid.
        wanted: (B, 1, X, Y, Z) bool, the counted voxels that are not given; None for all of them.
        tokens: (B, L, D) a sequence of embeddings of each scan, of its report for example; None where none has any.
        token_mask: (B, L) bool, which of them are there.
        excluded: (B, 1, X, Y, Z) bool, counted voxels that a model is not to learn from, lesions for example; None for
            none.
        total: how many scans the batch has over all ranks, of which these are one's share; 0 where nobody shares.
    """

    data: Tensor
    mask: Tensor
    index: Tensor
    names: list[str]
    covariates: list[Row] = field(default_factory=list)
    images: dict[str, Tensor] = field(default_factory=dict)
    wanted: Tensor | None = None
    tokens: Tensor | None = None
    token_mask: Tensor | None = None
    excluded: Tensor | None = None
    total: int = 0

    @property
    def kept(self) -> Tensor:
        """(B, 1, X, Y, Z) bool, all but what is excluded."""
        return torch.ones_like(self.mask) if self.excluded is None else ~self.excluded

    def to(self, device: torch.device | str, **options: Any) -> "VolumeBatch":
        data, mask, index = (tensor.to(device, **options) for tensor in (self.data, self.mask, self.index))
        images = {name: image.to(device, **options) for name, image in self.images.items()}
        there = {name: value.to(device, **options) for name, value in self._optional().items()}
        return VolumeBatch(data, mask, index, self.names, self.covariates, images, **there, total=self.total)

    def take(self, rows: Tensor) -> "VolumeBatch":
        """Some of the scans."""
        places = rows.tolist()
        names, covariates = [self.names[i] for i in places], [self.covariates[i] for i in places if self.covariates]
        images = {name: image[rows] for name, image in self.images.items()}
        there = {name: value[rows] for name, value in self._optional().items()}
        return VolumeBatch(self.data[rows], self.mask[rows], self.index[rows], names, covariates, images, **there)

    def _optional(self) -> dict[str, Any]:
        every = {"wanted": self.wanted, "tokens": self.tokens, "token_mask": self.token_mask, "excluded": self.excluded}
        return {name: value for name, value in every.items() if value is not None}

    def __len__(self) -> int:
        return len(self.data)
