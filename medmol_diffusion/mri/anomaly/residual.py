"""How far a scan and its healthy version are apart, voxel by voxel."""

from torch import Tensor

from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.setting import Setting


def l1(setting: Setting, exam: Exam, restored: Tensor) -> Tensor:
    """|v - r|, in the model's units, where the range of intensities is 2."""
    return (exam.data - restored).abs()


def l2(setting: Setting, exam: Exam, restored: Tensor) -> Tensor:
    """(v - r)^2."""
    return (exam.data - restored).square()
