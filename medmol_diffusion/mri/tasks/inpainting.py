"""Inpainting: a region of a scan made anew from what lies round it."""

import numpy as np
import torch
from torch import Tensor

from medmol_diffusion.core.noise import Randomness, uniforms
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.batch import VolumeBatch
from medmol_diffusion.mri.tasks.harmonic import harmonic_fill
from medmol_diffusion.mri.tasks.task import Task


class Inpainting(Task):
    """A region of a scan from the rest of it.

    Given are the scan with its region filled harmonically (harmonic_fill), and the region itself, 1 inside and 0
    outside; the guess is the fill. What is made, and counted in the bound, are the voxels of the region: the state
    lives on the box round it. Where the region does not fill its box, the known voxels in between are states too, whose
    difference from the guess is 0; they are no part of what the bound is of, which stays a bound.

    In training a region is drawn for every scan at every step: a box, or the ellipsoid in it, of sides between
    ``smallest`` and ``largest`` of the scan's own, anywhere inside.

    Args:
        smallest, largest: shares of the scan's sides, above 0 and below 1.

    Raises:
        InputError: shares outside of that, or smallest above largest.
    """

    channels = 2
    guess_name = "harmonic fill"

    def __init__(self, smallest: float = 0.2, largest: float = 0.5) -> None:
        super().__init__()
        if not 0 < smallest <= largest < 1:
            raise InputError(f"smallest = {smallest} and largest = {largest} must lie in (0, 1), the smaller one first")
        self.smallest, self.largest = smallest, largest

    def given(self, batch: VolumeBatch, randomness: Randomness) -> Tensor:
        return self.conceal(batch.data, self.draw(batch.mask, randomness), batch.mask)

    def conceal(self, data: Tensor, region: Tensor, mask: Tensor) -> Tensor:
        """[B, 2, X, Y, Z] what is given of scans [B, 1, X, Y, Z] without their regions (bool, of that shape).

        Raises:
            InputError: a part of a region touches no known voxel.
        """
        filled = [
            torch.from_numpy(harmonic_fill(*(tensor[0].cpu().numpy() for tensor in row)))
            for row in zip(data, region, mask, strict=True)
        ]
        return torch.cat([torch.stack(filled)[:, None].to(data), (region & mask).to(data)], 1)

    def guess(self, images: Tensor, mask: Tensor) -> Tensor:
        return images[:, :1]

    def wanted(self, images: Tensor, mask: Tensor) -> Tensor:
        return images[:, 1:] > 0.5

    def draw(self, mask: Tensor, randomness: Randomness) -> Tensor:
        """bool [B, 1, X, Y, Z], a region within the counted voxels of every scan."""
        numbers = uniforms(len(mask), 7, randomness).cpu().numpy()
        regions = np.zeros(mask.shape, dtype=bool)
        for region, inside, u in zip(regions[:, 0], mask[:, 0].cpu(), numbers, strict=True):
            places = inside.nonzero()
            low = places.amin(0).numpy()
            size = places.amax(0).numpy() + 1 - low
            share = self.smallest + (self.largest - self.smallest) * u[:3]
            side = np.clip(np.rint(share * size), 1, np.maximum(size - 1, 1)).astype(int)
            first = low + np.floor(u[3:6] * (size - side + 1)).astype(int)
            axes = (2 * (np.arange(n) + 0.5) / n - 1 for n in side)
            x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
            shape = np.ones(side, dtype=bool) if u[6] < 0.5 else x**2 + y**2 + z**2 <= 1
            region[tuple(slice(a, a + n) for a, n in zip(first, side, strict=True))] = shape
        return torch.from_numpy(regions).to(mask.device)
