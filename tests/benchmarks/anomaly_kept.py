"""The results of an anomaly benchmark, kept method by method as they come: FOLDER/methods/NAME.json.

A run that was killed goes on at the next method; one method is run anew where what decides its result has changed.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from medmol_diffusion.mri.anomaly import Unserved
from medmol_diffusion.mri.anomaly.evaluation import BASELINES, Cost, Evaluation, Figures, Subject
from medmol_diffusion.mri.metrics import Estimate
from tests.benchmarks.anomaly_curves import Answer, Curves
from tests.benchmarks.cross_validation import write


def with_baselines(methods: Iterable[str]) -> list[str]:
    """The methods, then those baselines that are not among them."""
    return list(dict.fromkeys([*methods, *BASELINES]))


def one_by_one(
    methods: Iterable[str],
    folder: Path,
    settings: Callable[[str], Mapping[str, Any]],
    run: Callable[[str], Evaluation],
    curves: Curves,
) -> tuple[list[Evaluation], dict[str, str]]:
    """What came out of every method, baselines last, and why those were left out that could not be served.

    Args:
        methods: their names.
        folder: where methods/ lies.
        settings: of a method: what decides its result, as text or numbers.
        run: does a method; what the curves are drawn of it tells them.
        curves: know afterwards what was found by methods that were not run again, too.
    """
    found, left_out = [], {}
    for name in methods:
        file, by = folder / "methods" / f"{name}.json", {key: str(value) for key, value in settings(name).items()}
        content = json.loads(file.read_text()) if file.is_file() else {}
        if content.get("settings") != by:
            content = {"settings": by, **_ran(name, run, curves)}
            file.parent.mkdir(parents=True, exist_ok=True)
            write(file, json.loads(json.dumps(content, default=lambda array: array.tolist())))
        if "left_out" in content:
            left_out[name] = content["left_out"]
        else:
            curves.answers[name] = [Answer(**answer) for answer in content["answers"]]
            found.append(evaluation_of(content["evaluation"]))
    return sorted(found, key=lambda one: one.baseline), left_out


def evaluation_of(content: dict[str, Any]) -> Evaluation:
    """What ``dataclasses.asdict`` made of an evaluation, read from JSON."""
    figures = content["figures"]
    arrays = {"lesion_sizes": float, "lesions_found": bool}
    subjects = [
        Subject(**{**one, **{name: np.array(one[name], dtype=kind) for name, kind in arrays.items()}})
        for one in figures["subjects"]
    ]
    read = Figures(
        {name: Estimate(**estimate) for name, estimate in figures["estimates"].items()},
        [(Estimate(**share), count) for share, count in figures["by_size"]],
        figures["lesion_share"],
        subjects,
        np.array(figures["drawn"]),
    )
    return Evaluation(content["name"], read, Cost(**content["cost"]), content["threshold"])


def _ran(name: str, run: Callable[[str], Evaluation], curves: Curves) -> dict[str, Any]:
    curves.answers.pop(name, None)
    try:
        evaluation = run(name)
    except Unserved as error:
        return {"left_out": str(error)}
    return {"evaluation": asdict(evaluation), "answers": [asdict(one) for one in curves.answers.get(name, [])]}
