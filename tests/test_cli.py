"""The names people type, and every verb once on a tiny model."""

import importlib
import json
import subprocess
import sys
from argparse import _SubParsersAction
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmol_diffusion.cli import main, parser
from medmol_diffusion.core import GRIDS, STEPPERS
from medmol_diffusion.molecules import read_molecules, write_sdf
from medmol_diffusion.mri import Volume
from tests.conftest import random_molecules, write_scans

VERBS = [
    *("fit", "validate", "sample", "inpaint", "vary", "super-resolve", "translate", "evaluate", "score", "detect"),
    *("split", "doctor", "export", "models", "demo", "completion"),
]  # fmt: skip
CLASSES = {
    "medmol_diffusion.molecules": [
        "MoleculeDiffusion", "Molecule", "MoleculeBatch", "MoleculeData", "EnumeratedData", "EGNN",
    ],
    "medmol_diffusion.mri": ["VolumeDiffusion", "AnomalyDetector", "Volume", "VolumeData", "PhantomData", "UNet3D"],
}  # fmt: skip


def test_verbs_are_pinned() -> None:
    (verbs,) = (action for action in parser()._actions if isinstance(action, _SubParsersAction))
    assert list(verbs.choices) == VERBS


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in CLASSES.items() for name in names])
def test_classes_are_pinned(module: str, name: str) -> None:
    assert isinstance(getattr(importlib.import_module(module), name), type)
    assert name in importlib.import_module(module).__all__


def test_help_and_version_end_well(capsys: pytest.CaptureFixture[str]) -> None:
    main(["fit", "--help"])
    assert "--ckpt_path last" in capsys.readouterr().out
    for arguments in (["--version"], ["--help"], ["sample", "--help"]):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert not end.value.code
    shown = capsys.readouterr().out
    assert all(verb in shown for verb in VERBS)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, ""),
        (["sample", "nowhere", "-o", "out.sdf"], 2, "nowhere is no model"),
        (["export", "nowhere", "-o", "out"], 2, "nowhere is no model"),
        (["score", "nowhere.sdf"], 2, "nowhere.sdf does not exist"),
        (["score", ".", "--reference", "nowhere"], 2, "nowhere does not exist"),
        (["split", "nowhere.npz", "-o", "split.json"], 2, "nowhere.npz does not exist"),
        (["fit", "--config", "nowhere.yaml"], 2, "nowhere.yaml does not exist"),
        (["split", ".", "-o", "split.json", "--test", "2"], 2, "2 is no share"),
        (["split", ".", "-o", "split.json", "--test", "0.5", "--validation", "0.5"], 2, "leave nothing to train on"),
        (["vary", "qm9-chno", ".", "-o", "x.sdf", "--strength", "2"], 2, "2 must lie in (0, 1]"),
        (["vary", "qm9-chno", ".", "-o", "x.sdf", "--minimise"], 2, "name one by --objective"),
        (["inpaint", "qm9-chno", ".", "-o", "x.sdf", "--fixed", "1", "--free", "2"], 2, "--free: not allowed with"),
        (["validate", "qm9-chno"], 2, "qm9-chno does not name its data, as a run folder does: give --data PATH\n"),
        (["validate", "qm9-chno", "--data", ".", "--split", "test"], 2, "leave --split test out, for all of ."),
        (["validate", "qm9-chno", "--data", ".", "--method", "flow", "--map", "x.sdf"], 2, "leave --method flow out"),
        (["validate", "qm9-chno", "--data", ".", "--method", "iwae", "--draws", "exact"], 2, "give --method iwae"),
        (["validate", "qm9-chno", "--data", ".", "--method", "flow", "--steps", "0"], 2, "needs at least 1"),
        (["validate", "qm9-chno", "--data", ".", "--steps", "0", "--draws", "exact"], 2, "give steps"),
    ],
)
def test_help_and_wrong_names_do_not_wait_for_torch(arguments: list[str], code: int, said: str, tmp_path: Path) -> None:
    program = f"""
import sys
from medmol_diffusion.cli import main
try:
    main({arguments!r})
finally:
    print("torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == code
    assert done.stdout.endswith("False\n")
    assert said in done.stderr


def test_help_of_sample_names_every_sampler_and_grid(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["sample", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert ", ".join(STEPPERS) in shown
    assert ", ".join(GRIDS) in shown


def test_molecules_from_a_run_to_scores(molecule_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["export", str(molecule_run), "-o", str(tmp_path / "model")])
    out = str(tmp_path / "out.sdf")
    main(["sample", str(tmp_path / "model"), "-n", "4", "--steps", "2", "--grid", "karras", "-o", out])
    molecules, bad = read_molecules(tmp_path / "out.sdf")
    assert len(molecules) + len(bad) == 4
    main(["validate", str(molecule_run), "--limit", "3", "--json", str(tmp_path / "bound.json")])
    bound = json.loads((tmp_path / "bound.json").read_text())
    assert {"total", "prior", "diffusion", "reconstruction", "size"} <= set(bound["terms"])
    assert bound["settings"]["transitions"] == 1000
    write_sdf(random_molecules(5), tmp_path / "real.sdf")
    main(["score", str(tmp_path / "real.sdf"), "--json", str(tmp_path / "scores.json")])
    assert json.loads((tmp_path / "scores.json").read_text())
    assert "nats" in capsys.readouterr().out


def test_scans_from_a_run_to_an_anomaly_map(volume_run: Path, tmp_path: Path) -> None:
    main(["sample", str(volume_run), "-n", "2", "--steps", "2", "-o", str(tmp_path / "scans")])
    assert len(list((tmp_path / "scans").glob("*.nii.gz"))) == 2
    main(["validate", str(volume_run), "--data", str(tmp_path / "scans"), "--json", str(tmp_path / "bound.json")])
    bound = json.loads((tmp_path / "bound.json").read_text())
    assert bound["examples"] == 2
    gaussian, gain = (mean for mean, _ in bound["baseline"].values())
    assert gain == pytest.approx(gaussian - bound["terms"]["bits_per_dim"][0])
    scan = sorted(write_scans(tmp_path / "real", 3).glob("*.nii.gz"))[0]
    main(["detect", str(volume_run), str(scan), "-o", str(tmp_path / "found")])
    anomaly = nib.load(tmp_path / "found" / "sub-00_T1w_anomaly.nii.gz")
    assert anomaly.shape == Volume.read(scan).shape
    np.testing.assert_allclose(anomaly.affine, Volume.read(scan).affine)
    assert list(json.loads((tmp_path / "found" / "detect.json").read_text())["scores"]) == [str(scan)]


@pytest.mark.filterwarnings("default::UserWarning")  # not the test suite's own: an error
def test_skipped_records_are_one_clean_line(
    molecule_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sdf(random_molecules(4), tmp_path / "some.sdf")
    with (tmp_path / "some.sdf").open("a") as file:
        file.write("broken\n\n\n  9 9 nonsense\n$$$$\n")
    main(["validate", str(molecule_run), "--data", str(tmp_path / "some.sdf"), "--steps", "10"])
    said = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(said) == 1
    assert said[0].startswith(f"warning: {tmp_path / 'some.sdf'}: skipped 1 record that cannot be used: ")
    assert ".py" not in said[0]


@pytest.mark.parametrize("run", ["molecule_run", "volume_run"])
@pytest.mark.parametrize(
    ("method", "steps", "said"),
    [("iwae", 3, "importance-weighted"), ("flow", 4, "estimate of -log p by the probability flow, not a bound")],
)
def test_every_method_of_validate_says_what_it_is(
    run: str,
    method: str,
    steps: int,
    said: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--method", method, "--steps", str(steps), "--draws", "2", "--limit", "2"]
    file = tmp_path / "nll.json"
    main(["validate", str(request.getfixturevalue(run)), *arguments, "--json", str(file)])
    shown = " ".join(capsys.readouterr().out.split())
    assert said in shown
    assert "standard error of the draws alone" in shown
    found = json.loads(file.read_text())
    assert found["method"] == method
    assert found["settings"]["draws"] == 2
    assert found["settings"]["steps" if method == "flow" else "transitions"] == steps
    own = {"iwae": "importance", "flow": "divergence"}[method]
    assert {"total", "prior", "reconstruction", "log_volume", own} <= set(found["terms"])
    assert all(np.isfinite(mean) for mean, _ in found["terms"].values())
