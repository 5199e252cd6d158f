"""How often lesions of each kind, contrast or volume are found, by every method."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from medmol_diffusion.judging.bootstrap import Bootstrap
from medmol_diffusion.mri.anomaly import Detection
from medmol_diffusion.mri.anomaly.evaluation import BASELINES, Case, Lesions
from medmol_diffusion.mri.metrics import auroc
from tests.benchmarks.anomaly_sets import Group

MEASURES = {"found": "lesions found at the healthy threshold", "auroc": "AUROC of voxels, mean of subjects"}


@dataclass(frozen=True)
class Answer:
    """Of one scan with lesions: how many there are and were found, and the AUROC of its voxels."""

    subject: str
    group: Group
    lesions: int
    found: int
    auroc: float


@dataclass(frozen=True)
class Point:
    """A method's figures of one value of a group's key, over all values of the others, with 95 % intervals over
    subjects; ``n`` scans."""

    method: str
    key: str
    value: str | float
    n: int
    found: float
    found_interval: tuple[float, float]
    auroc: float
    auroc_interval: tuple[float, float]


@dataclass
class Curves:
    """Filled while an Evaluator shows its answers.

    Attributes:
        groups: id of a case -> what its lesions are.
        overlap: the share of a lesion that must be exceeded for it to be found.
        draws, seed: of the bootstrap.
        answers: method -> what was found.
    """

    groups: Mapping[int, Group]
    overlap: float
    draws: int = 200
    seed: int = 0
    answers: dict[str, list[Answer]] = field(default_factory=dict)

    def seen(self, method: str, case: Case, found: Detection) -> None:
        """Told of every answer."""
        group = self.groups[id(case)]
        truth = case.truth & found.inside
        if not group or not truth.any():
            return
        lesions = Lesions.of(found.flagged, truth, self.overlap)
        area = auroc(found.map.data, truth, found.inside)
        answer = Answer(case.subject, group, len(lesions.found), int(lesions.found.sum()), area)
        self.answers.setdefault(method, []).append(answer)

    def points(self) -> list[Point]:
        """Method by method, key by key, value by value."""
        return [
            self._point(method, key, value, answers)
            for method, answers in self.answers.items()
            for key in dict.fromkeys(key for one in answers for key in one.group)
            for value in sorted({one.group[key] for one in answers}, key=lambda v: (isinstance(v, str), v))
        ]

    def _point(self, method: str, key: str, value: str | float, answers: Sequence[Answer]) -> Point:
        own = [one for one in answers if one.group[key] == value]
        subjects = list(dict.fromkeys(one.subject for one in own))
        rows = np.array([subjects.index(one.subject) for one in own])

        def summed(values: Sequence[float]) -> np.ndarray:
            return np.bincount(rows, np.asarray(values, dtype=float), len(subjects))

        found, lesions = summed([one.found for one in own]), summed([one.lesions for one in own])
        areas = summed([one.auroc for one in own]) / np.bincount(rows)
        bootstrap = Bootstrap(len(subjects), self.draws, self.seed)
        rate, area = bootstrap.fraction(found, lesions), bootstrap.ratio(areas, np.ones(len(subjects)))
        return Point(
            method,
            key,
            value,
            len(own),
            float(found.sum() / lesions.sum()),
            (float(rate[0]), float(rate[1])),
            float(areas.mean()),
            (float(area[0]), float(area[1])),
        )


def draw(points: Sequence[Point], file: Path, title: str) -> None:
    """A row for each measure, a column for each key; baselines are dashed. The ending of the file says the format."""
    keys, methods = list(dict.fromkeys(p.key for p in points)), list(dict.fromkeys(p.method for p in points))
    figure, axes = plt.subplots(
        len(MEASURES), len(keys), figsize=(1 + 4.5 * len(keys), 7.5), sharey="row", squeeze=False, layout="constrained"
    )
    colours = plt.get_cmap("tab20")
    for row, (measure, words) in zip(axes, MEASURES.items(), strict=True):
        for panel, key in zip(row, keys, strict=True):
            for number, method in enumerate(methods):
                own = [p for p in points if p.key == key and p.method == method]
                named = any(isinstance(p.value, str) for p in own)
                at = np.arange(len(own)) + (number - len(methods) / 2) * 0.05 if named else [p.value for p in own]
                middle = np.array([getattr(p, measure) for p in own])
                low, high = np.array([getattr(p, f"{measure}_interval") for p in own]).T
                style = {"color": colours(number % 20), "marker": "o", "markersize": 4, "linewidth": 1.5}
                style |= {"linestyle": "none" if named else "--" if method in BASELINES else "-"}
                bars = np.nan_to_num([middle - low, high - middle]).clip(0)
                # Dark and bright lesions are two curves.
                for sign in (-1, 1) if key == "contrast" else (0,):
                    chosen = np.array([not sign or sign * p.value > 0 for p in own])
                    label = method if sign != 1 or not any(p.value < 0 for p in own) else None
                    panel.errorbar(
                        np.asarray(at)[chosen], middle[chosen], bars[:, chosen], label=label, elinewidth=0.7, **style
                    )
                if named:
                    panel.set_xticks(range(len(own)), [str(p.value).replace("_", " ") for p in own])
            if key == "ml":
                volumes = sorted({p.value for p in points if p.key == key})
                panel.set_xscale("log")
                panel.set_xticks(volumes, [f"{ml:g}" for ml in volumes])
                panel.minorticks_off()
            panel.set_xlabel({"ml": "volume, ml", "contrast": "contrast; the scan's range is 2"}.get(key, key))
            panel.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel(words)
    axes[0, -1].legend(fontsize=7, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.suptitle(title, fontsize=10)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)
    plt.close(figure)


def rows(points: Sequence[Point]) -> list[tuple[str, ...]]:
    """For a table: method, which lesions, how many scans, both figures with their intervals."""
    return [
        (p.method, f"{p.key} {p.value}", str(p.n), _cell(p.found, p.found_interval), _cell(p.auroc, p.auroc_interval))
        for p in points
    ]


def to_list(points: Sequence[Point]) -> list[dict[str, object]]:
    """For JSON."""
    return [asdict(point) for point in points]


def _cell(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.3f} ({interval[0]:.3f} - {interval[1]:.3f})"
