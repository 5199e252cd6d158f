"""Do molecules follow what is asked? python -m tests.benchmarks.steering MODEL --property logp=-1,0,1 [--property ...]

Every property is asked for alone, -n molecules for each of its values, at each --guidance. Of the samples' own values,
computed from their graphs (in one piece and sanitised, else there is none): the mean at every value asked for, the
correlation with it and the mean absolute error, with 95 % bootstrap intervals. The baseline is the same model, asked
nothing: as many molecules, the same seed, each held against the values asked for in turn.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from medmol_diffusion.judging.bootstrap import Bootstrap
from medmol_diffusion.molecules import MoleculeDiffusion
from medmol_diffusion.molecules.properties import compute_columns
from medmol_diffusion.progress import Bar


@dataclass(frozen=True)
class Row:
    """One property at one guidance (0: nothing is asked), and what came of it.

    Attributes:
        known: the share of samples that have a value.
        means: of the samples' values at each value asked for.
        correlation, error: value, low, high; of asked and found.
    """

    name: str
    guidance: float
    asked: list[float]
    known: float
    means: list[float]
    correlation: list[float]
    error: list[float]


def correlation(weights: np.ndarray, one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's, every pair counted as often as its weight says."""
    a, b = (values - np.average(values, weights=weights) for values in (one, other))
    return float((weights @ (a * b)) / np.sqrt((weights @ a**2) * (weights @ b**2)))


def row(name: str, guidance: float, asked: np.ndarray, found: np.ndarray) -> Row:
    """Of values asked for [M] and found [M], NaN where there is none."""
    known = ~np.isnan(found)
    a, b = asked[known], found[known]
    resampled = Bootstrap(len(a))

    def figure(statistic: Callable[[np.ndarray], float]) -> list[float]:
        return [statistic(np.ones(len(a))), *resampled.interval(statistic).tolist()]

    return Row(
        name,
        guidance,
        np.unique(asked).tolist(),
        float(known.mean()),
        [float(b[a == value].mean()) for value in np.unique(asked)],
        figure(lambda weights: correlation(weights, a, b)),
        figure(lambda weights: float(np.average(np.abs(a - b), weights=weights))),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--property", action="append", required=True, metavar="NAME=V1,V2,...")
    parser.add_argument("-n", type=int, default=100, help="molecules for every value")
    parser.add_argument("--steps", type=int, help="default: the model's own")
    parser.add_argument("--sampler", help="default: the model's own")
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 2.0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = MoleculeDiffusion.from_pretrained(options.model)
    wanted = {}
    for text in options.property:
        name, _, values = text.partition("=")
        wanted[name] = np.tile([float(value) for value in values.split(",")], options.n)

    how = {"steps": options.steps, "sampler": options.sampler, "seed": options.seed}
    how = {name: value for name, value in how.items() if value is not None}

    def sample(title: str, count: int, **asked: Any) -> dict[str, np.ndarray]:
        with Bar(title, count, transient=True) as bar:
            made = model.sample(count, progress=bar.reach, **how, **asked)
        return compute_columns(made, list(wanted))

    nothing = sample("asked nothing", max(map(len, wanted.values())))
    rows = []
    for name, asked in wanted.items():
        rows.append(row(name, 0.0, asked, nothing[name][: len(asked)]))
        for guidance in options.guidance:
            found = sample(
                f"{name}, guidance {guidance:g}", len(asked), properties={name: asked.tolist()}, guidance=guidance
            )
            rows.append(row(name, guidance, asked, found[name]))
    table = Table(
        "property", "guidance", "asked", "mean of the samples", "correlation", "mean absolute error", "has a value"
    )
    for one in rows:
        intervals = (f"{value:.2f} [{low:.2f}, {high:.2f}]" for value, low, high in (one.correlation, one.error))
        means = (", ".join(f"{value:.3g}" for value in values) for values in (one.asked, one.means))
        what = f"{one.guidance:g}" if one.guidance else "asked nothing"
        table.add_row(one.name, what, *means, *intervals, f"{one.known:.0%}")
    Console().print(table)
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
