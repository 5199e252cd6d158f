"""Brain MRI: 3-D diffusion, from scans to scores."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from medmol_diffusion.extras import need

need("mri", "medmol_diffusion.mri")

from medmol_diffusion.mri.anomaly import METHODS, AnomalyDetector, Detection
from medmol_diffusion.mri.autoencoder import Autoencoder
from medmol_diffusion.mri.batch import VolumeBatch
from medmol_diffusion.mri.first_stages.haar_stage import HaarStage
from medmol_diffusion.mri.first_stages.identity_stage import IdentityStage
from medmol_diffusion.mri.first_stages.kl_stage import KLStage
from medmol_diffusion.mri.gan import GAN
from medmol_diffusion.mri.model import VolumeDiffusion
from medmol_diffusion.mri.monai_model import MonaiDiffusion
from medmol_diffusion.mri.monai_schedule import MonaiSchedule
from medmol_diffusion.mri.tasks.inpainting import Inpainting
from medmol_diffusion.mri.tasks.super_resolution import SuperResolution
from medmol_diffusion.mri.tasks.translation import Translation
from medmol_diffusion.mri.unet import UNet3D
from medmol_diffusion.mri.volume import Volume

if TYPE_CHECKING:
    from medmol_diffusion.mri.data import VolumeData
    from medmol_diffusion.mri.phantom_data import PhantomData

__all__ = [
    "GAN",
    "METHODS",
    "AnomalyDetector",
    "Autoencoder",
    "Detection",
    "HaarStage",
    "IdentityStage",
    "Inpainting",
    "KLStage",
    "MonaiDiffusion",
    "MonaiSchedule",
    "PhantomData",
    "SuperResolution",
    "Translation",
    "UNet3D",
    "Volume",
    "VolumeBatch",
    "VolumeData",
    "VolumeDiffusion",
]

_LATER = {"PhantomData": "phantom_data", "VolumeData": "data"}
"""What is loaded when somebody asks for it, and where it lies: data alone need Lightning."""


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
