"""tests/benchmarks/anomaly*.py: what methods learn from has no lesion, no fold sees its own, and curves count right."""

import csv
import json
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import Volume
from medmol_diffusion.mri.anomaly import Detection, Unserved
from medmol_diffusion.mri.anomaly.evaluation import Case, Evaluation, Evaluator
from medmol_diffusion.mri.split import SubjectSplit
from medmol_diffusion.mri.transforms import Grid
from medmol_diffusion.training.saved import build
from tests.benchmarks.anomaly import main, own_sets
from tests.benchmarks.anomaly_curves import Curves, draw
from tests.benchmarks.anomaly_folds import with_validation
from tests.benchmarks.anomaly_own import own_config
from tests.benchmarks.anomaly_sets import Head, phantom_head, phantoms, planted, read_heads, shuffled, split
from tests.benchmarks.cross_validation import folds

GRID = Grid((16, 20, 16), 12.0)
AFFINE = np.eye(4)


def head(subject: str, lesion: bool = True) -> Head:
    data = np.arange(10.0**3).reshape(10, 10, 10)
    mask = np.zeros_like(data)
    mask[4:6, 4:6, 4:6] = lesion
    scan = Volume(data, AFFINE, {"source": subject})
    return Head(subject, scan, replace(scan, data=np.ones_like(data)), None, replace(scan, data=mask))


def test_what_is_learnt_from_lies_away_from_lesions() -> None:
    case = head("a").healthy()
    assert not case.sick
    assert case.brain is not None
    assert case.brain.data[4:6, 4:6, 2:8].max() == 0
    assert case.brain.data[0].min() == 1
    assert head("a").case().sick
    whole = head("b", lesion=False).healthy()
    assert whole.brain is not None
    assert whole.brain.data.all()


def test_heads_are_read_with_what_belongs_to_them(tmp_path: Path) -> None:
    for name in ("sub-1", "sub-2", "sub-3"):
        one = head(name)
        one.scan.write(tmp_path / f"{name}_FLAIR.nii.gz")
        half = replace(one.brain, data=np.where(np.arange(10)[:, None, None] < 5, 7.0, 0.0) * one.brain.data)
        half.write(tmp_path / f"{name}_dseg.nii.gz", np.uint8)
        assert one.lesions is not None
        if name != "sub-2":
            one.lesions.write(tmp_path / f"{name}_lesions.nii.gz", np.uint8)
    heads = read_heads(tmp_path, "*_FLAIR.nii.gz", "*_dseg.nii.gz", None, "*_lesions.nii.gz")
    assert [one.subject for one in heads] == ["sub-1", "sub-2", "sub-3"]
    assert [one.brain.data.sum() for one in heads] == [500] * 3
    assert [None if one.lesions is None else one.lesions.data.sum() for one in heads] == [8, None, 8]
    (only,) = read_heads(tmp_path, "*_FLAIR.nii.gz", None, None, None, ["sub-3"])
    assert only.lesions is None
    assert shuffled(heads, 0) == shuffled(heads[::-1], 0)
    first, rest = split(shuffled(heads, 0), 0.4)
    assert len(first) == 1
    assert len(rest) == 2


def test_another_folder_is_learnt_from_by_its_validation_part_and_the_first_is_tested_whole(tmp_path: Path) -> None:
    for folder, names in (("old", ("sub-1", "sub-2", "sub-3")), ("new", ("sub-4", "sub-5"))):
        for name in names:
            head(name).scan.write(tmp_path / folder / f"{name}_FLAIR.nii.gz")
            head(name).lesions.write(tmp_path / folder / f"{name}_lesions.nii.gz", np.uint8)  # type: ignore[union-attr]
    split_file = tmp_path / "split.json"
    SubjectSplit(["sub-1"], ["sub-2", "sub-3"], []).write(split_file)
    given = {
        "data": "scans",
        "whites": None,
        "brains": None,
        "scans": "*_FLAIR.nii.gz",
        "masks": "*_lesions.nii.gz",
        "images": [],
    }
    options = Namespace(**given, folder=tmp_path / "new", learn=tmp_path / "old", learn_split=str(split_file))
    sets = own_sets(options, SimpleNamespace(grid=GRID))  # type: ignore[arg-type]
    assert [case.subject for case in sets.healthy] == ["sub-2", "sub-3"]
    assert not any(case.sick for case in sets.healthy)
    assert [case.subject for case in sets.test] == ["sub-4", "sub-5"]
    assert all(case.sick for case in sets.test)
    SubjectSplit(["sub-1"], [], []).write(split_file)
    with pytest.raises(InputError, match="has nobody for validation"):
        own_sets(options, SimpleNamespace(grid=GRID))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained: one of scans alone, one that makes them of T1w, and an autoencoder."""
    folder = tmp_path_factory.mktemp("models")
    shape = {"shape": list(GRID.shape), "spacing": GRID.spacing}
    for name, channels, task in (("free", 16, None), ("translation", 24, {"source": "T1w"})):
        network = {"channels_in": channels, "channels_out": 16, "channels": [8], "blocks": 1}
        parts = {
            "task": task and {"class_path": "medmol_diffusion.mri.Translation", "init_args": task},
            "first_stage": {"class_path": "medmol_diffusion.mri.HaarStage", "init_args": {"levels": 1}},
            "network": {"class_path": "medmol_diffusion.mri.UNet3D", "init_args": network},
        }
        save(folder / name, "VolumeDiffusion", shape | parts)
    save(folder / "autoencoder", "Autoencoder", shape | {"channels": [8, 8], "blocks": 1})
    return folder


def save(folder: Path, kind: str, arguments: dict[str, Any]) -> None:
    config = {"class_path": f"medmol_diffusion.mri.{kind}", "init_args": arguments}
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": {"model": config}}))
    torch.manual_seed(0)
    save_file(build(config).state_dict(), folder / "model.safetensors")


def test_methods_with_models_of_their_own_stand_beside_the_others_and_none_is_run_twice(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ["--own", f"translate={models / 'translation'}", f"autoencoder={models / 'autoencoder'}"]
    how = ["--data", "phantoms", "--images", "T1w", "--heads", "1", "--draws", "5"]
    how += ["--methods", "smoothing", "partial_simplex"]
    command = [str(models / "free"), *how, *own, "-o", str(tmp_path)]
    evaluate, ran = Evaluator.evaluate, []

    def killed(self: Evaluator, method: str, **told: Any) -> Evaluation:
        if len(ran) == 2 or method == "partial_simplex":
            raise KeyboardInterrupt if len(ran) == 2 else Unserved("magic needs a wand")
        ran.append(method)
        return evaluate(self, method, **told)

    monkeypatch.setattr(Evaluator, "evaluate", killed)
    with pytest.raises(KeyboardInterrupt):
        main(command)
    assert ran == ["smoothing", "translate"]
    monkeypatch.setattr(
        Evaluator, "evaluate", lambda self, method, **told: ran.append(method) or evaluate(self, method, **told)
    )
    main(command)
    assert ran == ["smoothing", "translate", "autoencoder", "intensity", "zscore", "pca"]
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert set(figures["methods"]) == set(ran[:4])
    assert figures["tables"]["left_out"].keys() == {"partial_simplex", "zscore", "pca"}
    assert {one["method"] for one in figures["sensitivity"]} == set(ran[:4])
    with (tmp_path / "subjects.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 4 * 2


def test_a_config_of_a_methods_own_is_trained_on_what_the_fold_is(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    data = {"class_path": "medmol_diffusion.mri.VolumeData", "init_args": {"path": "heads", "exclude": "*_lesions*"}}
    grid = {"shape": [48, 60, 48], "spacing": 4.0}
    content = {"data": data, "model": {"model": {"class_path": "a", "init_args": grid}}}
    (run / "config.yaml").write_text(yaml.safe_dump(content))
    made = own_config(Path("configs/mri/autoencoder.yaml"), run, tmp_path / "own.yaml", {"T1w": "*_T1w*"})
    found = yaml.safe_load(made.read_text())
    assert found["data"] == data
    assert found["model"]["model"]["class_path"] == "medmol_diffusion.mri.Autoencoder"
    assert found["model"]["model"]["init_args"].items() >= grid.items()
    made = own_config(Path("configs/mri/translation.yaml"), run, tmp_path / "own.yaml", {"T1w": "*_T1w*"})
    found = yaml.safe_load(made.read_text())["data"]["init_args"]
    assert found["exclude"] == "*_lesions*"
    assert found["images"] == {"T1w": "*_T1w*"}


def test_phantoms_of_every_kind_stand_beside_healthy_ones_of_other_people() -> None:
    sets = phantoms(GRID, "FLAIR", 1, 2)
    learnt, tested = ({case.subject for case in part} for part in (sets.healthy, sets.test))
    assert not learnt & tested
    assert [case.sick for case in sets.test] == [bool(group) for group in sets.groups]
    assert sorted(group["kind"] for group in sets.groups if group) == ["cavity", "haemorrhage", "mass", "white_matter"]


def test_other_contrasts_of_phantoms_are_of_the_same_heads_and_lesions() -> None:
    plain, both = phantoms(GRID, "FLAIR", 1, 2), phantoms(GRID, "FLAIR", 1, 2, ["T1w"])
    for one, two in zip([*plain.healthy, *plain.test], [*both.healthy, *both.test], strict=True):
        np.testing.assert_array_equal(one.scan.data, two.scan.data)
        assert list(two.images) == ["T1w"]
        inside, air = two.brain.data > 0, two.scan.data == two.scan.data.min()
        assert not np.array_equal(two.images["T1w"].data[inside], two.scan.data[inside])
        assert two.images["T1w"].data[air].mean() < 0.2 * two.images["T1w"].data[inside].mean()


def test_planted_sets_have_every_contrast_and_volume_of_the_same_lesions() -> None:
    heads = [phantom_head(i, GRID, "FLAIR") for i in range(4)]
    sets = planted(heads[:1], heads[1:], [-0.4, 0.4], [10.0, 40.0], (), 99.5, seed=0)
    assert [group for group in sets.groups if not group] == [{}]
    assert len(sets.test) == 1 + 2 * 4
    for dark, bright in ((1, 2), (3, 4)):
        assert {sets.groups[i]["contrast"] for i in (dark, bright)} == {-0.4, 0.4}
        assert sets.groups[dark]["ml"] == sets.groups[bright]["ml"]
        np.testing.assert_array_equal(sets.test[dark].truth, sets.test[bright].truth)
    assert sets.test[3].truth.sum() > 2 * sets.test[1].truth.sum()


def test_curves_count_what_was_found_by_group(tmp_path: Path) -> None:
    cases = [head(name).case() for name in "abc"]
    groups = {id(case): {"contrast": value} for case, value in zip(cases, (-0.5, -0.5, 0.5), strict=True)}
    healthy = Case(cases[0].scan, "d")
    curves = Curves({**groups, id(healthy): {}}, overlap=0.1, draws=20)
    for case, hit in zip([*cases, healthy], (1.0, 0.0, 1.0, 0.0), strict=True):
        shown = replace(case.scan, data=hit * case.truth)
        curves.seen("ours", case, Detection(case.scan, shown, case.scan, np.ones(case.scan.shape, bool), 0.0, 0.0, 0.5))
    dark, bright = curves.points()
    assert (dark.value, dark.n, dark.found, dark.auroc) == (-0.5, 2, 0.5, 0.75)
    assert (bright.value, bright.n, bright.found, bright.auroc) == (0.5, 1, 1.0, 1.0)
    draw([dark, bright], tmp_path / "curves.svg", "title")
    assert "title" in (tmp_path / "curves.svg").read_text()


def test_folds_fit_methods_on_subjects_that_are_neither_trained_nor_tested_on() -> None:
    people = [f"sub-{i:02d}" for i in range(11)]
    splits = with_validation(folds(people, 4, 0, ["sub-03"]), 2)
    assert sorted(name for one in splits for name in one.test) == [name for name in people if name != "sub-03"]
    for one in splits:
        assert sorted([*one.train, *one.validation, *one.test]) == people
        assert len(one.validation) == 3
        assert "sub-03" in one.validation
    with pytest.raises(InputError, match="to fit methods on"):
        with_validation(folds(people, 4, 0), 9)


def test_lesions_dealt_to_heads_come_equally_often() -> None:
    heads = [phantom_head(i, GRID, "FLAIR") for i in range(7)]
    sets = planted(heads[:1], heads[1:], [-0.4, 0.4], [10.0, 40.0], (), 99.5, 0, per_head=2)
    dealt = [(group["contrast"], group["ml"]) for group in sets.groups if group]
    assert sorted(dealt) == sorted(2 * [(-0.4, 10.0), (0.4, 10.0), (-0.4, 40.0), (0.4, 40.0)])
    assert len(sets.test) == 2 + 4 * 2
