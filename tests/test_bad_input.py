"""Whatever is wrong with the input: exit code 2, one sentence that names the file or the key, nothing half-written."""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmol_diffusion.cli import main
from medmol_diffusion.molecules import Molecule, write_sdf
from tests.conftest import random_molecules, write_scans
from tests.faults.refusal import refusal

pytestmark = pytest.mark.filterwarnings("default::UserWarning")  # which the suite turns into errors elsewhere
BROKEN_RECORD = "broken\n\n\n  9 9 nonsense\n$$$$\n"


def write(path: Path, data: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(data, np.eye(4)), path)
    return path


def truncated(path: Path) -> Path:
    write(path, np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32))
    path.write_bytes(path.read_bytes()[:400])
    return path


SCANS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "truncated": (truncated, "cannot be read as NIfTI"),
    "four_d": (lambda p: write(p, np.random.default_rng(0).normal(size=(8, 8, 8, 3))), "4-D"),
    "empty": (lambda p: write(p, np.zeros((8, 0, 8), np.float32)), "empty"),
    "no_bytes": (lambda p: (p.write_bytes(b""), p)[1], "cannot be read as NIfTI"),
    "nan": (lambda p: write(p, np.full((8, 8, 8), np.nan, np.float32)), "NaN"),
    "constant": (lambda p: write(p, np.ones((8, 8, 8), np.float32)), "constant"),
    "missing": (lambda p: p, "does not exist"),
    "not_nifti": (lambda p: (p.with_suffix(".txt").write_text("x"), p.with_suffix(".txt"))[1], "not a NIfTI file"),
}


@pytest.mark.parametrize(("make", "fault"), SCANS.values(), ids=SCANS.keys())
def test_bad_scan_for_detect(
    make: Callable[[Path], Path], fault: str, volume_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scan = make(tmp_path / "scan.nii")
    said = refusal(["detect", str(volume_run), str(scan), "-o", str(tmp_path / "out")], capsys)
    assert str(scan) in said
    assert fault in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["truncated", "four_d", "empty", "nan", "constant"])
def test_bad_scans_for_score(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, _ = SCANS[name]
    (tmp_path / "scans").mkdir()
    real = write_scans(tmp_path / "real", 2)
    scan = make(tmp_path / "scans" / "scan.nii")
    assert str(scan) in refusal(
        ["score", str(tmp_path / "scans"), "--reference", str(real), "--json", str(tmp_path / "out.json")], capsys
    )
    assert not (tmp_path / "out.json").exists()


def test_bad_records_are_listed_and_the_rest_is_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "some.sdf"
    write_sdf(random_molecules(3), file)
    file.write_text(BROKEN_RECORD + file.read_text())
    main(["score", str(file), "--json", str(tmp_path / "scores.json")])
    said = " ".join(capsys.readouterr().out.split())
    assert "record 1 (broken)" in said
    assert "1 of 4 records" in said
    assert (tmp_path / "scores.json").exists()


def test_a_file_of_bad_records_only(molecule_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "bad.sdf"
    file.write_text(BROKEN_RECORD * 2)
    for verb in (["score", str(file)], ["validate", str(molecule_run), "--data", str(file)]):
        assert str(file) in refusal([*verb, "--json", str(tmp_path / "out.json")], capsys)
    assert not (tmp_path / "out.json").exists()


def test_unknown_element(molecule_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "silane.sdf"
    silane = Molecule(np.array([14, 1, 1, 1, 1]), np.random.default_rng(0).normal(size=(5, 3)), name="silane")
    write_sdf([silane], file)
    said = refusal(["validate", str(molecule_run), "--data", str(file)], capsys)
    assert str(file) in said
    assert "Si" in said


def test_a_symbol_that_is_no_element_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "odd.sdf"
    write_sdf(random_molecules(1), file)
    lines = file.read_text().splitlines()
    lines[4] = f"{lines[4][:31]}Xx {lines[4][34:]}"
    file.write_text("\n".join(lines) + "\n")
    assert "'Xx' is not an element symbol" in refusal(["score", str(file)], capsys)


def test_references_that_cannot_be_read_are_not_passed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad, mixed = (tmp_path / f"{name}.sdf" for name in ("good", "bad", "mixed"))
    write_sdf(random_molecules(3), good)
    bad.write_text(BROKEN_RECORD)
    mixed.write_text(BROKEN_RECORD + good.read_text())
    assert str(bad) in refusal(["score", str(good), "--reference", str(bad)], capsys)
    main(["score", str(good), "--reference", str(mixed)])
    assert "1 of 4 records" in " ".join(capsys.readouterr().out.split())


# arguments with {run} {scans} (models), {tmp}; words that must be in the sentence
COMMANDS: dict[str, tuple[list[str], list[str]]] = {
    "model_missing": (["sample", "{tmp}/none", "-o", "{tmp}/out.sdf"], ["{tmp}/none", "no model"]),
    "model_is_a_file": (["validate", "{tmp}/file.txt"], ["{tmp}/file.txt", "no model"]),
    "run_missing": (["export", "{tmp}/none", "-o", "{tmp}/out"], ["{tmp}/none", "no model"]),
    "molecule_suffix": (["sample", "{run}", "-n", "1", "-o", "{tmp}/out.pdb"], ["{tmp}/out.pdb", ".sdf", ".xyz"]),
    "scan_suffix": (["sample", "{scans}", "-n", "1", "-o", "{tmp}/out.nii.gz"], ["{tmp}/out.nii.gz", "folder"]),
    "grid": (["sample", "{run}", "-o", "{tmp}/out.sdf", "--grid", "leading"], ["--grid", "leading", "trailing"]),
    "steps_of_a_grid": (
        ["sample", "{run}", "-o", "{tmp}/out.sdf", "--grid", "trailing", "--steps", "1001"],
        ["--grid trailing", "1001", "1000"],
    ),
    "sampler": (["sample", "{run}", "-o", "{tmp}/out.sdf", "--sampler", "magic"], ["--sampler", "magic", "heun"]),
    "steps": (["sample", "{run}", "-o", "{tmp}/out.sdf", "--steps", "0"], ["--steps", "0 must be at least 1"]),
    "count": (["sample", "{run}", "-o", "{tmp}/out.sdf", "-n", "0"], ["-n", "0 must be at least 1"]),
    "count_text": (["sample", "{run}", "-o", "{tmp}/out.sdf", "-n", "many"], ["-n", "many"]),
    "draws": (["validate", "{run}", "--draws", "0"], ["--draws", "0 must be at least 1"]),
    "limit": (["validate", "{run}", "--limit", "-3"], ["--limit", "-3 must be at least 1"]),
    "device": (["sample", "{run}", "-o", "{tmp}/out.sdf", "--device", "toaster"], ["--device toaster"]),
    "data_missing": (["validate", "{run}", "--data", "{tmp}/none.sdf"], ["{tmp}/none.sdf"]),
    "data_suffix": (["validate", "{run}", "--data", "{tmp}/file.txt"], ["{tmp}/file.txt", ".npz"]),
    "scans_missing": (["validate", "{scans}", "--data", "{tmp}/none"], ["{tmp}/none", "does not exist"]),
    "split_without_data": (["validate", "{run}", "--split", "all"], ["--data"]),
    "method": (["detect", "{scans}", "{tmp}/a.nii", "-o", "{tmp}/out", "--method", "magic"], ["magic", "one_shot"]),
    "detect_molecules": (["detect", "{run}", "{tmp}/a.nii", "-o", "{tmp}/out"], ["MoleculeDiffusion"]),
    "healthy": (["detect", "{scans}", "{tmp}/a.nii", "-o", "{tmp}/out", "--healthy", "{tmp}/none"], ["{tmp}/none"]),
    "same_names": (["detect", "{scans}", "{tmp}/a.nii", "{tmp}/b/a.nii", "-o", "{tmp}/out"], ["several", "called a"]),
    "fit_nothing": (["fit"], ["--config"]),
    "score_missing": (["score", "{tmp}/none.sdf"], ["{tmp}/none.sdf"]),
    "score_suffix": (["score", "{tmp}/file.txt"], ["{tmp}/file.txt"]),
    "score_markup": (["score", "{tmp}/[/red].sdf"], ["{tmp}/[/red].sdf"]),
    "score_without_reference": (["score", "{tmp}"], ["--reference"]),
    "verb": (["dream"], ["dream", "sample"]),
    "no_verb": ([], ["VERB"]),
    "option": (["export", "{run}", "-o", "{tmp}/out", "--fast"], ["--fast"]),
    "json_nowhere": (["validate", "{run}", "--limit", "1", "--json", "{tmp}/no/out.json"], ["{tmp}/no/out.json"]),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "words"), COMMANDS.values(), ids=COMMANDS.keys())
def test_bad_command(
    arguments: list[str],
    words: list[str],
    molecule_run: Path,
    volume_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file.txt").write_text("nothing of use")
    names = {"run": str(molecule_run), "scans": str(volume_run), "tmp": str(tmp_path)}
    said = refusal([argument.format(**names) for argument in arguments], capsys)
    for word in words:
        assert word.format(**names) in said
    assert [file.name for file in tmp_path.iterdir()] == ["file.txt"]


CONFIGS: dict[str, tuple[tuple[str, str], list[str]]] = {
    "unknown_key": (("learning_rate:", "learning_rte:"), ["learning_rte", "not accept"]),
    "unknown_model_key": (("max_atoms:", "max_atomz:"), ["max_atomz", "not accept"]),
    "unknown_network_key": (("{atoms_in:", "{futures_in:"), ["futures_in", "not accept"]),
    "unknown_data_key": (("batch_size:", "batch_sz:"), ["batch_sz", "not accept"]),
    "unknown_section": (("seed_everything:", "sed_everything:"), ["sed_everything", "not accept"]),
    "wrong_type": (("max_atoms: 12", "max_atoms: many"), ["max_atoms", "many"]),
    "foreign_class": (("medmol_diffusion.molecules.EGNN", "subprocess.Popen"), ["subprocess.Popen"]),
    "no_such_class": (("medmol_diffusion.molecules.EGNN", "medmol_diffusion.molecules.EGGN"), ["EGGN"]),
    "not_yaml": (("model:", "model: ["), ["tiny.yaml"]),
    "no_mapping": (("", "- "), ["tiny.yaml"]),
    "bad_value": (("transitions: 50", "seed: 1\nema:\n  decay: 2.0"), ["ema.decay", "2.0"]),
    "bad_share": (("validation: 0.2", "validation: 0.9"), ["validation 0.9"]),
    "data_missing": (("data.npz", "none.npz"), ["none.npz"]),
    "too_large": (("max_atoms: 12", "max_atoms: 4"), ["max_atoms = 4"]),
    "no_gpu": (("accelerator: cpu", "accelerator: toaster"), ["toaster"]),
}


@pytest.mark.parametrize(("change", "words"), CONFIGS.values(), ids=CONFIGS.keys())
def test_bad_config(
    change: tuple[str, str],
    words: list[str],
    molecule_config: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = tmp_path / "tiny.yaml"
    text = molecule_config.read_text()
    assert change[0] in text
    config.write_text(text.replace(*change, 1) if change[0] else "- 1\n")
    said = refusal(["fit", "--config", str(config), "--trainer.default_root_dir", str(tmp_path / "run")], capsys)
    for word in words:
        assert word in said


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00\x80"], ids=["missing", "binary"])
def test_bad_config_file(content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.yaml"
    if content is not None:
        config.write_bytes(content)
    assert str(config) in refusal(["fit", "--config", str(config)], capsys)


def test_bad_flags_of_fit(molecule_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["fit", "--config", str(molecule_config), "--trainer.default_root_dir", str(tmp_path / "run")]
    assert "--model.foo" in refusal([*given, "--model.foo", "1"], capsys)
    assert "--optimizer" in refusal([*given, "--optimizer", "torch.optim.SGD"], capsys)
    assert "last.ckpt" in refusal([*given, "--ckpt_path", "last"], capsys)
    assert "default_root_dir" in refusal(given[:3], capsys)
    assert not (tmp_path / "run").exists()


def test_a_config_of_a_model_that_is_no_model(
    molecule_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("", "- 1", "model: [", "class_path: medmol_diffusion.molecules.EGNN\ninit_args: {atoms_in: 1}"):
        (tmp_path / "config.yaml").write_text(text)
        said = refusal(["sample", str(tmp_path), "-o", str(tmp_path / "out.sdf")], capsys)
        assert str(tmp_path / "config.yaml") in said or "medmol_diffusion.molecules.EGNN" in said


def test_continuous_time_is_no_setting_of_iwae_or_flow(
    molecule_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for method in ("iwae", "flow"):
        arguments = ["validate", str(molecule_run), "--method", method, "--steps", "0", "--json", str(tmp_path / "x")]
        assert "--steps 0 is the continuous-time bound" in refusal(arguments, capsys)
    assert not (tmp_path / "x").exists()
