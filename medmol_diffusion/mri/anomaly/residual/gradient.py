"""Edges that only one of the two has, at several scales."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_gradient_magnitude
from torch import Tensor

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.residual.padding import padded_alike
from medmol_diffusion.mri.anomaly.setting import Setting


@dataclass(frozen=True)
class Gradient:
    r"""The mean over scales s of $s \, \big| |\nabla G_s * v| - |\nabla G_s * r| \big|$.

    $\nabla G_s *$ are derivatives of a Gaussian of s voxels; the factor s makes the edges of one contrast count alike
    at every scale (Lindeberg 1998). A constant that is added to a scan changes nothing.

    Attributes:
        scales: s, in voxels.

    Raises:
        InputError: no scale, or one that is not above 0.
    """

    scales: tuple[float, ...] = (1.0, 2.0, 4.0)

    def __post_init__(self) -> None:
        if not self.scales or min(self.scales) <= 0:
            raise InputError(f"scales = {self.scales} of a gradient must be one or more numbers of voxels above 0")

    def __call__(self, setting: Setting, exam: Exam, restored: Tensor) -> Tensor:
        made = padded_alike(exam, restored)
        pairs = zip(exam.data[:, 0].cpu().numpy(), made[:, 0].cpu().numpy(), strict=True)
        return torch.from_numpy(np.stack([self.between(v, r) for v, r in pairs]))[:, None].to(restored.device)

    def between(self, v: np.ndarray, r: np.ndarray) -> np.ndarray:
        """[X, Y, Z] of one scan and its healthy version."""
        found = [s * np.abs(self._edges(v, s) - self._edges(r, s)) for s in self.scales]
        return np.mean(found, axis=0).astype(np.float32)

    def _edges(self, v: np.ndarray, scale: float) -> np.ndarray:
        return gaussian_gradient_magnitude(v, scale, mode="nearest")
