"""python -m tests.training.killed CONFIG:FOLDER:PLACE:STEP ...: runs of `medmol fit`, each killed where it is told.

A run is a child of this process, which has imported everything, and ends itself by SIGKILL: nothing of Python or
Lightning tidies up behind it.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from medmol_diffusion.training.checkpoint import WholeFiles
from medmol_diffusion.training.fit import fit
from medmol_diffusion.training.module import DiffusionTask

OPTIONS = {"trainer.max_steps": 11, "trainer.val_check_interval": 3, "checkpoint.every_n_train_steps": 2}
"""Checkpoints at 2, 4, 6, 8, 10 and 11, of which one falls on a validation; several epochs."""


def run(config: Path, folder: Path, *more: str) -> Path:
    """Train; order.txt in the folder says which examples each step saw."""
    options = [f"--{name}={value}" for name, value in OPTIONS.items()]
    with mock.patch.object(DiffusionTask, "training_step", _noting(folder)):
        return fit(["--config", str(config), "--trainer.default_root_dir", str(folder), *options, *more])


def _noting(folder: Path) -> Callable[[DiffusionTask, Any, int], Any]:
    original = DiffusionTask.training_step

    def training_step(task: DiffusionTask, batch: Any, batch_idx: int) -> Any:
        with (folder / "order.txt").open("a") as file:
            file.write(f"{task.global_step} {batch.index.tolist()}\n")
        return original(task, batch, batch_idx)

    return training_step


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at(place: str, step: int) -> Any:
    """A patch that kills this process in the middle of a training step, of a validation or of the writing of a
    checkpoint, or as soon as one is written, after so many steps."""
    if place in ("training_step", "validation_step"):
        whole = getattr(DiffusionTask, place)

        def in_the_middle(task: DiffusionTask, *arguments: Any) -> Any:
            found = whole(task, *arguments)
            return die() if task.global_step == step else found

        return mock.patch.object(DiffusionTask, place, in_the_middle)
    if place == "writing":
        save = torch.save

        def half(content: Any, file: Any) -> None:
            save(content, file)
            if content["global_step"] == step:
                file.truncate(file.tell() // 2)
                file.flush()
                die()

        return mock.patch.object(torch, "save", half)
    write = WholeFiles.save_checkpoint

    def once_written(self: WholeFiles, content: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        write(self, content, path, storage_options)
        if content["global_step"] == step and Path(path).name == "last.ckpt":
            die()

    return mock.patch.object(WholeFiles, "save_checkpoint", once_written)


def main(*runs: str) -> None:
    torch.set_num_threads(1)
    for one in runs:
        config, folder, place, step = one.split(":")
        child = os.fork()
        if not child:
            torch.manual_seed(0)
            with killed_at(place, int(step)):
                run(Path(config), Path(folder) / place)
            os._exit(0)  # it should not have come so far
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), one
        assert os.WTERMSIG(status) == signal.SIGKILL, one


if __name__ == "__main__":
    main(*sys.argv[1:])
