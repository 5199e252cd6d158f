"""smoothing: the baseline whose healthy version is a blur."""

from dataclasses import dataclass

import torch
from torch import Tensor

from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.method import Restored
from medmol_diffusion.mri.anomaly.setting import Setting


@dataclass(frozen=True)
class Smoothing:
    """A Gaussian blur of ``sigma`` voxels, normalised so that no padding bleeds in."""

    sigma: float = 2.0

    def __call__(self, setting: Setting, exam: Exam) -> Restored:
        counted = exam.batch.mask.to(exam.data)
        return Restored(self.blur(exam.data * counted) / self.blur(counted).clamp(min=1e-6))

    def blur(self, v: Tensor) -> Tensor:
        """(B, 1, X, Y, Z), zero beyond the grid."""
        radius = int(3 * self.sigma)
        kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=v.device) / self.sigma) ** 2)
        for shape in ((1, 1, -1, 1, 1), (1, 1, 1, -1, 1), (1, 1, 1, 1, -1)):
            padding = tuple(radius if size == -1 else 0 for size in shape[2:])
            v = torch.nn.functional.conv3d(v, kernel.to(v).reshape(shape), padding=padding)
        return v
