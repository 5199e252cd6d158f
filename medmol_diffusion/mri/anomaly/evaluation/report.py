"""The tables of an evaluation, which the terminal, JSON and HTML share, and the table of subjects."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np

from medmol_diffusion.judging.cells import NONE, interval, number
from medmol_diffusion.judging.table import ScoreTable
from medmol_diffusion.mri.anomaly.evaluation.evaluator import Evaluation, Evaluator
from medmol_diffusion.mri.anomaly.evaluation.figures import FIGURES, SIZES
from medmol_diffusion.mri.anomaly.evaluation.subject import COLUMNS
from medmol_diffusion.mri.metrics import Estimate
from medmol_diffusion.plural import counted
from medmol_diffusion.training.memory import GIB
from medmol_diffusion.whole_file import whole_file

COST = ("calls", "s", "GiB")
"""Of a scan: calls of the network, seconds, the most memory that is held."""
GROUPS = {
    "voxels": ("auroc", "auprc", "dice", "best_dice"),
    "subjects": ("auroc_per_subject", "auprc_per_subject", "dice_per_subject", "best_dice_per_subject"),
    "lesions": ("sensitivity", "false_lesions", "false_alarm_ml", "subject_auroc"),
}

GAINS = ("auroc", "auprc", "dice", "auroc_per_subject", "auprc_per_subject", "sensitivity")
"""Figures in which methods are held against the best baseline."""


def tables_of(found: Sequence[Evaluation], left_out: Mapping[str, str], by: Evaluator) -> list[ScoreTable]:
    """The figures of several methods: of voxels, means of subjects, lesions and scans, lesions by size, what they gain
    over the best baseline, and the methods that were left out."""
    share = found[0].figures.lesion_share if found else float("nan")
    own = [one.name for one in found if one.threshold is None]
    apart = f" {', '.join(own)}: at a threshold of each map's own, which no healthy scan has fixed." if own else ""
    alarms = sum(not case.sick for case in by.test)
    free = (
        f"False alarms are what is flagged of a scan without lesions, the mean of {alarms} that no threshold has seen."
        if alarms
        else "No scan of the test is without lesions, so false alarms and the AUROC of subjects are not known."
    )
    meanings = {
        "voxels": f"Voxels inside the masks of all scans together. A map that knows nothing has an AUROC of 0.5 and an "
        f"AUPRC of {share:.4f}, the share of lesion. Dice is at the threshold that {100 * by.quantile:g} % of the "
        f"healthy scans' voxels stay below; the best possible Dice takes its threshold from the truth: a ceiling, no "
        f"result.{apart}",
        "subjects": "The same of each subject with lesions by itself, averaged.",
        "lesions": f"A lesion is found if more than {100 * by.overlap:g} % of it is above the threshold; a false piece "
        f"touches no lesion. {free} The AUROC of subjects tells sick from healthy by the score of the scan.",
    }
    titles = {"voxels": "Voxels", "subjects": "Means of subjects", "lesions": "Lesions and scans"}
    tables = [
        ScoreTable(
            key,
            titles[key],
            meanings[key],
            ("method", *(_short(name) for name in names), *COST),
            [(_name(one), *(_cell(one.figures.estimates[name]) for name in names), *_cost(one)) for one in found],
            {one.name: {name: asdict(one.figures.estimates[name]) for name in names} for one in found},
        )
        for key, names in GROUPS.items()
    ]
    tables.append(_sizes(found))
    if any(one.baseline for one in found) and not all(one.baseline for one in found):
        tables.append(_gains(found))
    if left_out:
        tables.append(
            ScoreTable(
                "left_out",
                "Methods left out",
                "What the model cannot serve.",
                ("method", "because"),
                list(left_out.items()),
                dict(left_out),
            )
        )
    return tables


def protocol_of(by: Evaluator) -> str:
    """How it was measured, in a few sentences."""
    return (
        f"{counted(len(by.test), 'scan')} of {counted(len({case.subject for case in by.test}), 'subject')}, "
        f"{sum(case.sick for case in by.test)} with lesions; thresholds, z-scores and percentiles come from "
        f"{counted(len(by.healthy), 'healthy scan')} of {len({case.subject for case in by.healthy})} other subjects "
        f"alone. In brackets, 95 % intervals over subjects, from {by.draws} bootstrap draws. Calls of the network, "
        "seconds, and GiB of memory at most, of the whole process, are those of one scan, measured here."
    )


def write_subjects(path: Path, found: Sequence[Evaluation]) -> Path:
    """A csv with a line for every subject of every method."""
    with whole_file(path) as whole, whole.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.DictWriter(file, ("method", *COLUMNS))
        writer.writeheader()
        for one in found:
            writer.writerows({"method": one.name, **subject.row()} for subject in one.figures.subjects)
    return path


def _sizes(found: Sequence[Evaluation]) -> ScoreTable:
    edges = [f"{size:g}" for size in SIZES]
    names = [f"below {edges[0]} ml", *(f"{a} to {b} ml" for a, b in pairwise(edges))]
    names.append(f"above {edges[-1]} ml")
    counts = [count for _, count in found[0].figures.by_size] if found else [0] * len(names)
    return ScoreTable(
        "sizes",
        "Lesions found, by size",
        "The share of lesions that are found.",
        ("method", *(f"{name}, n = {count}" for name, count in zip(names, counts, strict=True)), *COST),
        [(_name(one), *(_cell(share) for share, _ in one.figures.by_size), *_cost(one)) for one in found],
        {
            one.name: [
                {"size": name, **asdict(share), "lesions": count}
                for name, (share, count) in zip(names, one.figures.by_size, strict=True)
            ]
            for one in found
        },
    )


def _gains(found: Sequence[Evaluation]) -> ScoreTable:
    """What methods gain over the baseline that is best in each figure."""
    baselines = [one for one in found if one.baseline]
    best = {name: max(baselines, key=lambda one: np.nan_to_num(one.figures.estimates[name].value)) for name in GAINS}
    gains = {
        one.name: {name: one.figures.gain(best[name].figures, name) for name in GAINS}
        for one in found
        if not one.baseline
    }
    return ScoreTable(
        "gains",
        "Gain over the best baseline",
        "By how much each figure is above that of the baseline in the head of its column, the best one on these scans; "
        "intervals of the difference itself, subject by subject. Above 0 as a whole: better, and not by chance.",
        ("method", *(f"{FIGURES[name]}, {best[name].name}" for name in GAINS)),
        [(name, *(_signed(one[key]) for key in GAINS)) for name, one in gains.items()],
        {name: {key: {**asdict(one[key]), "over": best[key].name} for key in GAINS} for name, one in gains.items()},
    )


def _short(name: str) -> str:
    """Of a column whose table says the rest."""
    return FIGURES[name].removesuffix(", mean of subjects")


def _name(one: Evaluation) -> str:
    return f"{one.name} (baseline)" if one.baseline else one.name


def _signed(gain: Estimate) -> str:
    value, low, high = (number(one, "+.3f") for one in (gain.value, gain.low, gain.high))
    return value if NONE in (value, low, high) else f"{value} ({low} to {high})"


def _cell(figure: Estimate) -> str:
    value = number(figure.value, ".3f")
    limits = interval(figure.low, figure.high, ".3f")
    return value if NONE in (value, limits) else f"{value} ({limits})"


def _cost(one: Evaluation) -> tuple[str, str, str]:
    return number(one.cost.calls, ".4g"), number(one.cost.seconds, ".3g"), number(one.cost.memory / GIB, ".2f")
