"""A run that was killed, taken up again, ends as the run that nobody killed: every bit, both domains."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from medmol_diffusion.errors import InputError
from medmol_diffusion.training.checkpoint import last_checkpoint, step_of
from medmol_diffusion.training.curve import Curve, read_rows
from medmol_diffusion.training.fit import fit
from tests.training.killed import OPTIONS, run

STATE = (
    *("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers", "global_step"),
    "epoch",
)
SCHEDULE = {"class_path": "medmol_diffusion.core.LearnedSchedule", "init_args": {"gamma_0": -9.0, "hidden": 8}}
DATA = {"molecules": {}, "volumes": {"batch_size": 1, "flip": True, "shift": 1}}


def config(domain: str, request: pytest.FixtureRequest, folder: Path) -> Path:
    """The tiny run of a domain with a learned schedule, and augmented scans."""
    content = yaml.safe_load(request.getfixturevalue(f"{domain.removesuffix('s')}_config").read_text())
    content["model"]["model"]["init_args"]["schedule"] = SCHEDULE
    content["data"]["init_args"].update(DATA[domain])
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def order(folder: Path) -> list[str]:
    return (folder / "order.txt").read_text().splitlines()


@pytest.mark.parametrize("domain", DATA)
def test_a_killed_run_ends_as_the_one_that_was_never_killed(
    domain: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    file = config(domain, request, tmp_path)
    whole = run(file, tmp_path / "whole")
    rows, steps = read_rows(whole / "metrics.csv"), OPTIONS["trainer.max_steps"]
    assert [row["step"] for row in rows if "train/loss" in row] == [str(step) for step in range(steps)]
    assert [row["step"] for row in rows if "val/total" in row] == ["2", "5", "8"]
    assert len({row["epoch"] for row in rows}) > 1
    random = int(np.random.default_rng(len(domain)).integers(3, steps))
    # place -> (after how many steps it is killed, the step it goes on from)
    places = {
        "training_step": (random, random // 2 * 2),
        "validation_step": (6, 4),  # the checkpoint waits for the validation
        "writing": (8, 6),
        "written": (4, 4),
    }
    killed = [sys.executable, "-m", "tests.training.killed", str(file), str(tmp_path)]
    said = subprocess.run(
        [*killed, *(f"{place}:{step}" for place, (step, _) in places.items())], check=False, capture_output=True
    )
    assert said.returncode == 0, said.stderr.decode()[-2000:]
    a: dict[str, Any] = torch.load(last_checkpoint(whole / "checkpoints"), weights_only=True)
    for place, (_, start) in places.items():
        folder = tmp_path / place
        assert step_of(last_checkpoint(folder / "checkpoints")) == start
        (folder / "order.txt").unlink()
        run(file, folder, "--ckpt_path", "last")
        b = torch.load(last_checkpoint(folder / "checkpoints"), weights_only=True)
        for key in STATE:
            torch.testing.assert_close(b[key], a[key], rtol=0, atol=0, msg=lambda text, at=(place, key): f"{at} {text}")
        assert read_rows(folder / "metrics.csv") == rows, place
        assert order(folder) == order(whole)[start:], place
