"""black: the baseline whose healthy version is nothing, so that the map is the intensity."""

from dataclasses import dataclass

import torch

from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.method import Restored
from medmol_diffusion.mri.anomaly.setting import Setting


@dataclass(frozen=True)
class Black:
    """Every voxel as dark as can be: |v - r| is the intensity, and a threshold on it the oldest detector of lesions
    that are bright, hard to beat on FLAIR (Meissen et al. 2021).

    Attributes:
        value: of every voxel; -1, or 1 for lesions that are dark.
    """

    value: float = -1.0

    def __call__(self, setting: Setting, exam: Exam) -> Restored:
        return Restored(torch.full_like(exam.data, self.value))
