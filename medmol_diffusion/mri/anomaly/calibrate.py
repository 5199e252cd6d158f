"""What the threshold of a map is: that of healthy scans, or one of the map's own."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medmol_diffusion.mri.transforms import otsu


@dataclass(frozen=True)
class Calibrate:
    """(voxels, quantile) -> the threshold.

    Attributes:
        rule: of the voxels that are looked at, [n], and the quantile that a detector is fitted with.
        own: whether it is asked of every map's own voxels, which takes no healthy scan and sees no truth; else of
            those of all healthy scans together, once.
    """

    rule: Callable[[np.ndarray, float], float]
    own: bool = False


def quantile(voxels: np.ndarray, share: float) -> float:
    """What this share of the voxels stays below."""
    return float(np.quantile(voxels, share))


def otsu_of_map(voxels: np.ndarray, share: float) -> float:
    """Otsu's (1979) of a map: what parts its voxels into the two classes that vary least, whatever the share. There
    always are two, so that something is flagged in every head."""
    return otsu(voxels).threshold


QUANTILE = Calibrate(quantile)
"""What methods do unless they say otherwise."""
OTSU = Calibrate(otsu_of_map, own=True)
"""As Wolleb et al. 2022 have it for counterfactuals."""
