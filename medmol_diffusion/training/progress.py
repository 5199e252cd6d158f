"""The progress bar of a training run: steps, not epochs, and the time that is left."""

import math
from typing import Any

import pytorch_lightning as pl

from medmol_diffusion.progress import Bar
from medmol_diffusion.training.names import TRAIN_LOSS


class StepBar(pl.Callback):
    """One bar over all optimiser steps of the run, with the last loss; drawn by the first rank."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        steps = trainer.estimated_stepping_batches
        total = None if math.isinf(steps) else int(steps)
        self.bar = Bar("training", total, trainer.global_step, disable=not trainer.is_global_zero)
        self.bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = trainer.callback_metrics.get(TRAIN_LOSS)
        self.bar.reach(trainer.global_step, "" if loss is None else f"loss {float(loss):.4f}")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.bar.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if hasattr(self, "bar"):
            self.bar.stop()
