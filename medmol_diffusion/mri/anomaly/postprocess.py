"""What is done to a map before it is shown: speckle and the rim of the brain are taken away."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import binary_erosion, median_filter
from torch import Tensor

from medmol_diffusion.mri.anomaly.exam import Exam


@dataclass(frozen=True)
class Cleaned:
    """A median filter, then zero outside of what is looked at, eroded.

    Attributes:
        median: voxels of the filter along each axis; 1 for none.
        rim: share of the smallest size of the grid that is eroded.
    """

    median: int = 3
    rim: float = 1 / 25

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
        return np.where(eroded, smooth, 0.0).astype(np.float32)


CLEANED = Cleaned()
"""What methods do unless they say otherwise."""
