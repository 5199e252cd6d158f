"""The verbs of the tasks on scans, once each on models that were never trained."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from medmol_diffusion.cli import main
from medmol_diffusion.mri import Volume, VolumeDiffusion
from medmol_diffusion.mri.phantom import head_phantom
from medmol_diffusion.mri.tasks.comparison import HEAD, WHOLE
from medmol_diffusion.training.saved import build, load_model

SHAPE = [16, 20, 16]
DATA = {"count": 6, "shape": SHAPE, "contrast": "FLAIR", "images": ["T1w"], "validation": 0.0, "test": 0.5}
TASKS = {
    "superres": ("SuperResolution", {"factor": [1, 1, 2]}, 24),
    "inpainting": ("Inpainting", {"smallest": 0.4, "largest": 0.6}, 32),
    "translation": ("Translation", {"source": "T1w"}, 24),
    "free": (None, {}, 16),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder for each task: a config with the data and the model, and weights."""
    folder = tmp_path_factory.mktemp("models")
    for name, (task, settings, channels) in TASKS.items():
        network = {"channels_in": channels, "channels_out": 16, "channels": [8], "blocks": 1}
        model = {
            "class_path": "medmol_diffusion.mri.VolumeDiffusion",
            "init_args": {
                "shape": SHAPE,
                "spacing": 12.0,
                "task": task and {"class_path": f"medmol_diffusion.mri.{task}", "init_args": settings},
                "first_stage": {"class_path": "medmol_diffusion.mri.HaarStage", "init_args": {"levels": 1}},
                "network": {"class_path": "medmol_diffusion.mri.UNet3D", "init_args": network},
            },
        }
        run = folder / name
        run.mkdir()
        data = {"class_path": "medmol_diffusion.mri.PhantomData", "init_args": DATA}
        (run / "config.yaml").write_text(yaml.safe_dump({"model": {"model": model}, "data": data}))
        torch.manual_seed(0)
        made = build(model)
        made.first_stage.spectrum.std.fill_(0.1)
        save_file(made.state_dict(), run / "model.safetensors")
        assert isinstance(load_model(run), VolumeDiffusion)
    return folder


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for i in range(2):
        volume = head_phantom(i, SHAPE).volume
        volume.write(folder / f"sub-{i}_T1w.nii.gz")
        blocks = volume.data.reshape(16, 20, 8, 2).mean(-1)
        affine = volume.affine @ np.diag([1, 1, 2, 1.0])
        affine[:3, 3] = volume.to_mm([0, 0, 0.5])
        Volume(blocks, affine).write(folder / f"sub-{i}_acq-thick_T1w.nii.gz")
    region = np.zeros(SHAPE)
    region[6:10, 8:12, 6:10] = 1
    Volume(region, volume.affine).write(folder / "mask.nii.gz", np.uint8)
    return folder


def test_every_verb_writes_draws_their_mean_and_sidecars(models: Path, scans: Path, tmp_path: Path) -> None:
    own = [str(scans / f"sub-{i}_T1w.nii.gz") for i in range(2)]
    thick = [str(scans / f"sub-{i}_acq-thick_T1w.nii.gz") for i in range(2)]
    how = ["--steps", "1", "-o", str(tmp_path)]
    main(["super-resolve", str(models / "superres"), *thick, "-n", "2", "--seed", "3", *how])
    truth = Volume.read(own[1])
    draws = [Volume.read(tmp_path / f"sub-1_acq-thick_T1w_superres-{j}.nii.gz") for j in (1, 2)]
    mean = Volume.read(tmp_path / "sub-1_acq-thick_T1w_superres-mean.nii.gz")
    assert mean.same_grid(truth)
    np.testing.assert_allclose(mean.data, (draws[0].data + draws[1].data) / 2, rtol=1e-4, atol=1e-4)
    assert np.abs(draws[0].data - draws[1].data).max() > 0
    said = json.loads((tmp_path / "sub-1_acq-thick_T1w_superres-2.json").read_text())
    assert (said["Model"], said["Seed"], said["Steps"], said["Sampler"]) == ("superres", 4, 1, "dpm++2m")
    assert said["Sources"] == ["sub-1_acq-thick_T1w.nii.gz"]
    told = json.loads((tmp_path / "sub-1_acq-thick_T1w_superres-mean.json").read_text())
    assert (told["Seed"], told["Draws"]) == ("3 to 4", 2)
    main(["translate", str(models / "translation"), *own, "--bids", "FLAIR", *how])
    assert Volume.read(tmp_path / "sub-0" / "anat" / "sub-0_desc-translated_FLAIR.nii.gz").same_grid(truth)
    mask = scans / "mask.nii.gz"
    for model in ("inpainting", "free"):
        main(["inpaint", str(models / model), own[1], "--mask", str(mask), "--resamples", "1", *how])
        made, region = Volume.read(tmp_path / "sub-1_T1w_inpainted.nii.gz"), Volume.read(mask).data > 0
        assert np.array_equal(made.data[~region], truth.data[~region])
        assert (made.data != truth.data)[region].mean() > 0.9
        assert json.loads((tmp_path / "sub-1_T1w_inpainted.json").read_text())["Mask"] == "mask.nii.gz"
    main(["vary", str(models / "free"), *own, "--strength", "0.1", *how])
    varied = Volume.read(tmp_path / "sub-1_T1w_varied.nii.gz")
    assert varied.same_grid(truth)
    assert json.loads((tmp_path / "sub-1_T1w_varied.json").read_text())["Strength"] == "0.1"


def test_evaluate_shows_the_model_beside_its_baselines(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for model, baselines in [("superres", {"trilinear", "cubic"}), ("translation", {"linear map"})]:
        file = tmp_path / f"{model}.json"
        main(["evaluate", str(models / model), "-n", "2", "--steps", "1", "--json", str(file)])
        shown = " ".join(capsys.readouterr().out.split())
        found = json.loads(file.read_text())
        assert set(found["gain_over"]) == baselines
        assert len(set(found["subjects"])) == 3
        for name in baselines:
            gain = found["gain_over"][name]["psnr"]
            ours = found["answers"]["model, mean of 2 draws"]["psnr"]
            assert gain["mean"] == pytest.approx(ours - found["answers"][name]["psnr"], abs=1e-6)
            assert gain["low"] <= gain["mean"] <= gain["high"]
            assert name.split()[0] in shown
        assert "3 scans of 3 subjects, all voxels that are to be made" in shown
        assert "inside the head alone" in shown
        assert found["answers"]["model, one draw"].keys() == {*WHOLE, *HEAD}


def test_evaluate_finds_the_scans_beside_those_of_another_folder(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run says which scans are the sources, also of --data without --split: all of its subjects are measured, though
    the run's own table, split and shares are of other data. An exported model cannot say it."""
    run, other = tmp_path / "run", tmp_path / "other"
    shutil.copytree(models / "translation", run)
    content = yaml.safe_load((run / "config.yaml").read_text())
    settings = {"path": "gone", "table": "gone.csv", "split_file": "gone.json", "test": 0.5, "shape": SHAPE}
    images = {"pattern": "*_FLAIR.nii.gz", "images": {"T1w": "*_T1w.nii.gz"}}
    content["data"] = {"class_path": "medmol_diffusion.mri.VolumeData", "init_args": settings | images}
    (run / "config.yaml").write_text(yaml.safe_dump(content))
    for i in range(3):
        volume = head_phantom(i, SHAPE).volume
        volume.write(other / f"sub-{i}_FLAIR.nii.gz")
        replace(volume, data=1 - volume.data).write(other / f"sub-{i}_T1w.nii.gz")
    main(["evaluate", str(run), "--data", str(other), "-n", "1", "--steps", "1"])
    assert "3 scans of 3 subjects" in " ".join(capsys.readouterr().out.split())
    del content["data"]
    (run / "config.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(SystemExit) as end:
        main(["evaluate", str(run), "--data", str(other)])
    assert end.value.code == 2
    assert "and a run folder says which" in " ".join(capsys.readouterr().err.split())


def test_what_a_model_cannot_do_ends_with_one_sentence(
    models: Path, scans: Path, molecule_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan, out = str(scans / "sub-0_T1w.nii.gz"), ["-o", str(tmp_path / "out")]
    for arguments, fault in [
        (["super-resolve", str(models / "translation"), scan, *out], "one of Translation, not of SuperResolution"),
        (["super-resolve", str(molecule_run), scan, *out], "takes a VolumeDiffusion"),
        (["translate", str(models / "free"), scan, *out], "one of scans alone, not of Translation"),
        (["translate", str(models / "translation"), scan, "-o", "out.nii.gz"], "written to a folder"),
        (["translate", str(models / "translation"), scan, scan, *out], "several scans are called sub-0_T1w"),
        (["inpaint", str(models / "free"), scan, *out], "--mask MASK says which region"),
        (["inpaint", str(models / "free"), scan, "--fixed", "1", *out], "--fixed is for molecules"),
        (["inpaint", str(molecule_run), scan, "--mask", scan, "-o", "a.sdf"], "--mask is for scans"),
        (["vary", str(models / "superres"), scan, *out], "to vary scans takes a model of scans alone"),
        (["vary", str(models / "free"), scan, "--objective", "qed", *out], "--objective is for molecules"),
        (["vary", str(molecule_run), scan, scan, "-o", "a.sdf"], "2 files of molecules"),
        (["evaluate", str(models / "free")], "has no task"),
        (["evaluate", str(molecule_run)], "takes a VolumeDiffusion"),
        (["sample", str(models / "superres"), *out], "it makes a scan of what is given"),
    ]:
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 2
        assert fault in " ".join(capsys.readouterr().err.split()), arguments
