"""The learning rate over a run: a warm-up, a constant stretch, a cosine to zero."""

import math
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import MoleculeDiffusion
from medmol_diffusion.training.module import DiffusionTask


def rates(run: Path, steps: int, **settings: Any) -> list[float]:
    task = DiffusionTask(MoleculeDiffusion.from_pretrained(run), learning_rate=2.0, **settings)
    task.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    parts: Any = task.configure_optimizers()
    optimizer, scheduler = parts["optimizer"], parts["lr_scheduler"]["scheduler"]
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_the_rate_rises_stays_and_falls_where_it_is_told_to(molecule_run: Path) -> None:
    found = rates(molecule_run, 13, warmup_steps=4, decay_from=6, decay_steps=12)
    cosine = [1 + math.cos(math.pi * k / 6) for k in range(7)]
    assert found == pytest.approx([0.5, 1, 1.5, 2, 2, 2, *cosine])
    assert rates(molecule_run, 6, warmup_steps=4) == found[:6]


def test_without_a_constant_stretch_the_cosine_begins_at_once(molecule_run: Path) -> None:
    found = rates(molecule_run, 6, warmup_steps=0, decay_steps=4)
    torch.testing.assert_close(found, [1 + math.cos(math.pi * k / 4) for k in (0, 1, 2, 3, 4, 4)])


@pytest.mark.parametrize("settings", [{"decay_from": 5}, {"decay_from": 5, "decay_steps": 5}])
def test_a_decay_that_never_ends_or_ends_before_it_begins_is_refused(molecule_run: Path, settings: Any) -> None:
    with pytest.raises(InputError, match="decay_from = 5 needs a model"):
        rates(molecule_run, 1, **settings)
