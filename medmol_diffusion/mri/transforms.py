"""Deterministic preprocessing onto a common grid, and augmentation that an explicit generator makes replayable."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import binary_closing, binary_fill_holes, label
from torch import Tensor

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.volume import Volume

LOWER, UPPER = 0.5, 99.5
"""The percentiles of a scan's intensities that become -1 and 1, unless others are given."""


def window(data: np.ndarray, lower: float = LOWER, upper: float = UPPER) -> tuple[float, float]:
    """The percentiles `lower` and `upper`, in [0, 100], of intensities on any scale: what `normalise` maps to -1 and
    1."""
    low, high = (float(value) for value in np.percentile(data, [lower, upper]))
    if high <= low:  # nearly constant but for a few voxels: the whole range still shows them
        return float(data.min()), float(data.max())
    return low, high


def normalise(data: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map `low` and `high` to -1 and 1, linearly, and clip. float32, the shape of `data`."""
    scaled = 2 * (data.astype(np.float64) - low) / max(high - low, float(np.finfo(np.float32).tiny)) - 1
    return np.clip(scaled, -1, 1).astype(np.float32)


def to_bins(x: np.ndarray, levels: int = 256) -> np.ndarray:
    """x in [-1, 1] to the number k = 0 .. levels - 1 of the nearest bin centre; uint8 up to 256 levels, then uint16."""
    k = np.rint((np.clip(x, -1, 1).astype(np.float64) + 1) / 2 * (levels - 1))
    return k.astype(np.uint8 if levels <= 256 else np.uint16)


def from_bins(k: np.ndarray, levels: int = 256) -> np.ndarray:
    """Bin numbers to bin centres 2 k / (levels - 1) - 1 in float32: the inverse of `to_bins`."""
    return (2 * k.astype(np.float64) / (levels - 1) - 1).astype(np.float32)


def quantise(x: np.ndarray, levels: int = 256) -> np.ndarray:
    """x in [-1, 1] rounded to the nearest of the `levels` bin centres 2 k / (levels - 1) - 1, float32."""
    return from_bins(to_bins(x, levels), levels)


class Classes(NamedTuple):
    """Two classes of values: what parts them, and their means."""

    threshold: float
    below: float
    above: float


def otsu(data: np.ndarray) -> Classes:
    """The two classes whose variances are least together (Otsu 1979, eq. 18), by a histogram of 256 bins. Of values
    that are all alike, all are below."""
    low, high = float(data.min()), float(data.max())
    if low == high:
        return Classes(high, low, high)
    counts, edges = np.histogram(data, bins=256)
    centres = (edges[1:] + edges[:-1]) / 2
    below, sums = np.cumsum(counts)[:-1], np.cumsum(counts * centres)
    above = counts.sum() - below  # the first and the last bin are never empty, so neither is a class
    lower, upper = sums[:-1] / below, (sums[-1] - sums[:-1]) / above
    best = int(np.argmax(below * above * (lower - upper) ** 2))
    return Classes(float(edges[best + 1]), float(lower[best]), float(upper[best]))


def foreground_mask(data: np.ndarray) -> np.ndarray:
    """The head, without the air round it: thresholded, the largest component, holes filled. bool (X, Y, Z)."""
    _, air, tissue = otsu(data)
    # A quarter of the way from air to tissue: half-way, as Otsu has it, dark skull and CSF would go to the air.
    parts, _ = label(data > air + (tissue - air) / 4)
    largest = parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1
    return binary_fill_holes(binary_closing(largest, iterations=2) | largest)


def flip(data: Tensor, mask: Tensor, axes: Sequence[int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mirror data and mask (..., X, Y, Z) alike along each of `axes` (0, 1, 2), each with probability 1/2."""
    coins = (torch.rand(len(axes), generator=generator) < 0.5).tolist()
    chosen = [axis - 3 for axis, coin in zip(axes, coins, strict=True) if coin]
    return data.flip(chosen), mask.flip(chosen)


def shift(data: Tensor, mask: Tensor, voxels: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Move (..., X, Y, Z) by up to `voxels` along each axis; what moves in is padding: data -1, mask False."""
    offsets = torch.randint(-voxels, voxels + 1, (3,), generator=generator).tolist()
    for axis, offset in zip((-3, -2, -1), offsets, strict=True):
        data, mask = data.roll(offset, axis), mask.roll(offset, axis)
        entered = (0, offset) if offset >= 0 else (data.shape[axis] + offset, -offset)
        data.narrow(axis, *entered).fill_(-1.0)
        mask.narrow(axis, *entered).fill_(False)
    return data, mask


def bend(data: Tensor, amount: float, levels: int, generator: torch.Generator) -> Tensor:
    r"""Bend intensities by a power law and put them back on the bin centres.

    With u = (x + 1) / 2 in [0, 1]: u -> u^p, ln p uniform in [-amount, amount]; -1 and 1 stay.
    """
    power = ((2 * torch.rand((), generator=generator) - 1) * amount).exp()
    return torch.round(((data + 1) / 2).clamp(0, 1) ** power * (levels - 1)) * (2 / (levels - 1)) - 1


@dataclass(frozen=True)
class Prepared:
    """A scan on the common grid: `volume` on bin centres; `box` (3, 2), first and one past the last voxel along each
    axis that are the scan's own; `cropped`, whether some of its voxels fell off the grid; `window`, the intensities of
    the scan that became -1 and 1."""

    volume: Volume
    box: np.ndarray
    cropped: bool
    window: tuple[float, float]

    @property
    def mask(self) -> np.ndarray:
        """bool (X, Y, Z), the voxels that are not padding."""
        mask = np.zeros(self.volume.shape, dtype=bool)
        mask[tuple(slice(start, stop) for start, stop in self.box)] = True
        return mask

    def intensities(self, x: np.ndarray) -> np.ndarray:
        """Values in [-1, 1] in the scan's own units, float32: undoes the normalisation."""
        low, high = self.window
        return (low + (x.astype(np.float64) + 1) / 2 * (high - low)).astype(np.float32)


@dataclass(frozen=True)
class Grid:
    """The common grid that every scan is put on, for training as for detection.

    Attributes:
        shape: voxels along each axis.
        spacing: millimetres between voxels; None keeps each scan's own.
        orientation: where the axes point to.
        levels: number of intensity bins.
        upper: the percentile in (0.5, 100] of a scan's intensities that becomes 1; all above it are 1 too.
    """

    shape: tuple[int, int, int]
    spacing: float | None = None
    orientation: str = "RAS"
    levels: int = 256
    upper: float = UPPER

    def prepare(self, volume: Volume) -> Prepared:
        """Straighten, reorient, resample, normalise to [-1, 1] by the percentiles LOWER and `upper`, round to bins,
        crop or pad with -1.

        Any map on the prepared grid goes back to the scan's own by `map.resample(like=volume)`.
        """
        volume = self.align(volume)
        limits = window(volume.data, upper=self.upper)
        return self.place(replace(volume, data=quantise(normalise(volume.data, *limits), self.levels)), limits)

    def align(self, volume: Volume, order: int = 1) -> Volume:
        """Straighten, reorient and resample by a spline of this order."""
        volume = volume.straighten().reorient(self.orientation)
        return volume if self.spacing is None else volume.resample(self.spacing, order=order)

    def place(self, volume: Volume, limits: tuple[float, float]) -> Prepared:
        """Crop or pad with -1 what is aligned and normalised; ``limits`` are the intensities that became -1 and 1."""
        prepared = volume.crop_or_pad(self.shape, value=-1.0)
        sizes = list(zip(self.shape, volume.shape, strict=True))
        box = [(start := max(0, (new - old) // 2), start + min(new, old)) for new, old in sizes]
        return Prepared(prepared, np.array(box), any(old > new for new, old in sizes), limits)

    def beside(self, volume: Volume, prepared: Prepared) -> np.ndarray:
        """Another scan of the same head on the grid of a prepared one, [X, Y, Z] on bin centres: interpolated where
        the affines say, normalised by percentiles of its own; -1 where it has no voxel, and at padding."""
        limits = window(self.align(volume).data, upper=self.upper)
        moved = volume.resample(like=prepared.volume, value=limits[0]).data
        return np.where(prepared.mask, quantise(normalise(moved, *limits), self.levels), np.float32(-1))

    def check_shape(self, data: Tensor) -> None:
        """Raises InputError unless the scans ``data`` [..., X, Y, Z] have the voxels of this grid, a model's."""
        if tuple(data.shape[-3:]) != self.shape:
            raise InputError(
                f"scans of {list(data.shape[-3:])} voxels do not fit a model of {list(self.shape)}: "
                "give data.shape and model.model.shape the same sizes"
            )


def common_grid(volumes: Sequence[Volume]) -> Grid:
    """The smallest RAS grid that holds all the scans: at their own spacing if they share it, else at the median one."""
    turned = [volume.straighten().reorient() for volume in volumes]
    return grid_holding([volume.shape for volume in turned], [volume.spacing for volume in turned])


def grid_holding(shapes: Sequence[Sequence[int]], own: Sequence[Sequence[float]]) -> Grid:
    """The smallest RAS grid that holds scans of these voxels and spacings, in RAS: `common_grid` without the scans."""
    spacings = np.array(own)
    shared = bool(np.allclose(spacings, spacings[0], rtol=0.01))
    spacing = None if shared else round(float(np.median(spacings)), 3)
    sizes = np.array(shapes)
    if spacing is not None:
        sizes = np.ceil(sizes * spacings / spacing - 1e-3).astype(int)
    x, y, z = sizes.max(0).tolist()
    return Grid((x, y, z), spacing)


@dataclass(frozen=True)
class Augmentation:
    """Random changes of a training scan, drawn anew each epoch and the same again for the same seed.

    Attributes:
        flip: axes to mirror, each with probability 1/2.
        shift: largest displacement along each axis, in voxels.
        bend: largest |ln p| of the power law on intensities.
        seed: of all draws.
    """

    flip: tuple[int, ...] = ()
    shift: int = 0
    bend: float = 0.0
    seed: int = 0

    def __call__(self, data: Tensor, mask: Tensor, levels: int, epoch: int, index: int) -> tuple[Tensor, Tensor]:
        """Change a scan (1 + K, X, Y, Z) and the K images that were made with it: all are moved alike. With images,
        theirs are the contrasts that bend, each apart: what is to be made of them must follow from them."""
        # Seeded by example and epoch: the draw does not depend on batch size, workers or ranks.
        digest = hashlib.sha256(f"{self.seed}:{epoch}:{index}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        data, mask = flip(data, mask, self.flip, generator)
        if self.bend:
            first, images = data[:1], data[1:]
            bent = [bend(image, self.bend, levels, generator) for image in (images if len(images) else first)]
            data = torch.cat([first, torch.stack(bent)]) if len(images) else torch.stack(bent)
        if self.shift:
            data, mask = shift(data, mask, self.shift, generator)
        return data, mask


def flip_axes(flip: bool | list[int]) -> tuple[int, ...]:
    """The axes that data.flip names.

    Raises:
        InputError: there is no such axis.
    """
    axes = ((0,) if flip else ()) if isinstance(flip, bool) else tuple(flip)
    if not set(axes) <= {0, 1, 2}:
        raise InputError(f"data.flip names axes 0, 1 and 2, not {list(axes)}.")
    return axes
