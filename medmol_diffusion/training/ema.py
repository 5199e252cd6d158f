"""Exponential moving average of the weights."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch import Tensor


class EMA(WeightAveraging):
    """Averaged weights w <- d w + (1 - d) w_now after every step, with d = min(decay, (1 + n) / (10 + n)) after n
    steps.

    The warm-up keeps the random start out of short runs. Validation, checkpoints (``state_dict``) and exports use the
    average; a resumed run continues both it and the raw weights (Lightning's WeightAveraging).

    Args:
        decay: the limit of d; None for no averages, in which case `medmol fit` leaves this callback out.

    Raises:
        ValueError: decay is not in [0, 1).
    """

    def __init__(self, decay: float | None = 0.999) -> None:
        if decay is not None and not 0 <= decay < 1:
            raise ValueError(f"ema.decay = {decay} must lie in [0, 1), or be null for no averages")
        self.decay = decay

        @torch.no_grad()
        def average(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
            """All tensors at once, with d left on the device: a step waits for nothing."""
            d = torch.as_tensor((1 + count) / (10 + count)).clamp(max=decay).to(averaged[0])
            torch._foreach_mul_(averaged, d)
            torch._foreach_add_(averaged, torch._foreach_mul(current, 1 - d))

        # Buffers are measured on the data, not learned: they are copied.
        super().__init__(use_buffers=False, multi_avg_fn=average)


def begin_at_raw_weights(trainer: pl.Trainer, checkpoint: dict[str, Any]) -> None:
    """A run that goes on without averages goes on from the raw weights of its checkpoint, as its optimiser does."""
    if not any(isinstance(callback, EMA) for callback in trainer.callbacks):  # type: ignore[attr-defined]
        checkpoint["state_dict"] = checkpoint.get("current_model_state", checkpoint["state_dict"])
