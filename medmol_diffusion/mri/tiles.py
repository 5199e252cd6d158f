"""A function of volumes, applied to overlapping cubes and blended: what it needs at a time no longer grows with the
scan."""

from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch import Tensor


def in_tiles(function: Callable[[Tensor], Tensor], x: Tensor, tile: int, overlap: int) -> Tensor:
    """``function`` [B, C, x, y, z] -> [B, K, r x, r y, r z], for one ratio r, of the whole of ``x`` from its cubes.

    A cube's weight falls linearly towards its faces over ``overlap``, so that neighbours fade into each other. Far from
    all faces the result is the function's own, if it looks no farther than that; group normalisation does, and makes
    cubes differ a little.

    Args:
        tile: sides of a cube, in places of x; those of a smaller x are its own.
        overlap: of neighbours; the last cube ends where x ends and may overlap more.
    """
    sizes = x.shape[2:]
    sides = [min(tile, size) for size in sizes]
    if sides == list(sizes):
        return function(x)
    starts = [_starts(size, side, side - overlap) for size, side in zip(sizes, sides, strict=True)]
    return blended(function, x, starts, sides, lambda size, ratio: _ramp(size, overlap * ratio))


def blended(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    starts: Sequence[Sequence[int]],
    sides: Sequence[int],
    ramp: Callable[[int, float], Tensor],
) -> Tensor:
    """``function`` of the boxes of ``x``, each place the weighted mean of what the boxes that hold it say.

    Args:
        function: [B, C, x, y, z] -> [B, K, r x, r y, r z], for one ratio r.
        x: [B, C, X, Y, Z].
        starts: of each axis, where its boxes begin.
        sides: of a box.
        ramp: (side of an answer, r) -> its weights along an axis.
    """
    total, weights = x.new_zeros(0), x.new_zeros(0)
    for corner in product(*starts):
        a, b, c = (slice(at, at + side) for at, side in zip(corner, sides, strict=True))
        found = function(x[:, :, a, b, c].contiguous())
        ratio = found.shape[2] / sides[0]
        if not len(total):
            whole = [round(size * ratio) for size in x.shape[2:]]
            total = found.new_zeros(*found.shape[:2], *whole)
            weights = found.new_zeros(whole)
        ramps = [ramp(found.shape[2 + axis], ratio).to(found) for axis in range(3)]
        weight = ramps[0][:, None, None] * ramps[1][:, None] * ramps[2]
        a, b, c = (slice(round(box.start * ratio), round(box.stop * ratio)) for box in (a, b, c))
        total[:, :, a, b, c] += found * weight
        weights[a, b, c] += weight
    return total / weights


def _starts(size: int, side: int, step: int) -> list[int]:
    return [*range(0, size - side, max(1, step)), size - side]


def _ramp(size: int, overlap: float) -> Tensor:
    """[size] rising from near 0 to 1 over the overlap, and falling again."""
    place = torch.arange(size, dtype=torch.float64) + 0.5
    return (torch.minimum(place, size - place) / max(overlap, 1.0)).clamp(max=1)
