"""Anomaly maps held against lesion masks: thresholds come from healthy scans, intervals from a bootstrap over scans."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly import Detection
from medmol_diffusion.mri.metrics import Estimate, auprc, auroc, best_dice, bootstrap, dice
from medmol_diffusion.mri.volume import Volume


@dataclass(frozen=True)
class Evaluation:
    """Figures over the voxels inside each scan's mask, pooled over scans unless said otherwise.

    Attributes:
        auroc, auprc: of the map.
        dice, dice_per_scan: at the threshold of the healthy scans, pooled and averaged over scans; None without one.
        best_dice: the best possible, with a threshold chosen on the truth: an upper bound, not a result.
        threshold: that of the healthy scans.
        scans: how many.
    """

    auroc: Estimate
    auprc: Estimate
    dice: Estimate | None
    dice_per_scan: Estimate | None
    best_dice: Estimate
    threshold: float | None
    scans: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def rows(self) -> list[tuple[str, str, str, str]]:
        """(figure, value, 95 % interval over scans, note) for a table."""
        notes = {
            "auroc": "voxels, pooled",
            "auprc": "voxels, pooled",
            "dice": "at the healthy scans' threshold, pooled",
            "dice_per_scan": "at the healthy scans' threshold, mean of scans",
            "best_dice": "best possible: threshold chosen on the truth",
        }
        return [
            (name, f"{figure.value:.3f}", f"{figure.low:.3f} to {figure.high:.3f}", note)
            for name, note in notes.items()
            if (figure := getattr(self, name)) is not None
        ]


def evaluate(
    found: Sequence[Detection], truth: Sequence[Volume], threshold: float | None = None, draws: int = 100, seed: int = 0
) -> Evaluation:
    """Evaluate the maps of several scans against their lesion masks (any value above 0 is lesion).

    Args:
        found: one detection for each scan.
        truth: its mask, on the scan's own grid.
        threshold: for Dice, fixed on healthy scans; None leaves Dice out.
        draws: of the bootstrap over scans.
        seed: of the bootstrap.

    Raises:
        InputError: a mask is missing or on another grid, or no scan has a lesion inside its mask.
    """
    if len(found) != len(truth):
        raise InputError(f"{len(found)} scans but {len(truth)} masks: give one mask for each scan")
    scores, lesions = [], []
    for detection, mask in zip(found, truth, strict=True):
        name = detection.map.provenance.get("source", "a scan")
        if not mask.same_grid(detection.map):
            raise InputError(
                f"the mask of {name} has another grid ({mask.shape} voxels) than the scan ({detection.map.shape}): "
                "resample it to the scan"
            )
        scores.append(detection.map.data[detection.inside])
        lesions.append(mask.data[detection.inside] > 0)
    if not any(lesion.any() for lesion in lesions):
        raise InputError("none of the masks marks a lesion inside the head: there is nothing to evaluate against")

    def pooled(statistic: Callable[[np.ndarray, np.ndarray], float]) -> Estimate:
        def of(units: np.ndarray) -> float:
            return statistic(np.concatenate([scores[i] for i in units]), np.concatenate([lesions[i] for i in units]))

        return bootstrap(of, len(scores), draws=draws, seed=seed)

    at_threshold = per_scan = None
    if threshold is not None:
        each = np.array([dice(s > threshold, t) for s, t in zip(scores, lesions, strict=True)])
        at_threshold = pooled(lambda s, t: dice(s > threshold, t))
        per_scan = bootstrap(lambda units: float(np.nanmean(each[units])), len(each), draws=draws, seed=seed)
    return Evaluation(
        auroc=pooled(auroc),
        auprc=pooled(auprc),
        dice=at_threshold,
        dice_per_scan=per_scan,
        best_dice=pooled(lambda s, t: best_dice(s, t)[0]),
        threshold=threshold,
        scans=len(scores),
    )
