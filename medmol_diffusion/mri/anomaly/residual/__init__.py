"""How far a scan and its healthy version are apart, voxel by voxel: (setting, exam, restored) -> (B, 1, X, Y, Z), never
below 0."""

from medmol_diffusion.mri.anomaly.residual.distance import bright, dark, l1, l2
from medmol_diffusion.mri.anomaly.residual.elbo import BoundMap
from medmol_diffusion.mri.anomaly.residual.gradient import Gradient
from medmol_diffusion.mri.anomaly.residual.perceptual import Features, Perceptual
from medmol_diffusion.mri.anomaly.residual.relative import Relative
from medmol_diffusion.mri.anomaly.residual.structure import structure

__all__ = ["BoundMap", "Features", "Gradient", "Perceptual", "Relative", "bright", "dark", "l1", "l2", "structure"]
