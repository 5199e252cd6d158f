"""Anomaly methods held against lesion masks: thresholds come from healthy scans, intervals from subjects."""

from medmol_diffusion.mri.anomaly.evaluation.case import Case, set_aside
from medmol_diffusion.mri.anomaly.evaluation.cost import Cost, Meter
from medmol_diffusion.mri.anomaly.evaluation.evaluator import BASELINES, Evaluation, Evaluator
from medmol_diffusion.mri.anomaly.evaluation.figures import FIGURES, SIZES, Figures
from medmol_diffusion.mri.anomaly.evaluation.lesions import Lesions
from medmol_diffusion.mri.anomaly.evaluation.ranking import Ranking
from medmol_diffusion.mri.anomaly.evaluation.report import protocol_of, tables_of, write_subjects
from medmol_diffusion.mri.anomaly.evaluation.subject import Measured, Subject

__all__ = [
    "BASELINES",
    "FIGURES",
    "SIZES",
    "Case",
    "Cost",
    "Evaluation",
    "Evaluator",
    "Figures",
    "Lesions",
    "Measured",
    "Meter",
    "Ranking",
    "Subject",
    "protocol_of",
    "set_aside",
    "tables_of",
    "write_subjects",
]
