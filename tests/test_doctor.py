"""`medmol doctor`: what it finds, and that it leaves with 2 where a run would fail."""

import json
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmol_diffusion.cli import main
from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import Molecule, write_sdf
from medmol_diffusion.molecules.formats.record import BadRecord
from medmol_diffusion.molecules.survey import Survey as MoleculeSurvey
from medmol_diffusion.mri import Volume, VolumeData
from medmol_diffusion.mri.formats.files import find_scans
from medmol_diffusion.mri.survey import survey
from medmol_diffusion.training.trial import STEPS, trial
from tests.conftest import random_molecules, write_scans
from tests.mri.series import write_series

CONFIGS = Path(__file__).parent.parent / "configs"
pytestmark = pytest.mark.filterwarnings("default::UserWarning")
SMALL = ["--data.count=6", "--data.batch_size=2", "--trainer.accelerator=cpu"]


def looked(arguments: list[str], folder: Path) -> dict[str, object]:
    main(["doctor", *arguments, "--json", str(folder / "doctor.json")])
    found: dict[str, object] = json.loads((folder / "doctor.json").read_text())
    return found


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main(["doctor", *arguments])
    assert end.value.code == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return error


def test_a_folder_of_scans_is_told_by_what_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    ramp = np.random.default_rng(0).normal(100, 20, (10, 12, 9))
    affine = np.diag([-1.0, 1, 2, 1])
    Volume(ramp, affine).write(folder / "sub-01_T1w.nii.gz")
    Volume(ramp[::-1], affine @ np.diag([-1.0, 1, 1, 1])).write(folder / "sub-02_T1w.nii.gz")  # the same, flipped
    Volume(ramp[:, :8] ** 2, np.diag([1.0, 1, 1, 1])).write(folder / "sub-03_T1w.nii")
    Volume(ramp[:6] > 0, np.eye(4)).write(folder / "sub-03_mask.nii.gz", np.uint8)
    Volume(np.ceil(np.arange(512).reshape(8, 8, 8) / 256), np.eye(4)).write(folder / "sub-04_dseg.nii.gz", np.uint8)
    write_series(folder / "patient" / "t1", np.random.default_rng(1).integers(1, 900, (6, 7, 5)))
    (folder / "sub-05_T1w.nii.gz").write_bytes(b"no scan")
    bare = nib.Nifti1Image(ramp[:7].astype(np.float32), None)
    nib.save(bare, folder / "sub-06_T1w.nii.gz")
    (folder / "participants.tsv").write_text("participant_id\tage\tsex\nsub-01\t60\tF\nsub-02\tn/a\tM\nsub-77\t3\tM\n")
    said = looked([str(folder)], tmp_path)
    found, faults, doubts = (said[key] for key in ("found", "cannot_be_used", "look_at"))
    assert isinstance(found, dict)
    assert isinstance(faults, list)
    assert found["scans"] == "NIfTI (5), DICOM (1)"
    assert found["subjects"] == "6: patient, sub-01, sub-02, sub-03, sub-04, ..."
    assert found["the grid that holds all"].startswith("shape [12, 12, 20], spacing 1 mm")
    assert found["covariate age"] == "60 to 60, 60 in the median; 5 missing"
    assert found["covariate sex"] == "F (1), M (1); 4 missing"
    assert len(faults) == 2
    assert "sub-03_mask.nii.gz is constant" in faults[0]
    assert "sub-05_T1w.nii.gz cannot be read" in faults[1]
    text = "\n".join(doubts)  # type: ignore[arg-type]
    assert "the same scan lies in sub-01_T1w.nii.gz, sub-02_T1w.nii.gz" in text
    assert "training and test would share them" in text
    assert (
        "1 of 6 scans look like label maps or masks, not scans: leave them out by suffix or pattern (sub-04_dseg"
        in text
    )
    assert "1 of 6 scans do not say where they lie (sform and qform code 0)" in text
    assert "sub-06" in text
    assert "1 rows of the table name none of the scans" in text
    only = looked([str(folder), "--suffix", "T1w"], tmp_path)["found"]
    assert isinstance(only, dict)
    assert only["scans"] == "NIfTI (4)"


def test_the_grid_it_names_holds_every_scan(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for k, spacing in enumerate((0.8, 1.0, 1.3)):
        shape = draw.integers(6, 15, 3)
        Volume(draw.normal(size=shape), np.diag([spacing, 1.0, spacing, 1])).write(tmp_path / f"s{k}.nii.gz")
    found = survey(find_scans(tmp_path), lambda file: file.name)
    data = VolumeData(str(tmp_path), list(found.grid.shape), spacing=found.grid.spacing, validation=0, test=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is cropped
        data.setup()
    own = np.prod(data.train.boxes[:, :, 1] - data.train.boxes[:, :, 0], axis=1) / np.prod(data.shape)
    assert dict(found.rows())["padded to it"].endswith(f", {100 * (1 - own.mean()):.0f} % of all voxels")


def test_molecules_are_told_and_what_would_be_skipped(tmp_path: Path) -> None:
    molecules = random_molecules(5)
    write_sdf([*molecules, molecules[0]], tmp_path / "some.sdf")
    with (tmp_path / "some.sdf").open("a") as file:
        file.write("broken\n\n\n  9 9 nonsense\n$$$$\n" * 2)
    said = looked([str(tmp_path / "some.sdf")], tmp_path)
    found, faults, doubts = (said[key] for key in ("found", "cannot_be_used", "look_at"))
    assert isinstance(found, dict)
    sizes = [molecule.num_atoms for molecule in molecules]
    assert (found["molecules"], found["cannot be used"]) == ("6", "2")
    assert found["atoms"].startswith(f"{min(sizes)} to {max(sizes)}, ")
    assert faults[0].startswith("2 records, the first is 7: ")  # type: ignore[index]
    assert any("1 molecule have the atoms and positions" in doubt for doubt in doubts)  # type: ignore[attr-defined]


def test_faults_of_one_kind_are_counted_together_and_the_first_is_shown_as_it_is() -> None:
    found = MoleculeSurvey()
    for index, reason in enumerate(
        ["mol 7 ends after 3 of its 12 atoms", "no atoms", "mol 9 ends after 1 of its 4 atoms"]
    ):
        found.skip(BadRecord(index, "", reason))
    assert found.faults() == [
        "2 records, the first is 1: mol 7 ends after 3 of its 12 atoms",
        "1 record, the first is 2: no atoms",
    ]
    found.add(Molecule([7, 1], [[0, 0, 0], [0, 0, 1.0]], formal_charges=[-1, 0]))
    assert dict(found.rows())["formal charges"] == "-1 (1 atom)"


def test_nothing_usable_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "scans").mkdir()
    assert "holds neither" in fails([str(tmp_path / "scans")], capsys)
    (tmp_path / "scans" / "a.nii").write_bytes(b"")
    assert "nothing in it can be used" in fails([str(tmp_path / "scans")], capsys)
    Volume(np.random.default_rng(0).normal(size=(4, 4, 4)), np.eye(4)).write(tmp_path / "scans" / "b.nii")
    main(["doctor", str(tmp_path / "scans")])
    (tmp_path / "bad.sdf").write_text("broken\n\n\n  9 9 nonsense\n$$$$\n")
    assert "nothing in it can be used" in fails([str(tmp_path / "bad.sdf")], capsys)


def test_a_config_is_tried_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = trial(["--config", str(CONFIGS / "mri" / "phantom.yaml"), *SMALL])
    assert found.parameters > 1_000_000
    assert found.batch == 2
    assert found.max_steps == 6000
    assert found.seconds > 0
    weights = 4 * found.parameters
    assert 4 * weights < found.peak  # weights, their mean, gradients and two moments at least
    assert np.isfinite(found.loss)
    assert STEPS > 1
    assert not list(tmp_path.iterdir())


def test_a_step_that_does_not_fit_is_refused_in_a_sentence() -> None:
    wide = "--model.model.init_args.network.init_args.channels=[256,384]"
    with pytest.raises(InputError, match=r"needs more memory than the 0.0 GiB that are free: lower data.batch_size"):
        trial(["--config", str(CONFIGS / "mri" / "phantom.yaml"), *SMALL, wide], available=2**24)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("model.model.init_args.shape=[31,40,32]", "must be three multiples of 4"),
        ("data.shape=[32,40,36]", "give data.shape and model.model.shape the same sizes"),
        ("data.levels=128", "give data.levels and model.model.intensity_levels the same value"),
        ("data.upper_percentile=99.9", "scans of upper_percentile 99.9 do not fit a model of upper_percentile 99.5"),
        ("data.count=2", "2 subjects are too few"),
        ("data.flips=true", "did you mean flip?"),
        ("trainer.default_root_dir=null", "trainer.default_root_dir is not set"),
    ],
)
def test_a_config_that_would_fail_ends_with_2(setting: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    small = [part for one in SMALL for part in ("--set", one.removeprefix("--"))]
    assert said in fails([str(CONFIGS / "mri" / "phantom.yaml"), *small, "--set", setting], capsys)


def test_a_run_that_is_there_is_not_trained_over(volume_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(volume_run.rglob("*"))
    assert "holds a run already" in fails([str(volume_run / "config.yaml")], capsys)
    assert sorted(volume_run.rglob("*")) == before


def test_scans_are_split_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_scans(tmp_path / "scans", 8)
    main(
        ["split", str(tmp_path / "scans"), "-o", str(tmp_path / "split.json"), "--validation", "0.25", "--test", "0.25"]
    )
    parts = json.loads((tmp_path / "split.json").read_text())
    assert [len(parts[part]) for part in ("train", "validation", "test")] == [4, 2, 2]
    assert "4 subjects to train" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(SystemExit) as end:
        main(["split", str(tmp_path / "scans"), "-o", str(tmp_path / "x.json"), "--group-by", "name"])
    assert end.value.code == 2
    assert not (tmp_path / "x.json").exists()
