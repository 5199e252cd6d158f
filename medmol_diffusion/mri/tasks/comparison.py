"""The answers of a model of a task held against the truth, beside those of its baselines."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from medmol_diffusion.core import Stepper, Streams
from medmol_diffusion.errors import InputError
from medmol_diffusion.judging.bootstrap import Bootstrap
from medmol_diffusion.judging.cells import interval, number
from medmol_diffusion.mri.batch import VolumeBatch
from medmol_diffusion.mri.generation import Generator
from medmol_diffusion.mri.ssim import WINDOW, max_scales, ms_ssim
from medmol_diffusion.mri.transforms import foreground_mask
from medmol_diffusion.training.validation import chosen

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule

    from medmol_diffusion.mri.model import VolumeDiffusion

WHOLE, HEAD = ("psnr", "ssim", "ms_ssim"), ("head_psnr", "head_ssim", "head_ms_ssim")
MEASURES = (*WHOLE, *HEAD)
"""Of all voxels that are to be made, air too, and of those of the head alone."""
FORMS = {name: ".2f" if name.endswith("psnr") else ".4f" for name in MEASURES}
HEADER = ("answer", "PSNR", "SSIM", "MS-SSIM")
TABLES = {"all voxels that are to be made": WHOLE, "inside the head alone": HEAD}


@dataclass
class Comparison:
    """PSNR, SSIM and MS-SSIM of several answers to the same scans.

    Attributes:
        draws: how many of the model's were averaged.
        subjects: whose each scan is.
        figures: answer -> (scans, len(MEASURES)); the model's first, then the baselines. NaN where a measure has no
            room.
    """

    draws: int
    subjects: list[str] = field(default_factory=list)
    figures: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def ours(self) -> str:
        """The answer that is compared with the baselines: the mean of the draws."""
        return next(iter(self.figures))

    @property
    def baselines(self) -> list[str]:
        return [name for name in self.figures if not name.startswith("model")]

    def by_subject(self, name: str) -> np.ndarray:
        """(subjects, len(MEASURES)) means over the scans of each, of those where a measure has room."""
        groups = np.array(self.subjects)
        return np.stack([_mean(self.figures[name][groups == subject]) for subject in dict.fromkeys(self.subjects)])

    def gain(self, baseline: str) -> tuple[np.ndarray, np.ndarray]:
        """(len(MEASURES),) by how much ``ours`` is above a baseline, and its 95 % interval (2, len(MEASURES)): subjects
        are drawn with replacement, each with both answers."""
        difference = self.by_subject(self.ours) - self.by_subject(baseline)
        known = ~np.isnan(difference)
        return _mean(difference), Bootstrap(len(difference)).ratio(np.where(known, difference, 0.0), known)

    def rows(self, measures: Sequence[str] = WHOLE) -> list[tuple[str, ...]]:
        """A table, WHOLE or HEAD: every answer with its measures, then the gains with their intervals."""
        places = [MEASURES.index(name) for name in measures]
        out = [
            (name, *(number(means[place], FORMS[MEASURES[place]]) for place in places))
            for name in self.figures
            for means in [_mean(self.by_subject(name))]
        ]
        for baseline in self.baselines:
            mean, (lows, highs) = self.gain(baseline)
            cells = []
            for place in places:
                form = "+" + FORMS[MEASURES[place]]
                cells.append(f"{number(mean[place], form)} ({interval(lows[place], highs[place], form)})")
            out.append((f"{self.ours} above {baseline}", *cells))
        return out

    def to_dict(self) -> dict[str, Any]:
        """The same for JSON, with the figures of every scan."""
        gains = {}
        for baseline in self.baselines:
            mean, (low, high) = self.gain(baseline)
            gains[baseline] = {
                measure: {"mean": float(mean[k]), "low": float(low[k]), "high": float(high[k])}
                for k, measure in enumerate(MEASURES)
            }
        answers = {
            name: dict(zip(MEASURES, _mean(self.by_subject(name)).tolist(), strict=True)) for name in self.figures
        }
        scans = {name: figures.tolist() for name, figures in self.figures.items()}
        return {"draws": self.draws, "answers": answers, "gain_over": gains, "subjects": self.subjects, "scans": scans}


@torch.no_grad()
def compare(
    model: "VolumeDiffusion",
    data: "LightningDataModule",
    split: str,
    draws: int = 4,
    steps: int = 50,
    sampler: str | Stepper = "dpm++2m",
    seed: int = 0,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Comparison:
    """Answer what the scans of one part of the data leave open, and measure the answers.

    The figures are of the voxels that the task wants, padding aside, and of those of them that lie in the head
    (transforms.foreground_mask of the true scan). Draw j of a scan depends on (seed, j) and its
    place in the data.

    Args:
        model: of a task, in evaluation mode.
        data: a data module after setup().
        split: "train", "validation" or "test".
        draws: of the model for each scan; the mean of several is measured too, and comes first.
        steps, sampler, seed: as for VolumeDiffusion.sample.
        limit: look at this many scans only, drawn at random, always the same ones.
        progress: called with the number of scans done, after every batch.

    Raises:
        InputError: a model without a task, or that part of the data is empty.
    """
    if model.task is None:
        raise InputError("the model has no task: there is a truth to compare with where something is given of a scan")
    generator = Generator(model, steps=steps, sampler=sampler, seed=seed, batch_size=data.batch_size)  # type: ignore[attr-defined]
    one, mean = ("model", "") if draws == 1 else ("model, one draw", f"model, mean of {draws} draws")
    result = Comparison(draws)
    found: dict[str, list[np.ndarray]] = {}
    places = chosen(data, split, limit)
    subjects = getattr(data, split).subjects
    result.subjects = [subjects[place] for place in places]
    done = 0
    for batch in data.evaluation_dataloader(split, places):  # type: ignore[attr-defined]
        images = model.task.given(batch, Streams(seed, batch.index))
        known = model.given(images, batch.mask)
        answers = torch.stack(
            [
                torch.from_numpy(np.stack(generator.from_noise(known, batch.mask, streams)))[:, None]
                for streams in (Streams(seed + 1 + j, batch.index) for j in range(draws))
            ]
        )
        shown = {mean: answers.mean(0), one: answers[0]} if mean else {one: answers[0]}
        wanted = known.made(batch.mask).cpu()
        heads = torch.stack([torch.from_numpy(foreground_mask(scan.numpy()))[None] for scan in batch.data[:, 0]])
        for name, answer in (shown | model.task.baselines(batch, images)).items():
            found.setdefault(name, []).append(measured(answer, batch, wanted, heads))
        done += len(batch)
        if progress is not None:
            progress(done)
    result.figures = {name: np.concatenate(figures) for name, figures in found.items()}
    return result


def measured(answer: Tensor, batch: VolumeBatch, wanted: Tensor, heads: Tensor) -> np.ndarray:
    """(B, len(MEASURES)) of answers [B, 1, X, Y, Z] to scans, both in [-1, 1]: of the ``wanted`` voxels, and of those
    of them that lie in ``heads``, both bool of that shape."""
    answer = torch.where(wanted, answer, batch.data)
    scans = zip(*(one[:, 0] for one in (answer, batch.data, wanted, heads, batch.mask)), strict=True)
    return np.array(
        [[*_alike(a, b, made, own), *_alike(a, b, made & head, own, within=True)] for a, b, made, head, own in scans]
    )


def _alike(a: Tensor, b: Tensor, inside: Tensor, own: Tensor, within: bool = False) -> list[float]:
    r"""PSNR, SSIM and MS-SSIM of an answer a to a scan b [X, Y, Z] over the voxels ``inside``.

    PSNR is $10 \log_{10} (2^2 / \text{mean squared error})$. SSIM (a Gaussian window of 7^3, in one scale) and MS-SSIM
    (up to three) are of the box round the voxels, and of what lies within reach of a window; ``within``: of the windows
    whose middle is inside. NaN without voxels, or where the box is too small for a window.
    """
    if not inside.any():
        return [math.nan] * 3
    error = (a - b)[inside].double().square().mean().item()
    low, high = _ends(inside)
    first, last = _ends(own)
    box = tuple(
        slice(max(i - WINDOW // 2, f), min(j + WINDOW // 2, g) + 1)
        for i, j, f, g in zip(low, high, first, last, strict=True)
    )
    scales = max_scales(a[box].shape)
    pair, voxels = (a[box][None], b[box][None]), inside[box][None] if within else None
    alike = [ms_ssim(*pair, scales=s, within=voxels).item() if s else math.nan for s in (min(scales, 1), scales)]
    return [10 * math.log10(4 / error) if error else math.inf, *alike]


def _mean(values: np.ndarray) -> np.ndarray:
    """(K,) of rows (n, K), of what is not NaN; NaN where all is."""
    known = ~np.isnan(values)
    sums, counts = np.where(known, values, 0.0).sum(0), known.sum(0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _ends(mask: Tensor) -> tuple[list[int], list[int]]:
    places = mask.nonzero()
    return places.amin(0).tolist(), places.amax(0).tolist()
