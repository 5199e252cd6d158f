"""The progress bar of a training run: steps, not epochs, and the time that is left."""

import math
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from medmol_diffusion.training.names import TRAIN_LOSS


class StepBar(pl.Callback):
    """One rich bar over all optimiser steps of the run, with the last loss; drawn by the first rank on stderr."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        steps = trainer.estimated_stepping_batches
        columns = (
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        console = Console(stderr=True)
        self.bar = Progress(
            *columns, TextColumn("{task.fields[loss]}"), console=console, disable=not trainer.is_global_zero
        )
        total = None if math.isinf(steps) else int(steps)
        self.task = self.bar.add_task("training", total=total, completed=trainer.global_step, loss="")
        self.bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = trainer.callback_metrics.get(TRAIN_LOSS)
        shown = "" if loss is None else f"loss {float(loss):.4f}"
        self.bar.update(self.task, completed=trainer.global_step, loss=shown)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.bar.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if hasattr(self, "bar"):
            self.bar.stop()
