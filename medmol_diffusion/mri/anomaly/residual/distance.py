"""The difference of intensities, and one side of it."""

from torch import Tensor

from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.setting import Setting


def l1(setting: Setting, exam: Exam, restored: Tensor) -> Tensor:
    """|v - r|, in the model's units, where the range of intensities is 2."""
    return (exam.data - restored).abs()


def l2(setting: Setting, exam: Exam, restored: Tensor) -> Tensor:
    """(v - r)^2."""
    return (exam.data - restored).square()


def bright(setting: Setting, exam: Exam, restored: Tensor) -> Tensor:
    """max(v - r, 0): only what is brighter than it should be, as lesions of white matter are on FLAIR (Baur et al.
    2021)."""
    return (exam.data - restored).clamp(min=0)


def dark(setting: Setting, exam: Exam, restored: Tensor) -> Tensor:
    """max(r - v, 0): only what is darker, as lesions are on T1w."""
    return (restored - exam.data).clamp(min=0)
