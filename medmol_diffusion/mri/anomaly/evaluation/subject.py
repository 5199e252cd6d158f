"""What a method found in the scans of one subject."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from medmol_diffusion.mri.anomaly.detector import Detection
from medmol_diffusion.mri.anomaly.evaluation.case import Case
from medmol_diffusion.mri.anomaly.evaluation.lesions import Lesions
from medmol_diffusion.mri.anomaly.evaluation.ranking import Ranking


@dataclass(frozen=True)
class Measured:
    """One scan.

    Attributes:
        case: the scan.
        scores, truth: (n,) of the voxels that are looked at.
        flagged: (n,) bool, those above the threshold.
        lesions: of the flagged and the true voxels that are looked at.
        voxel_ml: the size of a voxel.
        score, percentile: of the scan.
    """

    case: Case
    scores: np.ndarray
    truth: np.ndarray
    flagged: np.ndarray
    lesions: Lesions
    voxel_ml: float
    score: float
    percentile: float

    @classmethod
    def of(cls, case: Case, found: Detection, overlap: float) -> "Measured":
        """Of a fitted detector's answer."""
        truth, flagged, inside = case.truth, found.flagged, found.inside
        voxel_ml = abs(float(np.linalg.det(case.scan.affine[:3, :3]))) / 1000
        lesions = Lesions.of(flagged, truth & inside, overlap)
        percentile = np.nan if found.percentile is None else found.percentile
        return cls(
            *(case, found.map.data[inside], truth[inside], flagged[inside], lesions, voxel_ml, found.score, percentile)
        )


@dataclass(frozen=True)
class Subject:
    """The scans of one subject together. NaN stands for what does not exist, such as the Dice of no lesion.

    Attributes:
        subject: whose they are.
        scans: how many.
        sick: whether any has a lesion.
        lesion_ml: volume of the true lesions that is looked at.
        outside_ml: volume of them that is not, which no method can find.
        flagged_ml, overlap_ml: volume above the threshold, and of it in lesions.
        lesions, found, false: numbers of true lesions, of those found, of flagged pieces that touch none.
        auroc, auprc, dice, best_dice: of the subject's voxels.
        score, percentile: of the scan, the mean of several.
        lesion_sizes: ml of each true lesion. lesions_found: whether it was.
    """

    subject: str
    scans: int
    sick: bool
    lesion_ml: float
    outside_ml: float
    flagged_ml: float
    overlap_ml: float
    lesions: int
    found: int
    false: int
    auroc: float
    auprc: float
    dice: float
    best_dice: float
    score: float
    percentile: float
    lesion_sizes: np.ndarray
    lesions_found: np.ndarray

    @classmethod
    def of(cls, scans: Sequence[Measured]) -> "Subject":
        """Of the scans of one subject."""
        truth_ml = sum(one.case.truth.sum() * one.voxel_ml for one in scans)
        lesion_ml, flagged_ml, overlap_ml = (
            float(sum(np.count_nonzero(of(one)) * one.voxel_ml for one in scans))
            for of in (lambda m: m.truth, lambda m: m.flagged, lambda m: m.truth & m.flagged)
        )
        found = np.concatenate([one.lesions.found for one in scans])
        ranking, once = Ranking.of([one.scores for one in scans], [one.truth for one in scans]), np.ones(len(scans))
        return cls(
            subject=scans[0].case.subject,
            scans=len(scans),
            sick=bool(truth_ml > 0),
            lesion_ml=lesion_ml,
            outside_ml=float(truth_ml) - lesion_ml,
            flagged_ml=flagged_ml,
            overlap_ml=overlap_ml,
            lesions=len(found),
            found=int(found.sum()),
            false=sum(one.lesions.false for one in scans),
            auroc=ranking.auroc(once),
            auprc=ranking.auprc(once),
            dice=2 * overlap_ml / (lesion_ml + flagged_ml) if lesion_ml else float("nan"),
            best_dice=ranking.best_dice(once),
            score=float(np.mean([one.score for one in scans])),
            percentile=float(np.mean([one.percentile for one in scans])),
            lesion_sizes=np.concatenate([one.lesions.voxels * one.voxel_ml for one in scans]),
            lesions_found=found,
        )

    def row(self) -> dict[str, Any]:
        """One line of a table of subjects."""
        return {name: getattr(self, name) for name in COLUMNS}


COLUMNS = tuple(one.name for one in fields(Subject) if one.type != np.ndarray)
"""Of a table of subjects: what is one figure."""
