"""What every training step does: draws its own random numbers, keeps a rate, and refuses a loss that is no number."""

import hashlib
import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from medmol_diffusion.errors import InputError


def step_generator(device: torch.device, seed: int, step: int, batch: int, rank: int) -> torch.Generator:
    """Random numbers fixed by (seed, step, batch, rank) alone, so that a resumed run draws what the uninterrupted one
    would have."""
    digest = hashlib.sha256(repr((seed, step, batch, rank)).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "big"))


class NotFinite(InputError):
    """A loss or a weight is no number any more, so that training has to stop."""


def check_finite(loss: Tensor, batch: Any, step: int, path: object = None) -> None:
    """Raises NotFinite with the names of the examples whose ``loss`` [B] is not finite; ``path``: of the data."""
    if torch.isfinite(loss).all():
        return
    bad = (~torch.isfinite(loss)).nonzero()[:, 0].tolist()
    names = getattr(batch, "names", None) or batch.index.tolist()
    of = f" of {path}" if path else ""
    raise NotFinite(
        f"the loss is not finite at step {step} for {', '.join(str(names[i]) for i in bad)}: "
        f"look at these items{of}, lower learning_rate, or train in float32"
    )


def path_of(trainer: pl.Trainer) -> object:
    """Where the data of a run lie, of data modules that know."""
    return getattr(getattr(trainer, "datamodule", None), "path", None)


def rate_factor(step: int, warmup_steps: int, decay_steps: int | None, decay_from: int = 0) -> float:
    """The share of the learning rate at a step: linear warm-up, then a cosine from ``decay_from`` to zero at
    ``decay_steps``; constant when None."""
    warm = min(1.0, (step + 1) / max(1, warmup_steps))
    if decay_steps is None:
        return warm
    done = (step - decay_from) / (decay_steps - decay_from)
    return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, done))))
