"""The region of a scan that is generated anew, and what is known on the model's grid beside it."""

from dataclasses import replace

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.transforms import Prepared
from medmol_diffusion.mri.volume import Volume

NEGLIGIBLE = 1e-6
"""A weight that comes of rounding when a grid is mapped to itself, not of interpolation."""


def known_voxels(volume: Volume, region: np.ndarray, prepared: Prepared) -> np.ndarray:
    """bool [X, Y, Z] on the model's grid: the counted voxels to which no voxel of the region contributes.

    Args:
        volume: a scan.
        region: bool, of its shape: what is to be generated.
        prepared: the scan on the model's grid.

    Raises:
        InputError: the region is of another shape or type, empty, of the whole scan, or beyond the model's grid.
    """
    name = volume.provenance.get("source", "a scan")
    if region.dtype != bool or region.shape != volume.shape:
        raise InputError(
            f"the region of {name} is {region.dtype} of shape {region.shape}: give bool of the scan's shape "
            f"{volume.shape}"
        )
    if not region.any():
        raise InputError(f"the region of {name} marks no voxel to be generated: mark some")
    covered = replace(prepared.volume, data=prepared.mask).resample(like=volume, order=0).data > 0.5
    if outside := int((region & ~covered).sum()):
        raise InputError(
            f"{outside} voxels of the region of {name} lie beyond the model's grid of {list(prepared.volume.shape)}: "
            "crop the scan about the region first"
        )
    weight = replace(volume, data=region).resample(like=prepared.volume).data
    known = prepared.mask & (weight < NEGLIGIBLE)
    if not known.any():
        raise InputError(f"the region of {name} is the whole scan: leave some of it as it is, or sample freely")
    return known
