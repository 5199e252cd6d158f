"""Brain MRI: 3-D diffusion in the Haar domain, from scans to scores."""

from medmol_diffusion.mri.data import PhantomData, VolumeBatch, VolumeData
from medmol_diffusion.mri.model import VolumeDiffusion
from medmol_diffusion.mri.unet import UNet3D
from medmol_diffusion.mri.volume import Volume
