"""tests/benchmarks/cross_validation.py: every subject is left out once, and the folds are pooled by subject."""

from pathlib import Path

import numpy as np
import pytest

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.tasks.comparison import MEASURES, Comparison
from tests.benchmarks.cross_validation import answered, folds, pooled, same_as_before, write

PEOPLE = [f"sub-{i:02d}" for i in range(11)]


def test_every_subject_is_tested_once_and_never_trained_on_then() -> None:
    splits = folds(PEOPLE * 2, 4, seed=0, without=["sub-03"])
    tested = [name for split in splits for name in split.test]
    assert sorted(tested) == [name for name in PEOPLE if name != "sub-03"]
    for split in splits:
        assert not set(split.train) & set(split.test)
        assert sorted([*split.train, *split.validation, *split.test]) == PEOPLE
        assert split.validation == ["sub-03"]
    assert {len(split.test) for split in splits} == {2, 3}
    assert folds(PEOPLE[::-1], 4, 0, ["sub-03"]) == splits
    assert folds(PEOPLE, 4, 1, ["sub-03"]) != splits


def test_folds_that_are_none_are_refused() -> None:
    for count, without in ((1, []), (12, []), (2, ["sub-99"])):
        with pytest.raises(InputError):
            folds(PEOPLE, count, 0, without)


def test_pooling_counts_every_subject_alike() -> None:
    def found(subjects: list[str], ours: list[float]) -> Comparison:
        column = np.array(ours)[:, None].repeat(len(MEASURES), 1)
        return Comparison(4, subjects, {"model": column, "linear map": np.zeros_like(column)})

    together = pooled([found(["a", "a", "b"], [1.0, 3.0, 4.0]), found(["c"], [6.0])])
    assert together.subjects == ["a", "a", "b", "c"]
    mean, _ = together.gain("linear map")
    np.testing.assert_allclose(mean, (2 + 4 + 6) / 3)


def test_a_fold_without_all_measures_is_answered_again(tmp_path: Path) -> None:
    file = tmp_path / "comparison.json"
    assert not answered(file)
    write(file, Comparison(1, ["a"], {"model": np.ones((1, len(MEASURES)))}).to_dict())
    assert answered(file)
    write(file, {"answers": {"model": {"psnr": 1.0}}})
    assert not answered(file)


def test_a_folder_of_another_experiment_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "cv" / "settings.json"
    same_as_before(file, {"folds": 5, "steps": 10})
    same_as_before(file, {"folds": 5, "steps": 10})
    with pytest.raises(InputError, match="steps changed"):
        same_as_before(file, {"folds": 5, "steps": 20})
