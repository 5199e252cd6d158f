"""Brain MRI: 3-D diffusion, from scans to scores."""

from medmol_diffusion.mri.anomaly import METHODS, AnomalyDetector, Detection
from medmol_diffusion.mri.data import PhantomData, VolumeBatch, VolumeData
from medmol_diffusion.mri.first_stage import Haar
from medmol_diffusion.mri.model import VolumeDiffusion
from medmol_diffusion.mri.monai_model import MonaiDiffusion
from medmol_diffusion.mri.monai_schedule import MonaiSchedule
from medmol_diffusion.mri.unet import UNet3D
from medmol_diffusion.mri.volume import Volume

__all__ = [
    "METHODS",
    "AnomalyDetector",
    "Detection",
    "Haar",
    "MonaiDiffusion",
    "MonaiSchedule",
    "PhantomData",
    "UNet3D",
    "Volume",
    "VolumeBatch",
    "VolumeData",
    "VolumeDiffusion",
]
