"""tests/benchmarks/anomaly*.py: what methods learn from has no lesion, no fold sees its own, and curves count right."""

from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import Volume
from medmol_diffusion.mri.anomaly import Detection
from medmol_diffusion.mri.anomaly.evaluation import Case
from medmol_diffusion.mri.split import SubjectSplit
from medmol_diffusion.mri.transforms import Grid
from tests.benchmarks.anomaly import own_sets
from tests.benchmarks.anomaly_curves import Curves, draw
from tests.benchmarks.anomaly_folds import with_validation
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
    given = {"data": "scans", "whites": None, "brains": None, "scans": "*_FLAIR.nii.gz", "masks": "*_lesions.nii.gz"}
    options = Namespace(**given, folder=tmp_path / "new", learn=tmp_path / "old", learn_split=str(split_file))
    sets = own_sets(options, SimpleNamespace(grid=GRID))  # type: ignore[arg-type]
    assert [case.subject for case in sets.healthy] == ["sub-2", "sub-3"]
    assert not any(case.sick for case in sets.healthy)
    assert [case.subject for case in sets.test] == ["sub-4", "sub-5"]
    assert all(case.sick for case in sets.test)
    SubjectSplit(["sub-1"], [], []).write(split_file)
    with pytest.raises(InputError, match="has nobody for validation"):
        own_sets(options, SimpleNamespace(grid=GRID))  # type: ignore[arg-type]


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
