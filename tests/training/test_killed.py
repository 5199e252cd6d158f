"""A run that was killed, taken up again, ends as the run that nobody killed: every bit, both domains."""

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from medmol_diffusion.cli import main
from medmol_diffusion.errors import InputError
from medmol_diffusion.training.checkpoint import last_checkpoint, step_of
from medmol_diffusion.training.curve import Curve, read_rows
from medmol_diffusion.training.fit import fit
from medmol_diffusion.training.module import DiffusionTask
from tests.training.killed import OPTIONS, run

STATE = (
    *("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers", "global_step"),
    "epoch",
)
SCHEDULE = {"class_path": "medmol_diffusion.core.LearnedSchedule", "init_args": {"gamma_0": -9.0, "hidden": 8}}
DATA = {"molecules": {}, "volumes": {"batch_size": 1, "flip": True, "shift": 1}}


RANDOM = int(np.random.default_rng(7).integers(3, OPTIONS["trainer.max_steps"]))
# place -> (after how many steps a run is killed, the step it goes on from)
PLACES = {
    "training_step": (RANDOM, RANDOM // 2 * 2),
    "validation_step": (6, 4),  # the checkpoint waits for the validation
    "writing": (8, 6),
    "written": (4, 4),
}


KILLED = {"molecules": tuple(PLACES), "volumes": ("training_step", "written")}
"""Where: how a checkpoint is written does not know of the domain."""


@pytest.fixture(scope="module")
def killed(molecule_config: Path, volume_config: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Domain -> a folder with a config, of a learned schedule and augmented scans, and the runs that were killed."""
    folders = {domain: tmp_path_factory.mktemp(f"killed-{domain}") for domain in DATA}
    for (domain, folder), source in zip(folders.items(), (molecule_config, volume_config), strict=True):
        content = yaml.safe_load(source.read_text())
        content["model"]["model"]["init_args"]["schedule"] = SCHEDULE
        content["data"]["init_args"].update(DATA[domain])
        (folder / "config.yaml").write_text(yaml.safe_dump(content))
    runs = [f"{folders[d]}/config.yaml:{folders[d]}:{at}:{PLACES[at][0]}" for d in DATA for at in KILLED[d]]
    said = subprocess.run([sys.executable, "-m", "tests.training.killed", *runs], check=False, capture_output=True)
    assert said.returncode == 0, said.stderr.decode()[-2000:]
    return folders


def order(folder: Path) -> list[str]:
    return (folder / "order.txt").read_text().splitlines()


@pytest.mark.parametrize("domain", DATA)
def test_a_killed_run_ends_as_the_one_that_was_never_killed(domain: str, killed: dict[str, Path]) -> None:
    file = killed[domain] / "config.yaml"
    whole = run(file, killed[domain] / "whole")
    rows, steps = read_rows(whole / "metrics.csv"), OPTIONS["trainer.max_steps"]
    assert [row["step"] for row in rows if "train/loss" in row] == [str(step) for step in range(steps)]
    assert [row["step"] for row in rows if "val/total" in row] == ["2", "5", "8"]
    assert len({row["epoch"] for row in rows}) > 1
    a: dict[str, Any] = torch.load(last_checkpoint(whole / "checkpoints"), weights_only=True)
    for place in KILLED[domain]:
        _, start = PLACES[place]
        folder = killed[domain] / place
        assert step_of(last_checkpoint(folder / "checkpoints")) == start
        assert order(folder)[:start] == order(whole)[:start]
        (folder / "order.txt").unlink()
        run(file, folder, "--ckpt_path", "last")
        b = torch.load(last_checkpoint(folder / "checkpoints"), weights_only=True)
        for key in STATE:
            torch.testing.assert_close(b[key], a[key], rtol=0, atol=0, msg=lambda text, at=(place, key): f"{at} {text}")
        assert read_rows(folder / "metrics.csv") == rows, place
        assert order(folder) == order(whole)[start:], place
        assert not list(folder.rglob("*.tmp")), place  # the half that was written


LONGER = ["--trainer.max_steps", "4", "--trainer.val_check_interval", "8"]


def test_a_full_disk_leaves_the_last_good_checkpoint(
    molecule_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The disk is full from the second checkpoint on: medmol says so and ends with exit code 2; the run can go on."""
    save = torch.save

    def full(content: Any, file: Any) -> None:
        if content["global_step"] > 2:
            file.write(b"half of it")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(content, file)

    arguments = ["fit", "--config", str(molecule_config), "--trainer.default_root_dir", str(tmp_path), *LONGER]
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(SystemExit) as end:
            main(arguments)
    assert end.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert said.startswith("error: ")
    assert "No space left on device" in said
    assert "make room" in said
    last = last_checkpoint(tmp_path / "checkpoints")
    assert step_of(last) == 2
    assert {file.name for file in last.parent.iterdir()} == {"last.ckpt", "epoch=0-step=2.ckpt"}
    main([*arguments, "--ckpt_path", "last"])
    assert step_of(last) == 4


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("domain", DATA)
def test_a_loss_that_is_no_number_names_the_last_finite_checkpoint(
    domain: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = request.getfixturevalue(f"{domain.removesuffix('s')}_config")
    arguments = ["--config", str(file), "--trainer.default_root_dir", str(tmp_path), *LONGER]
    training_step, named = DiffusionTask.training_step, []

    def lost(task: DiffusionTask, batch: Any, batch_idx: int) -> Any:
        """NaN in step 3."""
        if task.global_step == 3:
            named.extend(map(str, getattr(batch, "names", None) or batch.index.tolist()))
            loss = task.model.loss
            task.model.loss = lambda *given: loss(*given) * torch.nan  # type: ignore[method-assign]
        return training_step(task, batch, batch_idx)

    monkeypatch.setattr(DiffusionTask, "training_step", lost)
    with pytest.raises(InputError, match="the loss is not finite at step 3 for") as error:
        fit(arguments)
    last = last_checkpoint(tmp_path / "checkpoints")
    assert f"the last finite checkpoint is {last}, after step 2" in str(error.value)
    assert f" for {', '.join(named)}: " in str(error.value)
    assert str(yaml.safe_load(file.read_text())["data"]["init_args"]["path"]) in str(error.value)


def test_weights_that_are_no_numbers_do_not_take_the_place_of_a_finite_checkpoint(
    molecule_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are lost in step 4, of a finite loss: the checkpoint after it is not written."""
    arguments = ["--config", str(molecule_config), "--trainer.default_root_dir", str(tmp_path), *LONGER]
    training_step = DiffusionTask.training_step

    def spoilt(task: DiffusionTask, batch: Any, batch_idx: int) -> Any:
        loss = training_step(task, batch, batch_idx)
        return loss if task.global_step < 3 else loss + next(task.parameters()).sum() * torch.inf * 0

    monkeypatch.setattr(DiffusionTask, "training_step", spoilt)
    last = last_checkpoint(tmp_path / "checkpoints")
    with pytest.raises(InputError, match="is not finite after step 4; the last finite checkpoint is") as error:
        fit(arguments)
    assert f"{last}, after step 2" in str(error.value)
    state = torch.load(last, weights_only=True)
    name = next(name for name in state["state_dict"] if f"weight {name} " in str(error.value))
    state["state_dict"][name].fill_(torch.nan)
    torch.save(state, last)
    with pytest.raises(InputError, match=f"{name}.*resume from an earlier checkpoint"):
        fit([*arguments, "--ckpt_path", "last"])


def test_a_torn_curve_goes_on_from_its_whole_rows(tmp_path: Path) -> None:
    """A killed run leaves half a line; the resumed one drops it, and what comes from its step on."""
    file = tmp_path / "metrics.csv"
    file.write_text("epoch,step,train/loss\r\n0,0,1.5\r\n0,1,1.25\r\n0,2,1.0\r\n0,3,0.7")
    assert [row["step"] for row in read_rows(file)] == ["0", "1", "2"]
    curve = Curve(str(tmp_path), start=2)
    for _ in range(2):  # once before the checkpoint, once after
        curve.log_metrics({"epoch": 0, "train/loss": 0.5}, 2)
    curve.log_metrics({"epoch": 0, "val/total": 9.0}, 2)  # a new column: the file is written anew
    curve.save()
    assert file.read_text().splitlines()[0] == "epoch,step,train/loss,val/total"
    assert [tuple(row.values()) for row in read_rows(file)] == [
        ("0", "0", "1.5"), ("0", "1", "1.25"), ("0", "2", "0.5"), ("0", "2", "9.0"),
    ]  # fmt: skip
    for torn in ("", "epoch,st"):
        file.write_text(torn)
        assert read_rows(file) == []
