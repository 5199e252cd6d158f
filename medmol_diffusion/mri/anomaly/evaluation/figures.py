"""The figures of one method over all subjects, with intervals over subjects."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.judging.bootstrap import FEWEST, Bootstrap
from medmol_diffusion.mri.anomaly.evaluation.ranking import Ranking
from medmol_diffusion.mri.anomaly.evaluation.subject import Measured, Subject
from medmol_diffusion.mri.metrics import Estimate

FIGURES = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "dice": "Dice",
    "best_dice": "best possible Dice",
    "auroc_per_subject": "AUROC, mean of subjects",
    "auprc_per_subject": "AUPRC, mean of subjects",
    "dice_per_subject": "Dice, mean of subjects",
    "best_dice_per_subject": "best possible Dice, mean of subjects",
    "sensitivity": "lesions found",
    "false_lesions": "false pieces a scan",
    "false_alarm_ml": "false alarms, ml",
    "subject_auroc": "AUROC of subjects",
}
"""What is measured, in words."""
SIZES = (0.1, 1.0)
"""ml at which lesions are told apart as small, middling and large."""


@dataclass(frozen=True)
class Figures:
    """What a method is worth.

    Voxels are those inside each scan's mask. Pooled figures are over the voxels of all scans, those of scans without
    lesions too; means of subjects are over those with lesions. NaN stands for what cannot be measured.

    Attributes:
        estimates: a name in FIGURES -> the figure, with its 95 % interval over subjects.
        by_size: of the lesions below, between and above SIZES: the share found, and how many there are.
        lesion_share: of all voxels: the AUPRC of a map that knows nothing.
        subjects: what each of them gives.
        drawn: (draws, figures) of the bootstrap. Those of two methods on the same scans, of one seed, belong together
            in pairs.
    """

    estimates: dict[str, Estimate]
    by_size: list[tuple[Estimate, int]]
    lesion_share: float
    subjects: list[Subject]
    drawn: np.ndarray

    @classmethod
    def of(cls, scans: Sequence[Measured], draws: int = 200, seed: int = 0) -> "Figures":
        """Of all scans of a test.

        Raises:
            InputError: no scan has a lesion inside its mask.
        """
        if not any(one.truth.any() for one in scans):
            raise InputError("none of the masks marks a lesion inside the head: there is nothing to evaluate against")
        groups: dict[str, list[Measured]] = {}
        for one in scans:
            groups.setdefault(one.case.subject, []).append(one)
        subjects = [Subject.of(group) for group in groups.values()]
        voxels = Ranking.of(
            [np.concatenate([one.scores for one in group]) for group in groups.values()],
            [np.concatenate([one.truth for one in group]) for group in groups.values()],
        )
        sums = _Sums(subjects, voxels)
        bootstrap = Bootstrap(len(subjects), draws, seed)
        drawn = bootstrap.drawn(sums)
        low, high = bootstrap.limits(drawn)
        found, of = (np.array([getattr(one, name) for one in subjects], dtype=float) for name in ("found", "lesions"))
        place = list(FIGURES).index("sensitivity")
        low[place], high[place] = bootstrap.fraction(found, of)  # all or none found is no certainty
        for place, name in enumerate(FIGURES):
            if fewest(subjects, name) < FEWEST:
                low[place] = high[place] = np.nan
        values = sums(np.ones(len(subjects)))
        sizes = [one.voxel_ml * np.count_nonzero(one.truth) for one in scans]
        total = sum(one.voxel_ml * len(one.truth) for one in scans)
        return cls(
            {name: Estimate(*map(float, triple)) for name, *triple in zip(FIGURES, values, low, high, strict=True)},
            _by_size(subjects, bootstrap),
            sum(sizes) / total,
            subjects,
            drawn,
        )

    def gain(self, other: "Figures", name: str) -> Estimate:
        """By how much a figure is higher than that of another method on the same scans, with the same draws.

        The interval is over subjects, of the difference itself: what makes a subject hard is hard for both, so it is
        narrower than those of the two figures. NaN where the figure has no interval of its own.
        """
        place = list(FIGURES).index(name)
        ours, theirs = self.estimates[name], other.estimates[name]
        apart = self.drawn[:, place] - other.drawn[:, place]
        known = np.isfinite([ours.low, theirs.low]).all() and not np.isnan(apart).all()
        low, high = np.nanquantile(apart, [0.025, 0.975]) if known else (np.nan, np.nan)
        return Estimate(ours.value - theirs.value, float(low), float(high))


def fewest(subjects: Sequence[Subject], name: str) -> int:
    """How many subjects a figure rests on: those with lesions, those without, or the fewer of both."""
    sick = sum(one.sick for one in subjects)
    if name == "false_lesions":
        return len(subjects)
    well = len(subjects) - sick
    return {"false_alarm_ml": well, "subject_auroc": min(sick, well)}.get(name, sick)


class _Sums:
    """weights (S,) of the subjects -> every figure, in the order of FIGURES."""

    def __init__(self, subjects: Sequence[Subject], voxels: Ranking) -> None:
        def column(name: str) -> np.ndarray:
            return np.array([getattr(one, name) for one in subjects], dtype=np.float64)

        self.voxels, self.sick = voxels, column("sick") > 0
        self.overlap, self.sizes = column("overlap_ml"), column("lesion_ml") + column("flagged_ml")
        self.means = [column(name) for name in ("auroc", "auprc", "dice", "best_dice")]
        self.found, self.lesions, self.scans = column("found"), column("lesions"), column("scans")
        self.false, self.flagged = column("false"), column("flagged_ml")
        scores = column("score")[:, None]
        self.subjects = Ranking.of(list(scores), list(self.sick[:, None]))

    def __call__(self, weights: np.ndarray) -> np.ndarray:
        pooled = [self.voxels.auroc(weights), self.voxels.auprc(weights)]
        pooled += [_ratio(2 * weights @ self.overlap, weights @ self.sizes), self.voxels.best_dice(weights)]
        healthy = weights * ~self.sick
        return np.array(
            [
                *pooled,
                *(_mean(weights, values) for values in self.means),
                _ratio(weights @ self.found, weights @ self.lesions),
                _ratio(weights @ self.false, weights @ self.scans),
                _ratio(healthy @ self.flagged, healthy @ self.scans),
                self.subjects.auroc(weights),
            ]
        )


def _by_size(subjects: Sequence[Subject], bootstrap: Bootstrap) -> list[tuple[Estimate, int]]:
    kinds = len(SIZES) + 1
    found, of = (
        np.stack(
            [
                np.bincount(np.digitize(one.lesion_sizes, SIZES), one.lesions_found if hit else None, kinds)
                for one in subjects
            ]
        ).astype(np.float64)
        for hit in (True, False)
    )
    limits = bootstrap.fraction(found, of)
    return [
        (
            Estimate(_ratio(found[:, k].sum(), of[:, k].sum()), float(limits[0, k]), float(limits[1, k])),
            int(of[:, k].sum()),
        )
        for k in range(kinds)
    ]


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def _mean(weights: np.ndarray, values: np.ndarray) -> float:
    """Of the values that exist."""
    there = ~np.isnan(values)
    return _ratio(weights[there] @ values[there], weights[there].sum())
