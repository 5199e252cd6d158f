"""Trial: a few steps of the run that a config describes, in a folder that goes away, timed and weighed."""

from dataclasses import dataclass
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch

from medmol_diffusion.errors import InputError
from medmol_diffusion.training import memory
from medmol_diffusion.training.fit import FitCLI, assemble, quiet

STEPS = 4
"""The first warms up and is not timed."""


@dataclass(frozen=True)
class Trial:
    """What a run will cost.

    Attributes:
        model: its class.
        parameters: numbers that are trained.
        device: where.
        batch: examples in a step, the most of those tried.
        loss: of the last step.
        seconds: of a step, the median.
        peak: bytes held at most during a step; on a CPU by the whole process, data included.
        available: bytes there were to have before it; None where nobody says.
        max_steps: of the run; None where it ends otherwise.
        data: what the data say of themselves, in words.
    """

    model: str
    parameters: int
    device: str
    batch: int
    loss: float
    seconds: float
    peak: int
    available: int | None
    max_steps: int | None
    data: list[tuple[str, str]]

    def rows(self) -> list[tuple[str, str]]:
        """(figure, value) for a table."""
        gib = f"{self.peak / memory.GIB:.2f} GiB"
        if self.available is not None:
            gib += f", of {self.available / memory.GIB:.1f} GiB that were free"
        time = f"{self.seconds:.3g} s"
        if self.max_steps is not None:
            time += f", {self.max_steps} steps {self.seconds * self.max_steps / 3600:.2g} h without validation"
        return [
            *self.data,
            ("model", f"{self.model}, {self.parameters:,} parameters"),
            ("a training step", f"{time}; {self.batch} examples on {self.device}"),
            ("memory, at most", gib),
            ("loss at first", f"{self.loss:.4g}"),
        ]


class Stopwatch(pl.Callback):
    """Seconds, memory, loss and examples of every step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self.peak = self.batch = 0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)
        memory.restart_peak()
        self.began = perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(float(outputs["loss"]))  # waits for the device
        self.seconds.append(perf_counter() - self.began)
        cuda = pl_module.device.type == "cuda"
        self.peak = max(self.peak, torch.cuda.max_memory_allocated(pl_module.device) if cuda else memory.peak())
        self.batch = max(self.batch, len(batch))


class TrialCLI(FitCLI):
    """FitCLI of a run of STEPS steps, without validation, in a temporary folder; what it refuses, it refuses too."""

    def before_instantiate_classes(self) -> None:
        super().before_instantiate_classes()
        self.max_steps = self.config.trainer.max_steps
        self.folder = TemporaryDirectory()
        self.config.checkpoint.dirpath = self.config.trainer.default_root_dir = self.folder.name
        self.config.trainer.max_steps = STEPS
        self.config.trainer.max_epochs = -1
        self.config.trainer.num_sanity_val_steps = 0
        self.config.trainer.limit_val_batches = 0
        self.config.trainer.enable_progress_bar = False


def trial(arguments: list[str], available: int | None = None) -> Trial:
    """Build what the command line of `medmol fit` describes, train it for STEPS steps, and leave nothing behind.

    Args:
        arguments: as of `medmol fit`.
        available: bytes that it may take beyond what the process holds; by default, on a CPU, those that are free.

    Raises:
        InputError: the run would fail: what `fit` raises, or too little memory.
    """
    with quiet():
        cli = assemble(TrialCLI, arguments)
        with cli.folder:
            device = cli.trainer.strategy.root_device
            watch = Stopwatch()
            cli.trainer.callbacks.append(watch)  # type: ignore[attr-defined]
            cpu = device.type == "cpu"
            free: int | None = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None
            if cpu:
                free = memory.available() if available is None else available
            try:
                with memory.at_most(free if cpu else None):
                    cli.trainer.fit(cli.model, cli.datamodule)
            except (RuntimeError, MemoryError) as error:
                if not (isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "allocate memory" in str(error)):
                    raise
                had = "what is free" if free is None else f"the {free / memory.GIB:.1f} GiB that are free"
                raise InputError(
                    f"a training step needs more memory than {had}: lower data.batch_size, the grid (data.shape and "
                    "model.model.shape), or the network's channels"
                ) from error
            if not watch.losses:
                raise InputError("the data give no batch to train on: lower data.batch_size or add examples")
            model = cli.model.model
            return Trial(
                model=type(model).__name__,
                parameters=sum(weights.numel() for weights in model.parameters() if weights.requires_grad),
                device=str(device),
                batch=watch.batch,
                loss=watch.losses[-1],
                seconds=float(np.median(watch.seconds[1:] or watch.seconds)),
                peak=watch.peak,
                available=free,
                max_steps=cli.max_steps if (cli.max_steps or -1) > 0 else None,  # -1 is no limit
                data=cli.datamodule.describe(),
            )
