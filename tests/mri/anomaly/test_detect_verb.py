"""`medmol detect` on phantoms, by a model that was never trained."""

import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from medmol_diffusion.cli import main
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import METHODS, Volume
from medmol_diffusion.mri.anomaly import Method
from medmol_diffusion.mri.anomaly.evaluation import BASELINES, Evaluator
from medmol_diffusion.mri.anomaly.postprocess import PUBLISHED
from medmol_diffusion.mri.part import trained_subjects
from medmol_diffusion.mri.phantom import head_phantom
from medmol_diffusion.mri.split import SubjectSplit
from medmol_diffusion.training.saved import build

SHAPE = [16, 20, 16]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of scans alone, and one that makes them of T1w."""
    folder = tmp_path_factory.mktemp("models")
    for name, channels, task in (("free", 16, None), ("translation", 24, "medmol_diffusion.mri.Translation")):
        network = {"channels_in": channels, "channels_out": 16, "channels": [8], "blocks": 1}
        model = {
            "class_path": "medmol_diffusion.mri.VolumeDiffusion",
            "init_args": {
                "shape": SHAPE,
                "spacing": 12.0,
                "task": task and {"class_path": task, "init_args": {"source": "T1w"}},
                "first_stage": {"class_path": "medmol_diffusion.mri.HaarStage", "init_args": {"levels": 1}},
                "network": {"class_path": "medmol_diffusion.mri.UNet3D", "init_args": network},
            },
        }
        (folder / name).mkdir()
        (folder / name / "config.yaml").write_text(yaml.safe_dump({"model": {"model": model}}))
        torch.manual_seed(0)
        made = build(model)
        made.first_stage.spectrum.std.fill_(0.1)
        save_file(made.state_dict(), folder / name / "model.safetensors")
    autoencoder = {"shape": SHAPE, "spacing": 12.0, "channels": [8, 8], "blocks": 1}
    model = {"class_path": "medmol_diffusion.mri.Autoencoder", "init_args": autoencoder}
    (folder / "autoencoder").mkdir()
    (folder / "autoencoder" / "config.yaml").write_text(yaml.safe_dump({"model": {"model": model}}))
    save_file(build(model).state_dict(), folder / "autoencoder" / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Healthy subjects 0 to 2, 4 and 5 with a mass, 6 without; those up to 4 have a second contrast, all a brain."""
    folder = tmp_path_factory.mktemp("heads")
    for i in (0, 1, 2, 4, 5, 6):
        where = folder / ("healthy" if i < 4 else "test")
        for contrast in ("FLAIR", "T1w")[: 2 if i <= 4 else 1]:
            head = head_phantom(i, SHAPE, contrast=contrast, lesions=int(i in (4, 5)), lesion_kind="mass")
            head.volume.write(where / f"sub-{i}_{contrast}.nii.gz")
        for kind, mask in (("masks", head.lesion), ("brains", head.brain)):
            Volume(mask, head.volume.affine).write(folder / kind / f"sub-{i}_FLAIR.nii.gz", np.uint8)
    return folder


def sick_and_well(heads: Path) -> list[str]:
    return [str(heads / "test" / f"sub-{i}_FLAIR.nii.gz") for i in (4, 5, 6)]


def learnt(heads: Path) -> list[str]:
    return ["--healthy", str(heads / "healthy"), "--pattern", "*FLAIR*", "--brains", str(heads / "brains")]


def test_a_scan_gets_its_map_its_mask_its_picture_and_its_percentile(models: Path, heads: Path, tmp_path: Path) -> None:
    scan = sick_and_well(heads)[0]
    how = ["--method", "smoothing", "--method", "one_shot", "--quantile", "0.95"]
    main(["detect", str(models / "free"), scan, *learnt(heads), *how, "-o", str(tmp_path)])
    said = json.loads((tmp_path / "detect.json").read_text())
    assert said["method"] == "smoothing"
    assert list(said["methods"]) == ["smoothing", "one_shot"]
    for method in ("smoothing", "one_shot"):
        own = said["methods"][method]
        anomaly, mask = (nib.load(tmp_path / method / f"sub-4_FLAIR_{what}.nii.gz") for what in ("anomaly", "mask"))
        np.testing.assert_allclose(mask.affine, Volume.read(scan).affine)
        assert mask.get_data_dtype() == np.uint8
        assert np.array_equal(mask.get_fdata() > 0, anomaly.get_fdata(dtype=np.float32) > np.float32(own["threshold"]))
        assert set(own["percentiles"]) == {scan}
        assert 0 <= own["percentiles"][scan] <= 100
        assert own["cost"]["calls"] == (method == "one_shot")
        assert (tmp_path / method / "sub-4_FLAIR.png").read_bytes().startswith(b"\x89PNG")
        assert Volume.read(tmp_path / method / "sub-4_FLAIR_restored.nii.gz").same_grid(Volume.read(scan))
    outside = Volume.read(heads / "brains" / "sub-4_FLAIR.nii.gz", constant=True).data == 0
    assert np.abs(anomaly.get_fdata()[outside]).max() == 0


def test_masks_evaluate_beside_the_baselines_on_other_subjects(models: Path, heads: Path, tmp_path: Path) -> None:
    how = [*learnt(heads), "--masks", str(heads / "masks"), "--aside", "0.25", "-o", str(tmp_path)]
    how += ["--autoencoder", str(models / "autoencoder")]
    main(["detect", str(models / "free"), *sick_and_well(heads), *how])
    said = json.loads((tmp_path / "detect.json").read_text())
    assert said["method"] == "one_shot"
    assert {"one_shot", "smoothing", "autoencoder"} <= set(said["evaluation"]["voxels"])
    assert "2 healthy scans" in said["evaluation"]["protocol"]
    assert 0 <= said["evaluation"]["lesions"]["one_shot"]["subject_auroc"]["value"] <= 1
    assert list(said["scores"]) == sick_and_well(heads)
    assert not list(tmp_path.rglob("*smoothing*"))  # a baseline is figures, and writes no map
    with (tmp_path / "subjects.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "one_shot"]
    assert len(rows) == 4  # one of the healthy is set aside
    assert sum(row["sick"] == "True" for row in rows) == 2
    page = (tmp_path / "report.html").read_text()
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "sub-4" in page


def test_maps_are_post_processed_as_asked_those_of_baselines_too(
    models: Path, heads: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = []
    for name in ("plain", "published"):
        how = ["--method", "smoothing", "--postprocess", name, "-o", str(tmp_path / name)]
        main(["detect", str(models / "free"), sick_and_well(heads)[0], *how])
        maps.append(Volume.read(tmp_path / name / "sub-4_FLAIR_anomaly.nii.gz").data)
    assert maps[1].max() < 0.8 * maps[0].max()
    asked = {}

    def run(self: Evaluator, methods: dict[str, Method], *_: object) -> None:
        asked.update(methods)
        raise InputError("enough")

    monkeypatch.setattr(Evaluator, "run", run)
    with pytest.raises(SystemExit):
        main(
            [
                "detect",
                str(models / "free"),
                *sick_and_well(heads),
                *learnt(heads),
                "--masks",
                str(heads / "masks"),
                *how,
            ]
        )
    assert set(asked) == set(BASELINES)
    assert {one.postprocess for one in asked.values()} == {PUBLISHED}


def test_subjects_that_the_model_was_trained_on_are_not_tested(
    models: Path, heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(models / "free", run)
    SubjectSplit(["sub-4"], ["sub-5"], ["sub-6"]).write(tmp_path / "split.json")
    settings = {
        "path": str(heads / "test"),
        "shape": SHAPE,
        "suffix": "FLAIR",
        "split_file": str(tmp_path / "split.json"),
    }
    content = yaml.safe_load((run / "config.yaml").read_text())
    content["data"] = {"class_path": "medmol_diffusion.mri.VolumeData", "init_args": settings}
    (run / "config.yaml").write_text(yaml.safe_dump(content))
    how = [*learnt(heads), "--masks", str(heads / "masks"), "--method", "smoothing", "-o", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as end:
        main(["detect", str(run), *sick_and_well(heads), *how])
    assert end.value.code == 2
    assert "sub-4 of those to be tested is among the subjects that" in " ".join(capsys.readouterr().err.split())
    assert trained_subjects(run) == ("sub-4",)
    assert trained_subjects(models / "free") == ()


def test_all_methods_are_tried_and_those_left_out_say_why(models: Path, heads: Path, tmp_path: Path) -> None:
    scan, t1 = sick_and_well(heads)[0], str(heads / "test" / "sub-4_T1w.nii.gz")
    main(["detect", str(models / "free"), scan, "--method", "all", "-o", str(tmp_path / "free")])
    said = json.loads((tmp_path / "free" / "detect.json").read_text())
    assert {*said["methods"], *said["left_out"]} == set(METHODS)
    assert {"one_shot", "partial", "smoothing"} <= set(said["methods"])
    also = ["--also", "T1w", t1, "--healthy-also", "T1w", "*T1w*"]
    how = ["--healthy", str(heads / "healthy"), *also, "-o", str(tmp_path / "made")]
    main(["detect", str(models / "translation"), scan, *how])
    assert json.loads((tmp_path / "made" / "detect.json").read_text())["threshold"] > 0


def test_what_cannot_be_detected_ends_with_one_sentence(
    models: Path, heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan, out = sick_and_well(heads)[0], ["-o", str(tmp_path / "out")]
    healthy, masks = ["--healthy", str(heads / "healthy")], ["--masks", str(heads / "masks")]
    own = str(heads / "healthy" / "sub-1_FLAIR.nii.gz")
    for model, arguments, fault in (
        ("free", [scan, own, *learnt(heads), *masks], "sub-1 is among the healthy scans and among those to be tested"),
        ("free", [scan, *masks], "--masks evaluates at a threshold that healthy scans give"),
        ("free", [scan, "--aside", "0.5"], "--aside says something of --masks"),
        ("free", [scan, "--pattern", "*"], "--pattern says something of --healthy"),
        ("free", [scan, "--guidance", "3"], "needs something to guide to"),
        ("free", [scan, "--covariate", "age=3"], "the model can be asked for nothing"),
        ("free", [scan, "--covariate", "age"], "write NAME=VALUE"),
        ("free", [scan, *healthy, "--quantile", "2"], "quantile = 2.0 must lie between 0 and 1"),
        ("free", [scan, "--also", "T1w", scan], "reads no other contrast"),
        ("free", [scan, "--also", "T1w", scan, *healthy, *masks], "reads no other contrast"),
        ("free", [scan, "--also", "T1w", scan, scan], "--also T1w has 2 scans for 1"),
        ("free", [scan, "--postprocess", "sharp"], "unknown postprocess 'sharp': choose one of plain, cleaned"),
        ("free", [scan, "--autoencoder", str(models / "free")], "a VolumeDiffusion is no autoencoder"),
        ("translation", [scan], "the model reads T1w of the same head"),
    ):
        with pytest.raises(SystemExit) as end:
            main(["detect", str(models / model), *arguments, *out])
        assert end.value.code == 2
        assert fault in " ".join(capsys.readouterr().err.split()), arguments
        assert not (tmp_path / "out").exists()
