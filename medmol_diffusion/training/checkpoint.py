"""The checkpoints of a run: each appears whole or not at all, holds finite weights, and has its curve beside it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from medmol_diffusion.errors import InputError, one_line
from medmol_diffusion.training.saved import lost_weight
from medmol_diffusion.training.step import NotFinite
from medmol_diffusion.whole_file import whole_file

WEIGHTS = ("state_dict", "current_model_state")
"""What of a checkpoint must be finite: the averaged weights and the raw ones."""
NEEDED = {"epoch", "state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "pytorch-lightning_version"}
"""What a run goes on from."""


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it, so that a kill or a full disk leaves the last good one.

    Lightning's own goes by the system's temporary folder, from which a file reaches another disk by copying.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Raises:
        NotFinite: a weight is NaN or infinite; nothing is written.
        InputError: the disk is full, or the folder cannot be written to; what was there before is left.
        """
        if bad := not_finite(checkpoint):
            raise NotFinite(f"the weight {bad} is not finite after step {checkpoint['global_step']}")
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # the same name again, so that a killed run leaves none for long
            with whole_file(path, f".{path.name}.tmp") as temporary, temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except (OSError, RuntimeError) as error:  # torch says RuntimeError of a disk that is full
            raise InputError(
                f"{path} cannot be written ({one_line(error)}): make room, or name another "
                "trainer.default_root_dir; an earlier checkpoint, if there is one, is whole"
            ) from error


def not_finite(checkpoint: Mapping[str, Any]) -> str | None:
    """The first weight of a checkpoint that is NaN or infinite; None of a sound one."""
    return next((name for key in WEIGHTS if (name := lost_weight(checkpoint.get(key) or {}))), None)


class RunCheckpoint(ModelCheckpoint):
    """ModelCheckpoint from which a run that was killed goes on to the very end that it would have had.

    It also writes last.ckpt when a run stops, wherever every_n_train_steps falls: Lightning's own does so only if it
    never saved before, and after EMA has replaced the raw weights by their average. With the checkpoint the curve is
    written as far as its step. Where a validation is due at the same step, the checkpoint waits for its end: a resumed
    run does not validate again.
    """

    _waits = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._waits = not trainer.should_stop and validation_follows(trainer)
        if not self._waits:
            self._at_step(trainer, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._waits:
            self._waits = False
            self._at_step(trainer, pl_module)
        super().on_validation_end(trainer, pl_module)

    def _at_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_batch_end(trainer, pl_module, None, None, 0)
        if trainer.should_stop or trainer.global_step == trainer.max_steps:
            write_curve(trainer)
            trainer.save_checkpoint(last_checkpoint(self.dirpath))

    def _save_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        write_curve(trainer)
        super()._save_checkpoint(trainer, filepath)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not last_checkpoint(self.dirpath).exists():
            super().on_train_end(trainer, pl_module)


def validation_follows(trainer: pl.Trainer) -> bool:
    """Whether Lightning will validate after the training step that has just ended."""
    loop = trainer.fit_loop
    due = sum(trainer.num_val_batches) and loop.epoch_loop._should_check_val_fx(loop._data_fetcher)  # type: ignore[arg-type]
    return bool(due)


def write_curve(trainer: pl.Trainer) -> None:
    """Log the step in hand, which Lightning does after the callbacks, and write all rows to the disk: the curve of a
    run that is killed must reach as far as its checkpoint. Loggers take the row once (curve.Once)."""
    connector = trainer._logger_connector
    if trainer.training and connector._first_loop_iter is not None:  # at the end of an epoch no step is in hand
        connector.update_train_step_metrics()
    for logger in trainer.loggers:
        logger.save()


def last_checkpoint(folder: object) -> Path:
    return Path(str(folder)) / "last.ckpt"


def step_of(checkpoint: Path) -> int:
    """The number of steps a checkpoint has behind it; it is read as plain tensors.

    Raises:
        InputError: it is missing, no checkpoint, or holds weights that are not finite.
    """
    if not checkpoint.is_file():
        raise InputError(f"there is no checkpoint {checkpoint} to resume from: correct --ckpt_path, or leave it out")
    try:
        found = torch.load(checkpoint, map_location="cpu", weights_only=True)
        step, bad = int(found["global_step"]), not_finite(found)
        if missing := NEEDED - found.keys():
            raise KeyError(missing)
        if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in found["state_dict"].items()):
            raise TypeError("the weights are no tensors with names")
    except Exception as error:  # a damaged or hostile checkpoint fails in as many ways as pickle has
        raise InputError(
            f"{checkpoint} cannot be read as a checkpoint of plain tensors: it is damaged, cut short or not written "
            "by medmol fit; resume from another by --ckpt_path FILE, or start in a new trainer.default_root_dir"
        ) from error
    if bad:
        raise InputError(f"{checkpoint} has weights that are not finite ({bad}): resume from an earlier checkpoint")
    return step
