"""The map of structural similarity."""

from torch import Tensor

from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.residual.padding import padded_alike
from medmol_diffusion.mri.anomaly.setting import Setting
from medmol_diffusion.mri.ssim import ssim_map


def structure(setting: Setting, exam: Exam, restored: Tensor) -> Tensor:
    """1 - SSIM, in [0, 2] (Wang et al. 2004, eq. 13; as a residual, Bergmann et al. 2019 and Behrendt et al. 2024).

    Gaussian windows of 7^3 voxels, sigma 1.5, which also see a changed texture where no intensity has changed much.
    """
    made = padded_alike(exam, restored)
    return (1 - ssim_map(exam.data[:, 0].cpu(), made[:, 0].cpu())).clamp(min=0)[:, None].to(restored.device)
