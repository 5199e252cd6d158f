"""Where a made scan lies: its size among those of the training scans, its place in the scanner's millimetres."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from medmol_diffusion.core import Streams
from medmol_diffusion.mri.transforms import Grid
from medmol_diffusion.mri.volume import Volume

EXTENTS = 64
"""How many sizes of training scans a model remembers; samples draw theirs from them."""


def training_extents(masks: Iterable[Tensor]) -> Tensor:
    """[EXTENTS, 3] the sizes of the boxes that masks [X, Y, Z] fill, from the least voxels to the most, evenly
    chosen."""
    sizes = torch.stack([_extent(mask) for mask in masks])
    sizes = sizes[sizes.prod(1).argsort()]
    return sizes[torch.linspace(0, len(sizes) - 1, EXTENTS).round().long()]


def drawn_extents(extents: Tensor, streams: Streams) -> list[list[int]]:
    """One of the sizes for each stream."""
    chosen: list[list[int]] = extents.cpu()[(streams.uniform() * EXTENTS).long()].tolist()
    return chosen


def on_grid(grid: Grid, data: np.ndarray, provenance: dict[str, str]) -> Volume:
    """[X, Y, Z] as a scan on a model's grid, its centre at the origin of the scanner's millimetres."""
    affine = np.diag([grid.spacing or 1.0] * 3 + [1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(grid.shape) - 1) / 2)
    return Volume(data.astype(np.float32), affine, provenance)


def _extent(mask: Tensor) -> Tensor:
    """[3] the sides of the box that a mask [X, Y, Z] fills."""
    places = mask.nonzero()
    return places.amax(0) - places.amin(0) + 1
