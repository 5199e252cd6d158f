"""Runs of models with a critic, and of a diffusion on an autoencoder's latents, by `medmol fit` and the other verbs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from medmol_diffusion.cli import main
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import GAN, Autoencoder, VolumeBatch, VolumeDiffusion
from medmol_diffusion.training.curve import read_rows
from medmol_diffusion.training.fit import fit
from medmol_diffusion.training.names import LOGGED, LOGGED_ADVERSARIAL, LOGGED_LATENT
from medmol_diffusion.training.saved import load_model
from tests.conftest import TRAINER, write_scans

DATA = """
  learning_rate: 0.01
  warmup_steps: 2
data:
  class_path: medmol_diffusion.mri.VolumeData
  init_args: {path: PATH, shape: [8, 8, 8], validation: 0.2, test: 0.2, batch_size: 2}
"""
AUTOENCODER = """
model:
  model:
    class_path: medmol_diffusion.mri.Autoencoder
    init_args:
      shape: [8, 8, 8]
      channels: [8, 8]
      latent_channels: 2
      perceptual_weight: 0.1
      adversarial_weight: 0.1
      adversarial_start: 3
      critic_channels: 8
      critic_layers: 1
"""
WGAN = """
model:
  model:
    class_path: medmol_diffusion.mri.GAN
    init_args: {shape: [8, 8, 8], latent_size: 4, channels: [8, 8], critic_steps: 2}
"""
LATENT = """
model:
  model:
    class_path: medmol_diffusion.mri.VolumeDiffusion
    init_args:
      shape: [8, 8, 8]
      first_stage:
        class_path: medmol_diffusion.mri.KLStage
        init_args: {path: STAGE}
      network:
        class_path: medmol_diffusion.mri.UNet3D
        init_args: {channels_in: 2, channels_out: 2, channels: [8], blocks: 1}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("adversarial")
    scans = write_scans(made / "scans")
    for name, model in (("autoencoder", AUTOENCODER), ("gan", WGAN), ("latent", LATENT)):
        text = TRAINER + model.replace("STAGE", str(made / "autoencoder")) + DATA.replace("PATH", str(scans))
        (made / f"{name}.yaml").write_text(text)
    return made


def run(folder: Path, name: str, steps: int, *more: str, out: str = "") -> Path:
    return fit(
        [
            *("--config", str(folder / f"{name}.yaml"), "--trainer.max_steps", str(steps)),
            *("--trainer.default_root_dir", str(folder / (out or name)), *more),
        ]
    )


@pytest.fixture(scope="module")
def autoencoder(folder: Path) -> Path:
    return run(folder, "autoencoder", 6)


@pytest.fixture(scope="module")
def gan(folder: Path) -> Path:
    return run(folder, "gan", 2, "--trainer.limit_val_batches", "0")


@pytest.fixture(scope="module")
def latent(folder: Path, autoencoder: Path) -> Path:
    return run(folder, "latent", 2)


@pytest.mark.parametrize("stop", [2, 3, 4, 5])
def test_a_resumed_run_with_a_critic_equals_the_one_that_never_stopped(
    folder: Path, autoencoder: Path, stop: int
) -> None:
    """Stopped before the critic begins, or after, at the end of an epoch of two batches or in the middle of one."""
    run(folder, "autoencoder", stop, out=f"parts-{stop}")
    parts = run(folder, "autoencoder", 6, "--ckpt_path", "last", out=f"parts-{stop}")
    a, b = (torch.load(one / "checkpoints" / "last.ckpt", weights_only=True) for one in (autoencoder, parts))
    assert a["global_step"] == b["global_step"] == 6  # the critic's steps are not counted
    assert len(a["optimizer_states"]) == 2
    assert any(name.startswith("critic.") for name in a["state_dict"])
    for key in ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers"):
        torch.testing.assert_close(b[key], a[key], rtol=0, atol=0)


def test_a_gan_that_stopped_in_the_middle_of_an_epoch_ends_as_the_one_that_never_stopped(folder: Path) -> None:
    without = ("--trainer.limit_val_batches", "0", "--data.batch_size", "1")  # epochs of five batches
    whole = run(folder, "gan", 8, *without, out="gan-whole")
    run(folder, "gan", 3, *without, out="gan-parts")
    parts = run(folder, "gan", 8, *without, "--ckpt_path", "last", out="gan-parts")
    a, b = (torch.load(one / "checkpoints" / "last.ckpt", weights_only=True) for one in (whole, parts))
    assert (a["global_step"], a["epoch"]) == (8, 1)
    for key in ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers"):
        torch.testing.assert_close(b[key], a[key], rtol=0, atol=0)
    assert read_rows(parts / "metrics.csv") == read_rows(whole / "metrics.csv")


def test_the_critic_begins_when_it_is_told(autoencoder: Path) -> None:
    rows = [row for row in read_rows(autoencoder / "metrics.csv") if "train/loss" in row]
    assert [row["step"] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    assert ["train/critic" in row for row in rows] == ["train/adversarial" in row for row in rows]
    assert ["train/critic" in row for row in rows] == [False, False, False, True, True, True]
    state = torch.load(autoencoder / "checkpoints" / "last.ckpt", weights_only=True)["optimizer_states"]
    assert [int(one["state"][0]["step"]) for one in state] == [6, 3]


def test_what_runs_log_is_known(autoencoder: Path, gan: Path, latent: Path) -> None:
    known = {*LOGGED, *LOGGED_ADVERSARIAL, *LOGGED_LATENT}
    for one in (autoencoder, gan, latent):
        names = {name for row in read_rows(one / "metrics.csv") for name in row} - {"epoch", "step"}
        assert names <= known
    assert {"val/kl", "val/bits_per_dim"} <= {name for row in read_rows(autoencoder / "metrics.csv") for name in row}
    assert set(LOGGED_LATENT) <= {name for row in read_rows(latent / "metrics.csv") for name in row}


def test_a_latent_model_needs_its_autoencoder_no_more(latent: Path, autoencoder: Path, tmp_path: Path) -> None:
    trained = load_model(autoencoder).state_dict()
    alone, hidden = tmp_path / "latent", autoencoder.with_name("hidden")
    shutil.copytree(latent, alone)
    before = load_model(latent)
    autoencoder.rename(hidden)
    try:
        model = VolumeDiffusion.from_pretrained(alone)
        main(["export", str(alone), "-o", str(tmp_path / "exported")])
        exported = VolumeDiffusion.from_pretrained(tmp_path / "exported")
        with pytest.raises(InputError, match="is no model"):
            run(latent.parent, "latent", 2, out="again")
    finally:
        hidden.rename(autoencoder)
    for name, value in trained.items():
        for one in (before, model, exported):
            assert torch.equal(one.state_dict()[f"network.first_stage.autoencoder.{name}"], value), name
    data = torch.zeros(1, 1, 8, 8, 8)
    batch = VolumeBatch(data, data == 0, torch.arange(1), ["zero"])
    assert torch.equal(model.elbo(batch).total, exported.elbo(batch).total)
    assert yaml.safe_load((latent / "config.yaml").read_text())["model"]["model"]["init_args"]["first_stage"]


def test_another_model_than_an_autoencoder_is_no_first_stage(folder: Path, gan: Path) -> None:
    stage = f"--model.model.init_args.first_stage.init_args.path={gan}"
    with pytest.raises(InputError, match="no Autoencoder"):
        run(folder, "latent", 1, stage, out="wrong")


def test_validate_prints_the_bound_its_terms_and_how_close_scans_come_back(
    autoencoder: Path, latent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["validate", str(autoencoder), "--draws", "2", "--json", str(tmp_path / "found.json")])
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("kl", "reconstruction", "bits_per_dim", "PSNR", "2 draw(s) of the latent"))
    found = json.loads((tmp_path / "found.json").read_text())
    terms = found["terms"]
    assert terms["total"][0] == pytest.approx(terms["kl"][0] + terms["reconstruction"][0])
    assert set(found["measures"]) == {"PSNR, dB", "SSIM"}
    main(["validate", str(latent), "--draws", "2"])
    shown = capsys.readouterr().out
    assert "-latent_entropy" in shown
    assert "gain over it" in shown


def test_samples_of_one_pass_are_written_with_their_seed(autoencoder: Path, gan: Path, tmp_path: Path) -> None:
    for one in (autoencoder, gan):
        out = tmp_path / one.name
        main(["sample", str(one), "-n", "2", "-o", str(out), "--seed", "3"])
        assert len(list(out.glob("*.nii.gz"))) == 2
        said = json.loads((out / "sample-0001.json").read_text())
        assert said["Seed"] == 3
        assert not {"Steps", "Sampler", "Grid"} & set(said)


@pytest.mark.parametrize("options", [["--steps", "10"], ["--sampler", "ddim"], ["--grid", "gamma"]])
def test_steps_are_refused_by_a_model_of_one_pass(gan: Path, options: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["sample", str(gan), "-n", "1", "-o", str(tmp_path / "none"), *options])
    assert stopped.value.code == 2


def test_validating_a_gan_ends_with_one_sentence(gan: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["validate", str(gan)])
    assert stopped.value.code == 2
    assert "a GAN has no likelihood" in " ".join(capsys.readouterr().err.split())


def test_exported_models_sample_what_the_run_does(autoencoder: Path, gan: Path, tmp_path: Path) -> None:
    for one, kind in ((autoencoder, Autoencoder), (gan, GAN)):
        main(["export", str(one), "-o", str(tmp_path / one.name)])
        a, b = (kind.from_pretrained(source).sample(1, seed=1)[0].data for source in (one, tmp_path / one.name))
        assert (a == b).all()


@pytest.mark.filterwarnings("ignore")
def test_a_loss_that_is_not_finite_names_the_scans(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Autoencoder, "decode", lambda self, u, shape, tile=None: torch.full((len(u), 1, *shape), torch.nan)
    )
    with pytest.raises(InputError, match=r"the loss is not finite at step 0 for sub-0\d"):
        run(folder, "autoencoder", 1, out=str(tmp_path / "nan"))


def test_wavelet_models_and_gans_are_built_without_monai() -> None:
    code = """
import sys
from medmol_diffusion.mri import GAN, HaarStage, IdentityStage, VolumeDiffusion
import medmol_diffusion.training.fit
for stage in (HaarStage(1), IdentityStage()):
    VolumeDiffusion([8, 8, 8], stage)
GAN([8, 8, 8])
sys.exit("monai" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
