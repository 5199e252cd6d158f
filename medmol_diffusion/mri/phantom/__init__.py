"""Procedural heads: anatomy drawn from a seed, painted at any resolution in any contrast, with or without lesions."""

from medmol_diffusion.mri.phantom.canvas import LABEL, SIGNAL, TISSUES
from medmol_diffusion.mri.phantom.frame import FIELD_OF_VIEW, Frame
from medmol_diffusion.mri.phantom.head import lateral_ventricles
from medmol_diffusion.mri.phantom.lesions import KINDS, LesionKind
from medmol_diffusion.mri.phantom.phantom import Contrast, Phantom, head_phantom

__all__ = [
    "FIELD_OF_VIEW",
    "KINDS",
    "LABEL",
    "SIGNAL",
    "TISSUES",
    "Contrast",
    "Frame",
    "LesionKind",
    "Phantom",
    "head_phantom",
    "lateral_ventricles",
]
