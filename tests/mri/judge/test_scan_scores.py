"""`medmol score` of folders of scans: planted faults show where they should, and nowhere else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from scipy.ndimage import gaussian_filter

from medmol_diffusion.cli import main
from medmol_diffusion.errors import InputError
from medmol_diffusion.judging.table import silent
from medmol_diffusion.mri.judge.extractor import HaarFeatures
from medmol_diffusion.mri.judge.measures import diversity
from medmol_diffusion.mri.judge.scans import Reading
from medmol_diffusion.mri.judge.score_report import judge_scans
from medmol_diffusion.mri.phantom import head_phantom
from medmol_diffusion.mri.split import SubjectSplit
from medmol_diffusion.mri.volume import Volume
from tests.test_score_page import Tags

SHAPE = (24, 30, 24)


def write(folder: Path, seeds: range) -> Path:
    for seed in seeds:
        head_phantom(seed, SHAPE, spacing=8.0).volume.write(folder / f"scan-{seed:02d}.nii.gz")
    return folder


def change(file: Path, folder: Path, how: Callable[[np.ndarray], np.ndarray], name: str | None = None) -> None:
    scan = Volume.read(file)
    Volume(how(scan.data), scan.affine).write(folder / (name or file.name))


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of phantoms: 12 real, 8 new ones as they are and blurred, 6 of training with one of them copied."""
    root = tmp_path_factory.mktemp("heads")
    write(root / "real", range(12))
    write(root / "new", range(20, 28))
    write(root / "training", range(40, 46))
    for file in sorted((root / "new").iterdir()):
        change(file, root / "blurred", lambda data: gaussian_filter(data, 0.6))
    for file in sorted((root / "new").iterdir())[:3]:
        change(file, root / "copied", lambda data: data)
    noise = np.random.default_rng(0).standard_normal(SHAPE)
    copy = root / "training" / "scan-43.nii.gz"
    change(copy, root / "copied", lambda data: 3.5 * (data + 0.01 * data.max() * noise) + 20, "scan-99.nii.gz")
    return root


def judged(heads: Path, name: str) -> dict[str, Any]:
    found = judge_scans(heads / name, heads / "real", HaarFeatures(), silent, full=True)
    return {table.key: table.data for table in found.tables}


def test_blur_shows_in_the_spectrum_and_not_in_the_tissue_volumes(heads: Path) -> None:
    new, blurred = judged(heads, "new"), judged(heads, "blurred")
    assert all(band["low"] < 0.5 and band["high"] > -0.5 for band in new["spectrum"])
    highest = blurred["spectrum"][-1]
    assert highest["high"] < highest["floor"]["low"] - 3
    assert highest["value"] < new["spectrum"][-1]["value"] - 3
    for before, after in zip(new["anatomy"][1:], blurred["anatomy"][1:], strict=True):  # the head and its classes
        assert after["generated"] == pytest.approx(before["generated"], rel=0.15)
    distances = [one["distances"]["figures"] for one in (new, blurred)]
    for before, after in zip(*distances, strict=True):
        assert before["floor"]["value"] == after["floor"]["value"]
        assert after["value"] > 1.5 * before["value"]
    assert distances[0][0]["floor"]["n"] == 6


def test_a_planted_copy_of_a_training_scan_is_caught(heads: Path, tmp_path: Path) -> None:
    folders = [str(heads / "copied"), "--reference", str(heads / "real"), "--training", str(heads / "training")]
    main(["score", *folders, "--json", str(tmp_path / "x.json"), "--html", str(tmp_path / "x.html")])
    found = json.loads((tmp_path / "x.json").read_text())
    assert list(found) == ["distances", "precision_recall", "diversity", "memorisation", "nearest"]
    assert found["memorisation"]["generated"]["copies"] == [False] * 3 + [True]
    assert not any(found["memorisation"]["real, not trained on"]["copies"])
    first = found["nearest"][0]
    assert (first["generated"], first["training"], first["copy"]) == ("scan-99.nii.gz", "scan-43.nii.gz", True)
    page = (tmp_path / "x.html").read_text()
    tags = Tags(page)
    assert all(link.startswith("data:image/png") for link in tags.links)
    assert page.count("generated: scan-") == 2 * (4 + 4)  # caption and alternative text: 4 shown, 4 nearest
    assert "scan-43.nii.gz" in page


def test_a_run_folder_says_which_scans_it_was_trained_and_is_tested_on(
    heads: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, everybody = tmp_path / "run", [f"scan-{seed}" for seed in range(40, 46)]
    run.mkdir()
    SubjectSplit(everybody[2:], [], everybody[:2]).write(tmp_path / "split.json")
    settings = {"path": str(heads / "training"), "shape": [8, 8, 8], "split_file": str(tmp_path / "split.json")}
    data = {"class_path": "medmol_diffusion.mri.VolumeData", "init_args": settings}
    (run / "config.yaml").write_text(yaml.safe_dump({"data": data}))
    file = tmp_path / "x.json"
    main(["score", str(heads / "copied"), "--reference", str(run), "--training", str(run), "--json", str(file)])
    found = json.loads(file.read_text())
    assert found["distances"]["real"] == 2
    assert found["memorisation"]["training"] == [f"{name}.nii.gz" for name in everybody[2:]]
    main(["score", str(heads / "copied"), "--reference", f"{run}:train", "--json", str(file)])
    assert json.loads(file.read_text())["distances"]["real"] == 4
    for given, fault in ((f"{run}:validation", "has no scan in its validation part"), (f"{run}:all", "does not exist")):
        with pytest.raises(SystemExit) as end:
            main(["score", str(heads / "copied"), "--reference", given])
        assert end.value.code == 2
        assert fault in " ".join(capsys.readouterr().err.split())


def test_training_scans_among_the_real_ones_are_not_taken_for_what_is_new(heads: Path) -> None:
    found = judge_scans(heads / "new", heads / "training", HaarFeatures(), silent, training=heads / "training")
    tables = {table.key: table for table in found.tables}
    assert tables["memorisation"].data["real, not trained on"]["n"] == 0
    assert "6 of the 6 real scans are training scans" in tables["memorisation"].meaning
    assert tables["memorisation"].rows[1][1:] == ("-", "-", "-", "-", "-", "0")


def test_every_figure_stands_beside_its_extractor_and_seed_by_seed_the_same(heads: Path, tmp_path: Path) -> None:
    class Corner(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, 0, 10:12, 10:12, 10].flatten(1)

    file = tmp_path / "corner.pt"
    torch.jit.trace(Corner(), torch.zeros(1, 1, *SHAPE)).save(str(file))
    command = ["score", str(heads / "new"), "--reference", str(heads / "real"), "--json", str(tmp_path / "x.json")]
    found = []
    for extra in ([], [], ["--extractor", str(file)]):
        main([*command, *extra])
        found.append(json.loads((tmp_path / "x.json").read_text())["distances"])
    assert found[0] == found[1]
    assert found[0]["extractor_sha256"] == HaarFeatures().hash
    assert found[2]["extractor"] == "TorchScript corner.pt"
    assert found[2]["extractor_sha256"] != found[0]["extractor_sha256"]
    assert found[2]["figures"][0]["value"] != found[0]["figures"][0]["value"]


def test_two_scans_are_enough_for_what_two_can_say(heads: Path, tmp_path: Path) -> None:
    few = [write(tmp_path / name, seeds) for name, seeds in (("made", range(2)), ("real", range(5, 7)))]
    found = {one.key: one for one in judge_scans(*few, HaarFeatures(), silent, full=True).tables}
    assert found["distances"].rows[0][1] != "-"
    assert found["precision_recall"].rows[0] == ("precision", "-", "-", "-", "-", "-")
    with pytest.raises(InputError, match="at least 2 scans"):
        judge_scans(write(tmp_path / "one", range(1)), few[1], HaarFeatures(), silent)


def test_the_pattern_leaves_label_maps_out(heads: Path, tmp_path: Path) -> None:
    write(tmp_path / "real", range(3))
    for file in sorted((tmp_path / "real").iterdir()):
        labels = Volume(np.eye(24)[:, :, None] * np.ones(30), np.diag([8.0, 8, 8, 1]))
        labels.write(file.with_name(file.name.replace("scan", "dseg")))
    found = judge_scans(heads / "copied", tmp_path / "real", HaarFeatures(), silent, reading=Reading("scan*"))
    assert found.real.names == ("scan-00.nii.gz", "scan-01.nii.gz", "scan-02.nii.gz")


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        (["--protocol", "bonds"], "--protocol is for molecules"),
        (["--limit", "3"], "--limit is for molecules"),
        ([], "--reference FOLDER"),
    ],
)
def test_options_of_molecules_are_refused(
    heads: Path, options: list[str], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["score", str(heads / "new"), *options])
    assert fault in " ".join(capsys.readouterr().err.split())


def test_diversity_of_equal_scans_is_one_and_of_tiny_ones_unknown() -> None:
    scan = np.random.default_rng(0).uniform(-1, 1, (1, 16, 16, 16)).astype(np.float32)
    value, low, high, scales = diversity(np.repeat(scan, 5, axis=0))
    assert (value, low, high, scales) == (pytest.approx(1, abs=1e-5), pytest.approx(1), pytest.approx(1), 2)
    assert np.isnan(diversity(scan)[0])
    assert np.isnan(diversity(np.repeat(scan[:, :5], 3, axis=0))[0])
