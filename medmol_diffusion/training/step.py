"""What every training step does: draws its own random numbers, keeps a rate, and refuses a loss that is no number."""

import hashlib
import math
from typing import Any

import torch
from torch import Tensor

from medmol_diffusion.errors import InputError


def step_generator(device: torch.device, seed: int, step: int, batch: int, rank: int) -> torch.Generator:
    """Random numbers fixed by (seed, step, batch, rank) alone, so that a resumed run draws what the uninterrupted one
    would have."""
    digest = hashlib.sha256(repr((seed, step, batch, rank)).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "big"))


def check_finite(loss: Tensor, batch: Any, step: int) -> None:
    """Raises InputError with the names of the examples whose ``loss`` [B] is not finite."""
    if torch.isfinite(loss).all():
        return
    bad = (~torch.isfinite(loss)).nonzero()[:, 0].tolist()
    names = getattr(batch, "names", None) or batch.index.tolist()
    raise InputError(
        f"the loss is not finite at step {step} for {', '.join(str(names[i]) for i in bad)}: "
        "look at these items, lower learning_rate, or train in float32"
    )


def rate_factor(step: int, warmup_steps: int, decay_steps: int | None, decay_from: int = 0) -> float:
    """The share of the learning rate at a step: linear warm-up, then a cosine from ``decay_from`` to zero at
    ``decay_steps``; constant when None."""
    warm = min(1.0, (step + 1) / max(1, warmup_steps))
    if decay_steps is None:
        return warm
    done = (step - decay_from) / (decay_steps - decay_from)
    return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, done))))
