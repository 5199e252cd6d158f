"""Harmonisation by partial noise (`medmol vary`) beside leaving the scan as it is, on phantoms of another scanner:

    python -m tests.benchmarks.harmonisation MODEL --contrast FLAIR --heads 12 --strengths 0.1 0.2 0.3 0.4 0.6

Every head, of people that no model has seen, is there twice: as the scanner of the training phantoms has it, and as
another scanner does, with another contrast (a power of the intensities), a stronger receive field and more noise. The
second is varied at every strength and held against the first, inside the head, both normalised by their own
percentiles: W1 between the histograms of intensities (of a range of 2), PSNR and SSIM. Scans that are harmonised have a
lower W1 and, as long as the head is still the same, a higher PSNR and SSIM than the scan as it is, the baseline; gains
over it are paired by head, with 95 % intervals of a bootstrap over heads.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from medmol_diffusion.cli.sampling import asked_covariates
from medmol_diffusion.errors import InputError
from medmol_diffusion.judging.bootstrap import Bootstrap
from medmol_diffusion.judging.cells import interval, number
from medmol_diffusion.judging.wasserstein import wasserstein
from medmol_diffusion.mri import Volume, VolumeDiffusion
from medmol_diffusion.mri.generation import as_batch
from medmol_diffusion.mri.phantom import Contrast, head_phantom
from medmol_diffusion.mri.tasks.comparison import MEASURES, measured
from medmol_diffusion.mri.transforms import Grid, foreground_mask
from medmol_diffusion.training.saved import load_model

HEADS = 800_000_000
"""The first seed: those of PhantomData, of which models are made, are far below."""
AS_IT_IS = "the scan as it is"
COLUMNS = {"W1": ".4f", "PSNR": ".2f", "SSIM": ".4f"}


@dataclass(frozen=True)
class Scanner:
    """How a head is seen: intensities u in [0, 1] become u^power; bias and noise are those of head_phantom."""

    power: float = 1.0
    bias: float = 0.12
    noise: float = 0.025

    def scan(self, seed: int, grid: Grid, contrast: Contrast) -> Volume:
        """One head, always the same for a seed."""
        made = head_phantom(HEADS + seed, grid.shape, grid.spacing, contrast, noise=self.noise, bias=self.bias).volume
        top = made.data.max()
        return replace(made, data=top * (made.data / top) ** self.power)


USUAL, OTHER = Scanner(), Scanner(1.2, 0.2, 0.04)


def figures(model: VolumeDiffusion, scans: Sequence[Volume], truths: Sequence[Volume]) -> np.ndarray:
    """(heads, len(COLUMNS)) of scans held against the same heads as the usual scanner has them."""
    batches = [as_batch([model.grid.prepare(scan) for scan in side], side) for side in (scans, truths)]
    ours, theirs = (batch.data for batch in batches)
    heads = torch.stack([torch.from_numpy(foreground_mask(scan.numpy()))[None] for scan in theirs[:, 0]])
    alike = measured(ours, batches[1], batches[1].mask, heads)
    apart = [
        wasserstein(a[inside].numpy(), b[inside].numpy()) for a, b, inside in zip(ours, theirs, heads, strict=True)
    ]
    return np.column_stack([apart, alike[:, [MEASURES.index("head_psnr"), MEASURES.index("head_ssim")]]])


def harmonised(
    model: VolumeDiffusion, contrast: Contrast, heads: int, strengths: Sequence[float], **how: Any
) -> dict[str, np.ndarray]:
    """Answer -> its figures; the baseline first."""
    truths, scans = ([scanner.scan(i, model.grid, contrast) for i in range(heads)] for scanner in (USUAL, OTHER))
    found = {AS_IT_IS: figures(model, scans, truths)}
    for strength in strengths:
        found[f"vary, strength {strength:g}"] = figures(model, model.vary(scans, strength, **how), truths)
    return found


def rows(found: dict[str, np.ndarray]) -> list[tuple[str, ...]]:
    """A table: every answer with its means over heads, and what it gains over the baseline."""
    out = [(AS_IT_IS, *(number(v, form) for v, form in zip(found[AS_IT_IS].mean(0), COLUMNS.values(), strict=True)))]
    for name, values in found.items():
        if name != AS_IT_IS:
            gain = values - found[AS_IT_IS]
            low, high = Bootstrap(len(gain)).ratio(gain, np.ones_like(gain))
            cells = zip(values.mean(0), gain.mean(0), low, high, COLUMNS.values(), strict=True)
            told = [f"{v:{f}}, {g:+{f}} ({interval(a, b, '+' + f)})" for v, g, a, b, f in cells]
            out.append((name, *told))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="of phantoms of one contrast, or one that can be asked for it")
    parser.add_argument("--contrast", default="FLAIR")
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.1, 0.2, 0.3, 0.4, 0.6])
    parser.add_argument("--covariate", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model = load_model(options.model)
    if not isinstance(model, VolumeDiffusion):
        raise InputError("harmonisation takes a model of scans")
    how = {"steps": options.steps, "seed": options.seed, "covariates": asked_covariates(options.covariate)}
    found = harmonised(model, options.contrast, options.heads, options.strengths, **how)
    title = f"{options.heads} heads of another scanner: figure, and its gain over {AS_IT_IS}"
    table = Table("answer", *COLUMNS, title=title, caption="W1: lower is better, a gain is below 0")
    for row in rows(found):
        table.add_row(*row)
    Console(width=160).print(table)
    if options.json:
        content = {"settings": vars(options), "columns": list(COLUMNS)}
        content["heads"] = {name: values.tolist() for name, values in found.items()}
        options.json.write_text(json.dumps(content, indent=2, default=str) + "\n")


if __name__ == "__main__":
    main()
