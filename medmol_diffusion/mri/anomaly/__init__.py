"""Anomaly detection by reconstruction error: restore -> residual -> postprocess -> calibrate -> score."""

from medmol_diffusion.mri.anomaly.detector import AnomalyDetector, Detection, Unserved
from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.method import Answer, Method, Restored
from medmol_diffusion.mri.anomaly.registry import METHODS, method_named
from medmol_diffusion.mri.anomaly.setting import Setting

__all__ = [
    "METHODS",
    "AnomalyDetector",
    "Answer",
    "Detection",
    "Exam",
    "Method",
    "Restored",
    "Setting",
    "Unserved",
    "method_named",
]
