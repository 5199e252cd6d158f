"""Super-resolution: fine scans from coarse ones, thick slices included."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from scipy.ndimage import affine_transform
from torch import Tensor

from medmol_diffusion.core.noise import Randomness
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.batch import VolumeBatch
from medmol_diffusion.mri.tasks.task import Task
from medmol_diffusion.mri.transforms import Grid, Prepared, normalise, window
from medmol_diffusion.mri.volume import Volume

ORDERS = {"trilinear": 1, "cubic": 3}
"""Interpolations, by the order of the spline."""
TOLERANCE = 0.1
"""Of the voxel size of a scan, relative to the one that the model was made for."""


class SuperResolution(Task):
    r"""Scans on a fine grid from scans whose voxels are larger by whole numbers $f_a$ along each axis.

    A coarse voxel is the mean of the $f_x \times f_y \times f_z$ fine ones that it covers (a box for a slice profile),
    counted from the first voxel of the scan; the last one takes what is left. Along each axis the given image is
    $U D v$: D the means, U the spline through them at the centres of the coarse voxels, constant beyond the outermost
    centres. A user's coarse scan is interpolated by the same U (Volume.resample) and stretched to the intensities that
    coarse training scans have, for averages do not reach as far as the voxels they are of.

    The guess is the given image, trilinear or cubic: whichever was closer on the training scans.

    Args:
        factor: f, for all axes or for x, y and z of the model's grid: [1, 1, 5] makes slices of 5 mm to 1 mm.

    Raises:
        InputError: not three factors of at least 1, one of them above 1.
    """

    channels = 1
    order: Tensor
    limits: Tensor

    def __init__(self, factor: int | list[int] = 2) -> None:
        super().__init__()
        factors = [factor] * 3 if isinstance(factor, int) else list(factor)
        if len(factors) != 3 or min(factors) < 1 or max(factors) == 1:
            raise InputError(f"factor {factor} must be a number above 1, or one for each of three axes: [1, 1, 5]")
        self.factor = (factors[0], factors[1], factors[2])
        self.register_buffer("order", torch.tensor(3))
        self.register_buffer("limits", torch.tensor([-1.0, 1.0]))
        self._errors = dict.fromkeys(ORDERS.values(), 0.0)
        self._windows: list[tuple[float, float]] = []

    @property
    def guess_name(self) -> str:  # type: ignore[override]
        return next(name for name, order in ORDERS.items() if order == int(self.order))

    def given(self, batch: VolumeBatch, randomness: Randomness) -> Tensor:
        return self.degraded(batch.data, batch.mask, int(self.order))

    def guess(self, images: Tensor, mask: Tensor) -> Tensor:
        return images

    def baselines(self, batch: VolumeBatch, images: Tensor) -> dict[str, Tensor]:
        return {name: self.degraded(batch.data, batch.mask, order) for name, order in ORDERS.items()}

    def fit(self, batch: VolumeBatch, randomness: Randomness) -> None:
        for order in ORDERS.values():
            error = (self.degraded(batch.data, batch.mask, order) - batch.data)[batch.mask]
            self._errors[order] += float(error.double().square().sum())
        coarse = self.degraded(batch.data, batch.mask, int(self.order))[batch.mask]
        self._windows.append(window(coarse.numpy()))

    def fitted(self) -> None:
        self.order.fill_(min(self._errors, key=lambda order: self._errors[order]))
        self.limits.copy_(torch.tensor(self._windows).mean(0))

    def degraded(self, data: Tensor, mask: Tensor, order: int) -> Tensor:
        """U D v of scans [B, 1, X, Y, Z] in the boxes of their counted voxels, cut to [-1, 1]; -1 outside."""
        out = torch.full_like(data, -1.0)
        for new, old, inside in zip(out[:, 0], data[:, 0], mask[:, 0], strict=True):
            places = inside.nonzero()
            box = tuple(slice(a, b + 1) for a, b in zip(places.amin(0).tolist(), places.amax(0).tolist(), strict=True))
            v = old[box]
            for axis, factor in enumerate(self.factor):
                if factor > 1:
                    there_and_back = _there_and_back(v.shape[axis], factor, order).to(v)
                    v = torch.movedim(torch.tensordot(there_and_back, v, dims=([1], [axis])), 0, axis)
            new[box] = v.clamp(-1, 1)
        return out

    def prepare(self, volume: Volume, grid: Grid) -> tuple[Volume, Prepared]:
        """(a coarse scan interpolated to the voxels of the model's grid, whole; the same on that grid).

        Warns of voxels of another size than coarse ones of this model.
        """
        turned = volume.straighten().reorient(grid.orientation)
        assert grid.spacing is not None
        expected = [factor * grid.spacing for factor in self.factor]
        if any(abs(own / size - 1) > TOLERANCE for own, size in zip(turned.spacing, expected, strict=True)):
            name = volume.provenance.get("source", "a scan")
            warnings.warn(
                f"{name} has voxels of {_times(turned.spacing)} mm (along {grid.orientation}), the model makes fine "
                f"scans of {_times(expected)} mm: it can only guess.",
                stacklevel=2,
            )
        fine = grid.align(volume, order=int(self.order))
        (low, high), (least, most) = window(fine.data), self.limits.tolist()
        scale = (high - low) / max(most - least, 1e-6)
        limits = (low - (least + 1) * scale, low + (1 - least) * scale)
        return fine, grid.place(replace(fine, data=normalise(fine.data, *limits)), limits)


@lru_cache(maxsize=256)
def _there_and_back(size: int, factor: int, order: int) -> Tensor:
    """[n, n] float64, U D: means of ``factor`` voxels, then the spline through them."""
    count = -(-size // factor)
    means = np.zeros((count, size))
    for k in range(count):
        part = slice(k * factor, min((k + 1) * factor, size))
        means[k, part] = 1 / (part.stop - part.start)
    # One spline for each coarse voxel: index i of a fine voxel lies at (i + 1/2) / f - 1/2.
    step, offset = np.array([1 / factor, 1.0]), np.array([0.5 / factor - 0.5, 0.0])
    spline = affine_transform(
        np.eye(count), step, offset, (size, count), order=order, mode="nearest", output=np.float64
    )
    return torch.from_numpy(spline @ means)


def _times(sizes: Sequence[float]) -> str:
    return " x ".join(f"{size:.3g}" for size in sizes)
