"""What every training step does: draws its own random numbers, keeps a rate, and refuses a loss that is no number."""

import hashlib
import math
from dataclasses import dataclass
from typing import Any, Self

import pytorch_lightning as pl
import torch
from torch import Tensor

from medmol_diffusion.core import Streams
from medmol_diffusion.errors import InputError


def step_seed(*key: int) -> int:
    """A seed of the random numbers of one step, fixed by the run's seed, the step and the batch alone, so that a
    resumed run draws what the uninterrupted one would have."""
    return int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:7], "big")


@dataclass(frozen=True)
class Share:
    """What one of several ranks has of a batch (loader.DealtBatches).

    Attributes:
        places: [B] where in the whole batch these examples stand. From ``total`` on it is that of an example that does
            not count, of a rank for which the batch has none.
        total: how many examples the whole batch has.
        ranks: how many share it.
    """

    places: Tensor
    total: int
    ranks: int

    @classmethod
    def of(cls, batch: Any, rank: int, ranks: int) -> Self:
        """Of a batch that does not say how many it is of (``total``), every rank has as many."""
        count = len(batch)
        return cls(torch.arange(rank, rank + ranks * count, ranks), getattr(batch, "total", 0) or count * ranks, ranks)

    @property
    def counted(self) -> int:
        """How many of the examples count: all, or none."""
        return int((self.places < self.total).sum())

    def streams(self, seed: int, device: torch.device) -> Streams:
        """Random numbers by place in the whole batch, so that they do not depend on the number of ranks."""
        return Streams(seed, self.places, self.total, device)

    def mean(self, loss: Tensor) -> Tensor:
        """What this rank adds to the mean of ``loss`` [B] over the whole batch, times the number of ranks: Lightning's
        strategies average gradients over ranks."""
        return loss.mean() * (self.counted * self.ranks / self.total)


def fused(task: pl.LightningModule) -> bool | None:
    """AdamW's ``fused``: on a CPU its one pass is three times as fast as the loop over weights. None, torch's own
    choice, on a GPU and in mixed precision, where Lightning clips no gradients of a fused optimizer."""
    return True if task.device.type == "cpu" and "mixed" not in task.trainer.precision else None


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
