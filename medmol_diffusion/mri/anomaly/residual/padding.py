"""Residuals that look at a neighbourhood: what they see beyond the scan's own voxels."""

import torch
from torch import Tensor

from medmol_diffusion.mri.anomaly.exam import Exam


def padded_alike(exam: Exam, restored: Tensor) -> Tensor:
    """The healthy versions with the scans' own padding: what a model says of voxels that are not there is no
    difference between the two."""
    return torch.where(exam.batch.mask, restored, exam.data)
