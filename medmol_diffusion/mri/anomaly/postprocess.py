"""What is done to a map before it is shown: speckle and the rim of the brain are taken away."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import binary_erosion, label, median_filter
from torch import Tensor

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly.exam import Exam

TOUCHING = np.ones((3, 3, 3))
"""26 neighbours."""


@dataclass(frozen=True)
class Cleaned:
    """A median filter, then zero outside of what is looked at, eroded, then small components away.

    The rim is where a restored head and the real one miss each other by a fraction of a voxel: high residuals of no
    meaning. As published, a median of 5^3, a rim of 1/25 and components of at least 8 voxels are PUBLISHED: made for
    grids of 1 mm. The default filters with 3^3, since models here work at 2 mm as a rule, where 5^3 would take away
    lesions of up to 8 mm, and drops no component: 3^3 leaves few, and the least lesion that matters is the user's to
    say.

    Attributes:
        median: voxels of the filter along each axis, odd; 1 for none.
        rim: share of the smallest size of the grid that is eroded.
        smallest: voxels of the least component that is kept; 1 keeps all.

    Raises:
        InputError: an even or negative median, a negative rim, or smallest below 1.
    """

    median: int = 3
    rim: float = 1 / 25
    smallest: int = 1

    def __post_init__(self) -> None:
        if self.median < 1 or self.median % 2 == 0 or self.rim < 0 or self.smallest < 1:
            raise InputError(
                f"median = {self.median}, rim = {self.rim}, smallest = {self.smallest}: the median is odd, the rim at "
                "least 0, and smallest at least 1"
            )

    def __call__(self, exam: Exam, maps: Tensor) -> Tensor:
        found = [
            self.clean(map_, inside)
            for map_, inside in zip(maps[:, 0].cpu().numpy(), exam.inside[:, 0].cpu().numpy(), strict=True)
        ]
        return torch.from_numpy(np.stack(found))[:, None].to(maps.device)

    def clean(self, anomaly: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """[X, Y, Z] of one scan."""
        layers = round(min(inside.shape) * self.rim)
        eroded = binary_erosion(inside, iterations=layers) if layers else inside
        smooth = anomaly if self.median == 1 else median_filter(anomaly, size=self.median)
        kept = np.where(eroded, smooth, 0.0).astype(np.float32)
        return kept if self.smallest == 1 else without_small(kept, self.smallest)


CLEANED = Cleaned()
"""What methods do unless they say otherwise."""
PUBLISHED = Cleaned(median=5, smallest=8)
"""As in the papers, on grids of 1 mm."""
UNCLEANED = Cleaned(median=1, rim=0.0)
"""The map as it is, of what is looked at."""
POSTPROCESSES = {"plain": UNCLEANED, "cleaned": CLEANED, "published": PUBLISHED}


def postprocess_named(name: str) -> Cleaned:
    """Raises InputError for a name that is not there."""
    if name not in POSTPROCESSES:
        raise InputError(f"unknown postprocess '{name}': choose one of {', '.join(POSTPROCESSES)}")
    return POSTPROCESSES[name]


def without_small(anomaly: np.ndarray, smallest: int) -> np.ndarray:
    r"""A map [X, Y, Z], 0 at least, none of whose 26-connected components above a threshold has fewer than ``smallest``
    voxels: an area opening (Vincent 1993).

    The threshold is chosen only later, so those are tried that leave $2^{-k/2}$ of the voxels above 0, k = 0, 1, ...
    A voxel comes down to the highest of them at which its component is large enough, or to 0.
    """
    above = np.sort(anomaly[anomaly > 0])
    found, enough = anomaly.copy(), 0.0
    shares = 2.0 ** -np.arange(0, np.log2(max(1, len(above))) + 0.5, 0.5)
    for threshold in np.unique(above[(len(above) * (1 - shares)).astype(int)]) if len(above) else ():
        parts, _ = label(anomaly >= threshold, TOUCHING)
        small = np.bincount(parts.ravel()) < smallest
        small[0] = False  # what lies below
        found = np.where(small[parts], np.minimum(found, enough), found)
        enough = threshold
    return found.astype(anomaly.dtype)
