"""Do heads follow what is asked, and are they like fresh phantoms? python -m tests.benchmarks.head_phantom MODEL

Asked is what -n fresh phantoms truly have, one generated head for each, at every --guidance; once nothing is asked.
Measured on every scan: the contrast with whose mean scan (over the reference) it correlates best deep in the brain, the
ventricles, and, of scans that are asked to be FLAIR, the lesion load (mri/judge/anatomy.py). The ceiling is what the
same measures find on those phantoms themselves; the baseline is the model asked nothing, held against the same values.
Correlations and mean absolute errors have 95 % bootstrap intervals.

Each set is judged as `medmol score` does, against -n other fresh phantoms (the reference), phantoms among them; scans
are left in -o DIR. Seconds a scan are of this machine, with the threads it gives.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from medmol_diffusion.judging.bootstrap import Bootstrap
from medmol_diffusion.judging.table import silent
from medmol_diffusion.mri import PhantomData, Volume, VolumeDiffusion
from medmol_diffusion.mri.judge.anatomy import deep_brain, lesion_load, ventricle_volume
from medmol_diffusion.mri.judge.extractor import HaarFeatures
from medmol_diffusion.mri.judge.score_report import judge_scans
from medmol_diffusion.mri.phantom import Frame
from medmol_diffusion.mri.table import Row
from medmol_diffusion.progress import Bar
from tests.benchmarks.steering import correlation

FRESH = 900
"""Seed of the phantoms asked for (PhantomData.seed); the reference has the next one. Recipes train on seed 0."""
WIDTH = 160
"""Of the table, in characters."""


@dataclass(frozen=True)
class Followed:
    """How a number asked for and the one measured go together, over ``n`` scans: value, low, high."""

    n: int
    correlation: list[float]
    error: list[float]
    bias: float

    @classmethod
    def of(cls, asked: np.ndarray, found: np.ndarray) -> "Followed":
        if len(asked) < 3:
            return cls(len(asked), [np.nan] * 3, [np.nan] * 3, np.nan)
        draws = Bootstrap(len(asked))

        def figure(statistic: Callable[[np.ndarray], float]) -> list[float]:
            with np.errstate(invalid="ignore"):  # a draw of scans that all have the same has no correlation
                return [statistic(np.ones(len(asked))), *draws.interval(statistic).tolist()]

        return cls(
            len(asked),
            figure(lambda weights: correlation(weights, asked, found)),
            figure(lambda weights: float(np.average(np.abs(found - asked), weights=weights))),
            float((found - asked).mean()),
        )


@dataclass(frozen=True)
class Outcome:
    """One set of scans: ``contrast`` is the share that is of the contrast asked for, ``scores`` those of the judge."""

    name: str
    contrast: float
    ventricles: Followed
    lesion_load: Followed
    seconds: float | None = None
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Heads:
    """Fresh phantoms on the model's grid: scans as the model makes them, and what they truly have."""

    scans: list[Volume]
    rows: list[Row]

    @classmethod
    def made(cls, model: VolumeDiffusion, count: int, seed: int, **drawn: Any) -> "Heads":
        grid = model.grid
        intensities = {"levels": grid.levels, "upper_percentile": grid.upper}
        data = PhantomData(count, list(grid.shape), seed=seed, validation=0, test=0, **intensities, **drawn)
        data.setup()
        scans = [model.to_volume(data.train[i][0][0].numpy(), {}) for i in range(count)]
        return cls(scans, data.train.covariates)

    def numbers(self, name: str) -> np.ndarray:
        return np.array([float(row[name]) for row in self.rows])

    def contrasts(self) -> np.ndarray:
        return np.array([row["contrast"] for row in self.rows])

    def mean_scans(self) -> dict[str, np.ndarray]:
        """(X, Y, Z) of each contrast."""
        data, contrasts = np.stack([scan.data for scan in self.scans]), self.contrasts()
        return {str(name): data[contrasts == name].mean(0) for name in np.unique(contrasts)}


def outcome(title: str, scans: Sequence[Volume], asked: Heads, means: dict[str, np.ndarray], **more: Any) -> Outcome:
    deep = deep_brain(Frame(scans[0].shape, scans[0].spacing[0]))

    def alike(mean: np.ndarray) -> list[float]:
        return [float(np.corrcoef(scan.data[deep], mean[deep])[0, 1]) for scan in scans]

    found = np.array(list(means))[np.argmax([alike(mean) for mean in means.values()], axis=0)]
    ventricles = [ventricle_volume(scan, contrast) for scan, contrast in zip(scans, found.tolist(), strict=True)]
    flair = asked.contrasts() == "FLAIR"
    lesions = [lesion_load(scan) for scan, is_flair in zip(scans, flair, strict=True) if is_flair]
    return Outcome(
        title,
        float((found == asked.contrasts()).mean()),
        Followed.of(asked.numbers("ventricles"), np.array(ventricles)),
        Followed.of(asked.numbers("lesion_load")[flair], np.array(lesions)),
        **more,
    )


def write(scans: Sequence[Volume], folder: Path) -> Path:
    for i, scan in enumerate(scans):
        scan.write(folder / f"scan-{i:04d}.nii.gz")
    return folder


def judged(folder: Path, reference: Path) -> dict[str, dict[str, Any]]:
    """Every figure of `medmol score` by its name, without the bandwidth in it, and what it says of MS-SSIM."""
    tables = {one.key: one.data for one in judge_scans(folder, reference, HaarFeatures(), silent).tables}
    figures = [one for data in tables.values() for one in data.get("figures", ())]
    return {str(one["name"]).partition(",")[0]: one for one in figures} | {"MS-SSIM": tables["diversity"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("-n", type=int, default=96)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 2.0])
    parser.add_argument("--contrast", nargs="+", default=["T1w"], help="of a model that is not asked for contrasts")
    parser.add_argument("--atrophy", type=float, nargs=2, default=[0.0, 1.0], help="of the fresh phantoms")
    parser.add_argument("--lesions", type=int, nargs=2, default=[0, 8], help="of the fresh phantoms")
    parser.add_argument("--seed", type=int, default=0, help="of the samples")
    parser.add_argument("--json", type=Path)
    parser.add_argument("-o", type=Path, help="where the scans are left")
    options = parser.parse_args()
    model = VolumeDiffusion.from_pretrained(options.model)
    columns = model.known_covariates().columns
    drawn = {"contrast": list(columns.get("contrast") or options.contrast)}
    drawn |= {"atrophy": options.atrophy, "lesions": options.lesions}
    asked, reference = (Heads.made(model, options.n, seed, **drawn) for seed in (FRESH, FRESH + 1))
    means = reference.mean_scans()
    # Numbers and words as `sample` takes them: the rows of a table are text.
    values = {name: [row[name] if words else float(row[name]) for row in asked.rows] for name, words in columns.items()}

    with ExitStack() as stack:
        out = options.o or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        real = write(reference.scans, out / "reference")

        def generate(name: str, **question: Any) -> Outcome:
            with Bar(name, options.n, transient=True) as bar:
                began = perf_counter()
                scans = model.sample(options.n, steps=options.steps, seed=options.seed, progress=bar.reach, **question)
                seconds = (perf_counter() - began) / options.n
            scores = judged(write(scans, out / name.replace(" ", "-")), real)
            return outcome(name, scans, asked, means, seconds=seconds, scores=scores)

        found = [generate("asked nothing")]
        found += [generate(f"guidance {w:g}", covariates=values, guidance=w) for w in options.guidance]
        scores = judged(write(asked.scans, out / "phantoms"), real)
        found.append(outcome("the phantoms themselves", asked.scans, asked, means, scores=scores))

    if options.json:
        settings = vars(options) | {"json": None, "o": None, "threads": torch.get_num_threads(), **drawn}
        text = json.dumps({"settings": settings, "sets": [asdict(one) for one in found]}, indent=2)
        options.json.write_text(text + "\n")
    Console(width=WIDTH).print(table(found))


def table(found: Sequence[Outcome]) -> Table:
    shown = Table(
        "set", "contrast", "ventricles: r", "MAE, ml", "lesions: r", "MAE, ml", "Frechet", "recall", "s a scan"
    )
    for one in found:
        cells = [f"{one.contrast:.0%}"]
        for part in (one.ventricles, one.lesion_load):
            cells += [f"{value:.2f} [{low:.2f}, {high:.2f}]" for value, low, high in (part.correlation, part.error)]
        cells += [f"{one.scores[name]['value']:.3g}" for name in ("Frechet distance", "recall")]
        shown.add_row(one.name, *cells, "" if one.seconds is None else f"{one.seconds:.1f}")
    return shown


if __name__ == "__main__":
    main()
