"""A network on windows of a grid that is too big for it."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from medmol_diffusion.core.noise import Randomness, uniforms
from medmol_diffusion.mri.tiles import blended

Network = Callable[[Tensor], Tensor]
"""[B, C, *size] -> [B, C', *size]."""


class Windows:
    """Windows of one size on a grid: drawn for training, slid over the whole for everything else.

    Slid, they are spaced evenly, neighbours share at least ``overlap`` of their width, and a place that several see
    takes the mean of what they say, weighted by a tent that falls towards a window's border, where it sees least of
    what is round a place. A denoiser made so is one like any other: the bound and the samples are those of the whole
    scan.

    Args:
        size: places of a window along each axis.
        overlap: the share of a window's width that neighbours share, in [0, 1).
    """

    def __init__(self, size: Sequence[int], overlap: float) -> None:
        self.size, self.overlap = tuple(size), overlap

    def draw(self, count: int, grid: Sequence[int], generator: Randomness) -> Tensor:
        """(count, 3) int64 corners, each place of the grid in which a window fits equally likely."""
        room = torch.tensor([n - s + 1 for n, s in zip(grid, self._cut(grid), strict=True)])
        return (uniforms(count, len(room), generator).cpu() * room).long()

    def inside(self, corners: Tensor, grid: Sequence[int]) -> Tensor:
        """(B, 1, *grid) bool, the places of one window in each example."""
        out = torch.zeros(len(corners), 1, *grid, dtype=torch.bool, device=corners.device)
        for mask, corner in zip(out, corners.tolist(), strict=True):
            mask[self._box(corner, grid)] = True
        return out

    def one(self, network: Network, x: Tensor, corners: Tensor) -> Tensor:
        """The network's answer to one window in each of x (B, C, *grid), zero elsewhere."""
        grid = x.shape[2:]
        boxes = [self._box(corner, grid) for corner in corners.tolist()]
        answer = network(torch.stack([example[box] for example, box in zip(x, boxes, strict=True)]))
        return torch.stack([_placed(found, box, grid) for found, box in zip(answer, boxes, strict=True)])

    def slide(self, network: Network, x: Tensor) -> Tensor:
        """The network's answer to x (B, C, *grid), window by window."""
        size = self._cut(x.shape[2:])
        starts = [self._starts(n, s) for n, s in zip(x.shape[2:], size, strict=True)]
        return blended(network, x, starts, size, _tent)

    def _cut(self, grid: Sequence[int]) -> list[int]:
        """A window's size, no wider than the grid."""
        return [min(s, n) for s, n in zip(self.size, grid, strict=True)]

    def _box(self, corner: Sequence[int], grid: Sequence[int]) -> tuple[slice, ...]:
        """Of (C, *grid)."""
        return slice(None), *(slice(c, c + s) for c, s in zip(corner, self._cut(grid), strict=True))

    def _starts(self, places: int, size: int) -> list[int]:
        """Where the windows begin along an axis."""
        stride = max(1.0, size * (1 - self.overlap))
        count = 1 + math.ceil((places - size) / stride)
        return torch.linspace(0, places - size, count).round().long().tolist()


def _tent(size: int, ratio: float) -> Tensor:
    """[size] rising by one a place to the middle, and falling again."""
    rise = torch.arange(1, size + 1)
    return torch.minimum(rise, rise.flip(0))


def _placed(part: Tensor, box: tuple[slice, ...], grid: Sequence[int]) -> Tensor:
    """A part (C, *size) where it lies on the grid, zero elsewhere."""
    sides = [(one.start, n - one.stop) for one, n in zip(box[1:], grid, strict=True)]
    return F.pad(part, [pad for side in reversed(sides) for pad in side])


def positions(grid: Sequence[int], like: Tensor) -> Tensor:
    """(3, *grid) where every place lies: -1 at the low end of each axis, 1 at the high one."""
    axes = [torch.linspace(-1, 1, n, dtype=like.dtype, device=like.device) for n in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))
