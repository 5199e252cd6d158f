"""What few steps cost, and what distillation gives back: python -m tests.benchmarks.few_steps TEACHER [STUDENT ...]

The teacher samples with each of --samplers at each of --steps, every student (a run folder) with DDIM at the number of
steps it was distilled to; all from the same noise. Molecules: stable atoms, valid and connected molecules, with
intervals. Scans: Frechet distance and MS-SSIM beside held-out real scans, and the energy of the finest three Haar
bands, generated over real. A sampler of N steps makes N + 1 network calls: the last reads x_hat off z_0.

"lost" is the first figure at the teacher's most steps with the first sampler less that of the row (for a distance, the
other way round), and "a step" is that divided by the steps saved.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from rich.console import Console
from rich.table import Table

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import Molecule, MoleculeDiffusion
from medmol_diffusion.molecules.metrics import score_molecules
from medmol_diffusion.mri import Volume, VolumeDiffusion
from medmol_diffusion.mri.first_stages.haar import Haar
from medmol_diffusion.mri.metrics import score_volumes
from medmol_diffusion.mri.transforms import common_grid
from medmol_diffusion.training.model import DiffusionModel
from medmol_diffusion.training.saved import load_model
from medmol_diffusion.training.validation import open_data

BANDS = 3


@dataclass(frozen=True)
class Figure:
    """A number and its 95 % bootstrap interval, in ``unit``; NaN where no interval was made."""

    value: float
    low: float
    high: float


Figures = dict[str, Figure]
Judge = Callable[[list[Any]], Figures]


def judge_molecules(molecules: list[Molecule]) -> Figures:
    """Percent."""
    scores = score_molecules(molecules)
    parts = {
        "atoms stable %": scores.atom_stability,
        "valid %": scores.validity,
        "stable %": scores.molecule_stability,
        "connected %": scores.connectivity,
    }
    return {name: Figure(100 * s.value, 100 * s.low, 100 * s.high) for name, s in parts.items()}


def band_energies(scans: torch.Tensor) -> list[float]:
    """Mean square of the high-pass Haar coefficients of scans [N, X, Y, Z], finest band first."""
    haar, low, found = Haar(1), scans[:, None].float(), []
    for _ in range(BANDS):
        bands = haar.encode(low[..., : low.shape[2] // 2 * 2, : low.shape[3] // 2 * 2, : low.shape[4] // 2 * 2])
        found.append(bands[:, 1:].square().mean().item())
        low = bands[:, :1]
    return found


def judge_volumes(real: list[Volume]) -> Judge:
    """Against held-out real scans, on one grid and normalised as `medmol score` does."""

    def judge(made: list[Volume]) -> Figures:
        common = common_grid([*made, *real])
        a, b = (
            torch.stack([torch.from_numpy(common.prepare(volume).volume.data) for volume in volumes])
            for volumes in (made, real)
        )
        scores = score_volumes(a, b)
        found = {"Frechet": scores.frechet, "MS-SSIM": scores.ms_ssim, "MS-SSIM of real": scores.ms_ssim_reference}
        figures = {name: Figure(e.value, e.low, e.high) for name, e in found.items()}
        for i, (ours, theirs) in enumerate(zip(band_energies(a), band_energies(b), strict=True), start=1):
            figures[f"band {i}"] = Figure(ours / theirs, float("nan"), float("nan"))
        return figures

    return judge


def real_scans(model: VolumeDiffusion, run: str, split: str, count: int) -> list[Volume]:
    """The first ``count`` scans of one part of the run's data, each of its own size."""
    data, split = open_data(model, run, None, split)
    rows = np.arange(min(count, len(getattr(data, split))))
    found = []
    for batch in data.evaluation_dataloader(split, rows):  # type: ignore[attr-defined]
        for scan, mask in zip(batch.data, batch.mask, strict=True):
            places = mask[0].nonzero()
            extent = (places.amax(0) - places.amin(0) + 1).tolist()
            found.append(model.to_volume(scan[0].numpy(), {}).crop_or_pad(extent))
    return found


def steps_of(student: str) -> int:
    """What a student's run folder says it was distilled to.

    Raises:
        InputError: it does not say.
    """
    task = yaml.safe_load((Path(student) / "config.yaml").read_text()).get("model") or {}
    if not task.get("student_steps"):
        raise InputError(f"{student} is not the run folder of a student: its config.yaml has no model.student_steps")
    return int(task["student_steps"])


def make(model: DiffusionModel, count: int, steps: int, sampler: str, seed: int) -> list[Any]:
    return model.sample(count, steps=steps, sampler=sampler, seed=seed)  # type: ignore[attr-defined, no-any-return]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", help="run folder")
    parser.add_argument("students", nargs="*", help="run folders of its students")
    parser.add_argument("-n", type=int, default=None, help="samples a row (default: 1000 molecules, 48 scans)")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--samplers", nargs="+", default=["ddim", "dpm++2m"], help="of the teacher")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", help="write the rows there too")
    options = parser.parse_args()

    teacher = load_model(options.teacher)
    rows: list[tuple[str, str, int, Figures]] = []
    if isinstance(teacher, MoleculeDiffusion):
        count, judge, sign = options.n or 1000, judge_molecules, 1.0
    else:
        assert isinstance(teacher, VolumeDiffusion)
        count, sign = options.n or 48, -1.0
        held_out = [v for split in ("validation", "test") for v in real_scans(teacher, options.teacher, split, 1000)]
        judge = judge_volumes(held_out)
        rows.append(("training scans", "", 0, judge(real_scans(teacher, options.teacher, "train", count))))
    for sampler in options.samplers:
        for steps in sorted(options.steps):
            made = make(teacher, count, steps, sampler, options.seed)
            rows.append((Path(options.teacher).name, sampler, steps, judge(made)))
    for student in options.students:
        steps = steps_of(student)
        made = make(load_model(student), count, steps, "ddim", options.seed)
        rows.append((Path(student).name, "ddim", steps, judge(made)))

    most = max(options.steps)
    best = next(f for _, sampler, steps, f in rows if steps == most and sampler == options.samplers[0])
    first = next(iter(best))
    names = list(best)
    table = Table("model", "sampler", "steps", *names, f"lost: {first}", "a step", title=f"{count} samples a row")
    written = []
    for model, sampler, steps, figures in rows:
        cells = [f"{f.value:.3g} ({f.low:.3g} to {f.high:.3g})" if f.low == f.low else f"{f.value:.3g}"
                 for f in figures.values()]  # fmt: skip
        lost = sign * (best[first].value - figures[first].value)
        saved = most - steps
        a_step = lost / saved if steps and saved else None
        table.add_row(
            model, sampler, str(steps or ""), *cells,
            f"{lost:.3g}" if steps else "", "" if a_step is None else f"{a_step:.3g}",
        )  # fmt: skip
        written.append(
            {"model": model, "sampler": sampler, "steps": steps, "lost": lost, "lost_a_step": a_step}
            | {"figures": {name: asdict(figure) for name, figure in figures.items()}}
        )
    Console(width=200).print(table)
    if options.json:
        Path(options.json).write_text(json.dumps(written, indent=2) + "\n")


if __name__ == "__main__":
    main()
