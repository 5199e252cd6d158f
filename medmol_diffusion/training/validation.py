"""The likelihood table: a model's -log p over a set of examples, every term with its standard error."""

import math
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import pytorch_lightning as pl
import torch
from rich.table import Table
from torch import Tensor

from medmol_diffusion.core import Elbo
from medmol_diffusion.core.elbo import LN2, SUBTRACTED
from medmol_diffusion.errors import InputError
from medmol_diffusion.plural import counted
from medmol_diffusion.training.folder import all_as_in_training, data_to_validate
from medmol_diffusion.training.generative import GenerativeModel
from medmol_diffusion.training.saved import build

Measures = dict[str, tuple[float, float]]
"""name -> (mean over the examples, its standard error)"""
SPLITS = ("all", "train", "validation", "test")


def open_data(
    model: GenerativeModel,
    source: str,
    path: str | None,
    split: str | None,
    conditional: bool = False,
    skip: bool = False,
) -> tuple[pl.LightningDataModule, str]:
    """The data to validate on, set up, and the split to take.

    Without a path or with a split, the data module of the run's own config (its ``path`` replaced, if one is given).
    Examples of all of a path that the model cannot hold are an error, or left out with ``skip``. Those that come with
    others are read as the run's own data were.

    Raises:
        InputError: what ``data_to_validate`` raises, or the data module.
    """
    split, config = data_to_validate(source, path, split, skip)
    if config is None and model.reads_beside:
        data, split = build(all_as_in_training(source, str(path)), pl.LightningDataModule), "train"
    elif config is None:
        open_all = model.open_conditional_data if conditional else model.open_data
        data, split = open_all(str(path), skip), "train"  # where they put everything
    else:
        data = build(config, pl.LightningDataModule)
    data.setup("validate")
    return data, split


def validate_model(
    model: GenerativeModel,
    data: pl.LightningDataModule,
    split: str,
    steps: int | None,
    draws: int | Literal["exact"] | None,
    seed: int,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    method: str = "bound",
    conditional: bool = False,
) -> Elbo:
    """-log p over one part of the data: the figure depends on the seed and on the examples, not on their batches.

    Args:
        model: in evaluation mode.
        data: a data module after setup().
        split: "train", "validation" or "test".
        steps, draws, seed: of GenerativeModel.nll; None for the model's own.
        limit: look at this many examples only, drawn at random, always the same ones.
        progress: called with (examples done, examples in all).
        method: "bound", "iwae" or "flow".
        conditional: as for GenerativeModel.nll.

    Raises:
        InputError: that part of the data is empty, or what GenerativeModel.nll raises.
    """
    rows = chosen(data, split, limit)
    bounds: list[Elbo] = []
    done = 0
    for batch in data.evaluation_dataloader(split, rows):  # type: ignore[attr-defined]
        bounds.append(model.nll(batch.to(model.device), method, steps, draws, seed, conditional))
        done += len(batch)
        if progress is not None:
            progress(done, len(rows))
    return Elbo.concatenate(bounds)


@torch.no_grad()
def validate_baseline(
    model: GenerativeModel, data: pl.LightningDataModule, split: str, limit: int | None = None, seed: int = 0
) -> Tensor | None:
    """[examples] nats of the model's baseline on what validate_model looks at, in its order; None without one."""
    loader = data.evaluation_dataloader(split, chosen(data, split, limit))  # type: ignore[attr-defined]
    found = [model.baseline(batch.to(model.device), seed) for batch in loader]
    known = [nats for nats in found if nats is not None]
    return torch.cat(known).cpu() if known else None


@torch.no_grad()
def validate_measures(
    model: GenerativeModel, data: pl.LightningDataModule, split: str, limit: int | None = None, seed: int = 0
) -> Measures:
    """GenerativeModel.measures on what validate_model looks at."""
    loader = data.evaluation_dataloader(split, chosen(data, split, limit))  # type: ignore[attr-defined]
    found = [model.measures(batch.to(model.device), seed) for batch in loader]
    pooled = {name: torch.cat([one[name] for one in found]) for name in found[0]}
    return {
        name: (v.mean().item(), (v.std() / len(v) ** 0.5).item() if len(v) > 1 else math.nan)
        for name, v in pooled.items()
    }


def chosen(data: pl.LightningDataModule, split: str, limit: int | None) -> np.ndarray:
    """The places of the examples that are looked at: all, or ``limit`` of them drawn at random, always the same ones.

    Raises:
        InputError: that part of the data is empty.
    """
    count = len(getattr(data, split))
    if not count:
        raise InputError(f"the {split} part of the data is empty: choose another --split, or give --data PATH")
    return np.sort(np.random.default_rng(0).permutation(count)[:limit])


TITLES = {
    "bound": "-log p <= total",
    "iwae": "-log p <= total on average over draws (importance-weighted bound)",
    "flow": "estimate of -log p by the probability flow, not a bound on that of the sampler's reverse process",
}


def effort(bound: Elbo) -> str:
    """What a figure cost, in words."""
    settings = bound.settings
    draws = f"{settings['draws']:.0f}"
    if settings.get("exact"):
        return f"T = {settings['transitions']:.0f}, the sum over all of them, one noise draw each"
    if "transitions" not in settings and bound.method != "flow":
        return f"{draws} draw(s) of the latent each"
    if bound.method == "flow":
        return f"{settings['steps']:.0f} steps of order {settings['order']:.0f}, {draws} z_0 and probe(s) each"
    time = f"T = {settings['transitions']:.0f}" if settings["transitions"] else "continuous time"
    return f"{time}, {draws} {'trajectories' if bound.method == 'iwae' else 'noise draw(s)'} each"


def summary(bound: Elbo) -> dict[str, tuple[float, float]]:
    """Elbo.summary, with the larger of two standard errors for the total and the total per dimension.

    One is that of the examples, which holds the spread of the draws too, but of a few examples can come out below it by
    chance; the other is that of the draws alone (Elbo.draw_error), a known part of it. For a single example it is NaN.
    """
    found = bound.summary()
    for name, unit in (("total", 1.0), ("nats_per_dim", bound.dim), ("bits_per_dim", bound.dim * LN2)):
        mean, error = found[name]
        of_draws = (bound.draw_variance / unit**2).sum().sqrt().item() / len(bound.total)
        found[name] = mean, of_draws if of_draws > error else error  # either may be NaN
    return found


ENOUGH = 0.05
"""Standard error of a mean total, as a share of it, up to which ``doubt`` is silent; below one nat it always is."""


def doubt(bound: Elbo) -> str | None:
    """What to say of a mean total whose standard error (``summary``) is above 1 nat and above 5 % of it, or of that
    error itself where nobody can know it; None of a figure that can be quoted, and of the exact sum of one example.

    The cure follows from where the error comes from: its larger part is that of the draws (Elbo.draw_error), or else
    that of the examples.
    """
    mean, error = summary(bound)["total"]
    of_draws, count = bound.draw_error, len(bound.total)
    known = [one for one in (error, of_draws) if not math.isnan(one)]
    if not known and bound.settings.get("exact"):
        return None
    if not known:
        return "the standard error of the total is not known from one draw of one example: take more of both"
    if (largest := max(known)) <= max(1.0, ENOUGH * abs(mean)):
        return None
    exact = bound.method == "bound" and bound.settings.get("transitions") and not bound.settings.get("exact")
    draws = "more --draws" + (", or --draws exact" if exact else "")
    if of_draws**2 > 0.5 * largest**2:
        cure = draws
    else:
        cure = "more examples"  # one draw each does not say how much of the error is its own
        cure += f" and {draws}" if math.isnan(of_draws) and not bound.settings.get("exact") else ""
    return f"the total {mean:.4g} is known to +- {largest:.3g} nats only, from {counted(count, 'example')}: take {cure}"


def bound_table(
    model: GenerativeModel,
    bound: Elbo,
    baseline: Tensor | None = None,
    measures: Measures | None = None,
    names: Mapping[str, str] | None = None,
) -> Table:
    """Every term, the total, per degree of freedom, with their standard errors (``summary``: of the total the larger
    of two; a dash where there is none), what the baseline gets, and the model's other ``measures``; the title says what
    the total is, the settings stand in the caption. names: what blocks of the state are called in it, where that is not
    their own name."""
    settings = bound.settings
    drawn = "" if math.isnan(bound.draw_error) else f"; standard error of the draws alone {bound.draw_error:.4f} nats"
    title = TITLES[bound.method]
    if settings.get("conditional"):
        title = title.replace("-log p", f"-log p(x | its own {', '.join(model.questions)})")
    levels = "gamma_0 = {gamma_0:.4f}, gamma_1 = {gamma_1:.4f}, ".format(**settings) if "gamma_0" in settings else ""
    table = Table(
        "term",
        "mean",
        "standard error",
        "unit",
        title=f"{title}: {counted(len(bound.total), 'example')}, {model.unit}",
        caption=f"{levels}{effort(bound)}{drawn}; degrees of freedom: mean {bound.dim.mean().item():.1f}",
    )
    units = {"nats_per_dim": "nats / degree of freedom", "bits_per_dim": "bits / degree of freedom"}
    for name, (mean, error) in summary(bound).items():
        sign = "-" if name in SUBTRACTED else ""
        table.add_row(f"{sign}{name}", f"{mean:.4f}", _known(error), units.get(name, "nats"))
    if bound.blocks:
        table.add_section()
        for name, (mean, error) in bound.block_summary().items():
            part, _, block = name.partition("/")
            title = f"of {part}: {(names or {}).get(block, block).replace('_', ' ')}"
            table.add_row(title, f"{mean:.4f}", _known(error), "nats")
    if baseline is not None:
        table.add_section()
        for name, (mean, error) in baseline_summary(model, bound, baseline).items():
            table.add_row(name, f"{mean:.4f}", _known(error), units["bits_per_dim"])
    if measures:
        table.add_section()
        for name, (mean, error) in measures.items():
            table.add_row(name, f"{mean:.4f}", _known(error), "")
    return table


def _known(error: float) -> str:
    return "-" if math.isnan(error) else f"{error:.4f}"


def baseline_summary(model: GenerativeModel, bound: Elbo, baseline: Tensor) -> dict[str, tuple[float, float]]:
    """name -> (mean over the examples, its standard error) of the baseline in bits per degree of freedom, and of what
    the bound is below it, paired by example."""
    bits = baseline / (bound.dim * LN2)
    rows = {model.baseline_name: bits, "gain over it": bits - bound.bits_per_dim}
    count = len(bits)
    return {
        name: (values.mean().item(), (values.std() / count**0.5).item() if count > 1 else math.nan)
        for name, values in rows.items()
    }
