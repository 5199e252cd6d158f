"""The likelihood table: a model's bound over a set of examples, every term with its standard error."""

import math
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from rich.table import Table

from medmol_diffusion.core import Elbo
from medmol_diffusion.errors import InputError
from medmol_diffusion.training.model import DiffusionModel
from medmol_diffusion.training.saved import build, read_data_config

SPLITS = ("all", "train", "validation", "test")


def open_data(
    model: DiffusionModel, source: str, path: str | None, split: str | None
) -> tuple[pl.LightningDataModule, str]:
    """The data to validate on, set up, and the split to take.

    Without a path or with a split, the data module of the run's own config (its ``path`` replaced, if one is given).

    Raises:
        InputError: neither a path nor a run folder that names its data.
    """
    split = split or ("all" if path else "test")
    if split == "all":
        if path is None:
            raise InputError("--split all needs --data PATH")
        data = model.open_data(path)
        split = "train"  # where open_data puts everything
    else:
        config = read_data_config(source)
        if path is not None:
            config["init_args"]["path"] = path
        data = build(config, pl.LightningDataModule)
    data.setup("validate")
    return data, split


def validate_model(
    model: DiffusionModel,
    data: pl.LightningDataModule,
    split: str,
    transitions: int,
    draws: int | None,
    seed: int,
    limit: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Elbo:
    """The bound over one part of the data: the figure depends on the seed and on the examples, not on their batches.

    Args:
        model: in evaluation mode.
        data: a data module after setup().
        split: "train", "validation" or "test".
        transitions, draws, seed: of the bound.
        limit: stop once this many examples are done.
        progress: called with (examples done, examples in all).

    Raises:
        InputError: that part of the data is empty.
    """
    loaders: dict[str, Any] = {
        "train": data.train_dataloader,
        "validation": data.val_dataloader,
        "test": data.test_dataloader,
    }
    total = len(getattr(data, split))
    total = min(total, limit or total)
    bounds: list[Elbo] = []
    done = 0
    for batch in loaders[split]() if total else []:
        bound = model.elbo(batch.to(model.device), transitions, draws, seed)
        bounds.append(bound)
        done += len(batch)
        if progress is not None:
            progress(min(done, total), total)
        if done >= total:
            break
    if not bounds:
        raise InputError(f"the {split} part of the data is empty: choose another --split, or give --data PATH")
    return Elbo.concatenate(bounds).take(total)


def bound_table(model: DiffusionModel, bound: Elbo) -> Table:
    """Every term, the total, per degree of freedom, with standard errors; the settings stand in the caption."""
    settings = bound.settings
    draws = "" if math.isnan(bound.draw_error) else f" (their standard error: {bound.draw_error:.3f} nats)"
    time = f"T = {settings['transitions']:.0f}" if settings["transitions"] else "continuous time"
    table = Table(
        "term",
        "mean",
        "standard error",
        "unit",
        title=f"-log p <= total: {len(bound.total)} examples, {model.unit}",
        caption=f"gamma_0 = {settings['gamma_0']:.4f}, gamma_1 = {settings['gamma_1']:.4f}, {time}, "
        f"{settings['draws']:.0f} noise draw(s) each{draws}; degrees of freedom: mean {bound.dim.mean().item():.1f}",
    )
    units = {"nats_per_dim": "nats / degree of freedom", "bits_per_dim": "bits / degree of freedom"}
    for name, (mean, error) in bound.summary().items():
        sign = "-" if name == "log_volume" else ""
        table.add_row(f"{sign}{name}", f"{mean:.4f}", f"{error:.4f}", units.get(name, "nats"))
    return table
