"""What `medmol fit` leaves behind: logs, averaged weights, and runs that go on as if they had never stopped."""

import os
import pickle
import signal
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import yaml
from torch import Tensor, nn

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import MoleculeData, MoleculeDiffusion
from medmol_diffusion.mri import VolumeData, VolumeDiffusion
from medmol_diffusion.training.curve import read_rows
from medmol_diffusion.training.ema import EMA
from medmol_diffusion.training.fit import fit
from medmol_diffusion.training.folder import read_data_config
from medmol_diffusion.training.model import DiffusionModel
from medmol_diffusion.training.module import DiffusionTask
from medmol_diffusion.training.names import LOGGED
from medmol_diffusion.training.saved import build, export_model


def test_logged_names_are_pinned_and_are_what_runs_log(molecule_run: Path, volume_run: Path) -> None:
    terms = ("total", "prior", "diffusion", "reconstruction", "log_volume", "size", "nats_per_dim", "bits_per_dim")
    assert set(LOGGED) == {"train/loss", "train/learning_rate", *(f"val/{term}" for term in terms)}
    names = [
        {name for row in read_rows(run / "metrics.csv") for name in row} - {"epoch", "step"}
        for run in (molecule_run, volume_run)
    ]
    assert names[0] == set(LOGGED)
    assert names[1] == set(LOGGED) - {"val/size"}


def test_last_checkpoint_is_plain_tensors_of_the_last_step(molecule_run: Path) -> None:
    checkpoint = torch.load(molecule_run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 2


def test_a_run_in_bfloat16_clips_its_gradients_and_logs_the_figures_of_float32(
    molecule_config: Path, molecule_run: Path, tmp_path: Path
) -> None:
    low = fit(
        [
            *("--config", str(molecule_config), "--trainer.default_root_dir", str(tmp_path)),
            *("--trainer.precision", "bf16-mixed", "--trainer.gradient_clip_val", "1.0"),
        ]
    )
    figures = [read_rows(folder / "metrics.csv") for folder in (low, molecule_run)]
    first = [next(float(row["train/loss"]) for row in rows if "train/loss" in row) for rows in figures]
    assert first[0] == pytest.approx(first[1], rel=1e-2)  # before any step: weights and noise are the same


class Remember(pl.Callback):
    """The raw weights after every step."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.seen.append({name: value.detach().clone() for name, value in pl_module.named_parameters()})


def quiet_trainer(folder: Path, **options: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu", default_root_dir=folder, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, limit_val_batches=0, **options,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_ema_is_the_average_of_the_raw_weights(molecule_run: Path, tmp_path: Path) -> None:
    task = DiffusionTask(MoleculeDiffusion.from_pretrained(molecule_run), warmup_steps=1)
    data = build(read_data_config(molecule_run), pl.LightningDataModule)
    remember = Remember()
    quiet_trainer(tmp_path, max_steps=6, callbacks=[EMA(decay=0.3), remember]).fit(task, data)
    average = dict(remember.seen[0])
    for n, raw in enumerate(remember.seen[1:], start=1):
        d = min(0.3, (1 + n) / (10 + n))
        average = {name: d * value + (1 - d) * raw[name] for name, value in average.items()}
    assert (1 + 1) / (10 + 1) < 0.3 < (1 + 5) / (10 + 5)  # both branches were taken
    for name, value in task.named_parameters():  # EMA leaves its average behind
        torch.testing.assert_close(value, average[name], rtol=1e-5, atol=1e-7)


def test_without_averages_the_raw_weights_are_the_models(molecule_config: Path, tmp_path: Path) -> None:
    """ema: null of a config and --ema null train alike, to the raw weights of the averaged run; checkpoint, export and
    from_pretrained take them. A run that goes on without averages goes on from its raw weights, and with them begins
    to average where it is."""

    def run(name: str, *more: str, config: Path = molecule_config) -> Path:
        return fit(["--config", str(config), "--trainer.default_root_dir", str(tmp_path / name), *more])

    def state(run: Path) -> dict[str, Any]:
        found: dict[str, Any] = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
        return found

    file = tmp_path / "raw.yaml"
    file.write_text(molecule_config.read_text() + "ema: null\n")
    averaged, raw, told = run("averaged"), run("raw", config=file), run("told", "--ema", "null")
    assert yaml.safe_load((raw / "config.yaml").read_text())["ema"] == {"decay": None}
    expected = state(averaged)["current_model_state"]
    for one in (raw, told):
        assert not {"current_model_state", "averaging_state"} & state(one).keys()
        torch.testing.assert_close(state(one)["state_dict"], expected, rtol=0, atol=0)
    exported = export_model(raw, tmp_path / "exported")
    assert "moving average" not in (exported / "card.md").read_text()
    assert "moving average" in (export_model(averaged, tmp_path / "other") / "card.md").read_text()
    for name, value in MoleculeDiffusion.from_pretrained(exported).state_dict().items():
        assert torch.equal(value, expected[f"model.{name}"]), name
    longer = ["--trainer.max_steps", "4", "--ckpt_path", "last"]
    left, kept, begun = run("averaged", "--ema=null", *longer), run("raw", "--ema=null", *longer), run("told", *longer)
    torch.testing.assert_close(state(left)["state_dict"], state(kept)["state_dict"], rtol=0, atol=0)
    torch.testing.assert_close(state(begun)["current_model_state"], state(kept)["state_dict"], rtol=0, atol=0)


def test_a_resumed_run_equals_the_one_that_never_stopped(molecule_config: Path, tmp_path: Path) -> None:
    """Stopped in the first epoch, between two validations, and again in the second epoch, right at one."""

    def run(name: str, steps: int, *more: str) -> Path:
        folder = ["--config", str(molecule_config), "--trainer.default_root_dir", str(tmp_path / name)]
        often = ["--trainer.val_check_interval", "3", "--checkpoint.every_n_train_steps", "100"]
        return fit([*folder, *often, "--trainer.max_steps", str(steps), *more])

    whole = run("whole", 11)
    assert {row["epoch"] for row in read_rows(whole / "metrics.csv")} == {"0", "1"}
    for steps, resume in ((4, []), (9, ["last"]), (11, ["last"])):
        parts = run("parts", steps, *(["--ckpt_path", *resume] if resume else []))
    a, b = (torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (whole, parts))
    assert a["global_step"] == b["global_step"] == 11
    for key in ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers"):
        torch.testing.assert_close(b[key], a[key], rtol=0, atol=0)
    assert read_rows(parts / "metrics.csv") == read_rows(whole / "metrics.csv")


def test_a_run_that_never_validates_ends_with_its_checkpoint(molecule_config: Path, tmp_path: Path) -> None:
    """Without a number of steps it saves at the end of epochs, where no step is in hand."""
    given = ["--config", str(molecule_config), "--trainer.default_root_dir", str(tmp_path / "run")]
    often = ["--checkpoint.every_n_train_steps", "null", "--trainer.check_val_every_n_epoch", "1"]
    run = fit([*given, *often, "--trainer.limit_val_batches", "0", "--trainer.max_steps", "12"])
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert (checkpoint["global_step"], checkpoint["epoch"] > 0) == (12, True)


def test_a_fresh_run_leaves_an_old_one_alone(molecule_config: Path, tmp_path: Path) -> None:
    arguments = ["--config", str(molecule_config), "--trainer.default_root_dir", str(tmp_path)]
    fit(arguments)
    before = (tmp_path / "checkpoints" / "last.ckpt").read_bytes()
    with pytest.raises(InputError, match="holds a run already"):
        fit(arguments)
    assert (tmp_path / "checkpoints" / "last.ckpt").read_bytes() == before


def test_ctrl_c_saves_a_whole_step_to_go_on_from(
    molecule_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes in the middle of step 3; the run then goes on to where an uninterrupted one ends."""
    arguments = ["--config", str(molecule_config), "--trainer.max_steps", "6", "--trainer.default_root_dir"]
    original = DiffusionTask.training_step

    def interrupted(self: DiffusionTask, batch: Any, batch_idx: int) -> Tensor:
        if self.global_step == 2:
            signal.raise_signal(signal.SIGINT)
        return original(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(DiffusionTask, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt, match="after step 3"):
            fit([*arguments, str(tmp_path / "stopped")])
    fit([*arguments, str(tmp_path / "stopped"), "--ckpt_path", "last"])
    fit([*arguments, str(tmp_path / "whole")])
    states = [
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True) for name in ("stopped", "whole")
    ]
    assert states[0]["global_step"] == states[1]["global_step"] == 6
    for key in ("state_dict", "current_model_state"):
        for name, value in states[1][key].items():
            assert torch.equal(states[0][key][name], value), name


class Hostile:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.file}",)


def test_a_hostile_checkpoint_is_refused_and_does_not_run(molecule_config: Path, tmp_path: Path) -> None:
    proof, bad = tmp_path / "proof", tmp_path / "bad.ckpt"
    bad.write_bytes(pickle.dumps(Hostile(proof)))
    folder = ["--config", str(molecule_config), "--trainer.default_root_dir", str(tmp_path / "run")]
    for file, words in ((bad, "cannot be read as a checkpoint"), (tmp_path / "none.ckpt", "there is no checkpoint")):
        with pytest.raises(InputError, match=f"{words}|{file}") as error:
            fit([*folder, "--ckpt_path", str(file)])
        assert str(file) in str(error.value)
    with pytest.raises(InputError, match="there is no checkpoint"):
        fit([*folder, "--ckpt_path", "last"])
    torch.save({"global_step": 1, "state_dict": Hostile(proof)}, bad)
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        fit([*folder, "--ckpt_path", str(bad)])
    assert not proof.exists()


def broken(model: DiffusionModel) -> DiffusionModel:
    """One weight is NaN."""
    next(p for p in model.parameters() if isinstance(p, nn.Parameter)).data.fill_(torch.nan)
    return model


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("domain", ["molecules", "volumes"])
def test_a_loss_that_is_not_finite_names_the_step_and_the_items(
    domain: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = request.getfixturevalue("molecule_run" if domain == "molecules" else "volume_run")
    model = (
        MoleculeDiffusion.from_pretrained(folder) if domain == "molecules" else VolumeDiffusion.from_pretrained(folder)
    )
    data = build(read_data_config(folder), pl.LightningDataModule)
    with pytest.raises(InputError, match="the loss is not finite at step 0 for ") as error:
        quiet_trainer(tmp_path, max_steps=1).fit(DiffusionTask(broken(model)), data)
    named = str(error.value).split(" for ")[1].split(":")[0].split(", ")
    assert isinstance(data, MoleculeData | VolumeData)
    known = [str(i) for i in data.train.index] if isinstance(data, MoleculeData) else data.train.names
    assert len(named) > 1
    assert set(named) <= set(known)
