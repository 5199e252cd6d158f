"""What is asked of the command line: by its whole name, without contradiction, and found where it lies."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medmol_diffusion.cli import main
from medmol_diffusion.errors import did_you_mean
from medmol_diffusion.molecules import Molecule, read_molecules, write_sdf, write_xyz
from medmol_diffusion.molecules.sound import sound
from medmol_diffusion.plural import counted
from tests.conftest import random_molecules, write_scans
from tests.test_bad_input import refusal

pytestmark = pytest.mark.filterwarnings("default::UserWarning")  # which the suite turns into errors elsewhere


def test_the_word_that_was_meant() -> None:
    known = ["--max_steps", "--max_time", "--property"]
    assert did_you_mean("--max_step", known) == "; did you mean --max_steps?"
    assert did_you_mean("--max", known) == "; did you mean --max_time?"  # the shortest that begins so
    assert did_you_mean("--propetry", known) == "; did you mean --property?"
    assert did_you_mean("--nothing_like_it", known) == ""


def test_counts_agree_with_their_nouns() -> None:
    assert [counted(n, "molecule") for n in (0, 1, 2)] == ["0 molecules", "1 molecule", "2 molecules"]


@pytest.mark.parametrize(
    ("extra", "meant"),
    [
        (["--trainer.max_step", "5"], "--trainer.max_steps"),
        (["--trainer.max_step=5"], "--trainer.max_steps"),
        (["--ckpt", "last"], "--ckpt_path"),
        (["--model.learning_rte", "1"], "--model.learning_rate"),
        (["--model.model.max_atomz", "4"], "max_atoms"),
        (["--data.batch_siz", "4"], "batch_size"),
    ],
)
def test_a_prefix_of_a_key_of_fit_is_not_the_key(
    extra: list[str], meant: str, molecule_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["fit", "--config", str(molecule_config), "--trainer.default_root_dir", str(tmp_path / "run")]
    assert f"did you mean {meant}?" in refusal([*given, *extra], capsys)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [(["score", ".", "--ful"], "--full"), (["sample", "{run}", "-o", "x.sdf", "--prop", "a=1"], "--property")],
)
def test_a_prefix_of_an_option_is_not_the_option(
    arguments: list[str], meant: str, molecule_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [argument.format(run=molecule_run) for argument in arguments]
    assert f"did you mean {meant}?" in refusal(given, capsys)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["--composition", "CH4", "--formula", "CH4"], ["--composition", "--formula"]),
        (["--property", "a=1", "--guidance", "2", "--interval", "3", "-3"], ["--interval 3 -3", "lower level first"]),
        (["--property", "a=1", "--guidance", "2", "--interval", "3", "3"], ["--interval 3 3"]),
        (["--property", "a=1", "--interval", "-3", "3"], ["--guidance"]),
        (["--guidance", "2"], ["--guidance", "--property"]),
        (["--property", "a=1", "--property", "a=2"], ["--property a", "twice"]),
        (["--property", "a=nan"], ["--property a=nan", "NAME=VALUE"]),
        (["--worse", "{run}", "--away", "1"], ["--away", "above 1"]),
        (["--worse", "{run}", "--away", "-2"], ["--away", "above 1"]),
        (["--eta", "0.5"], ["eta = 0.5 is for ddim and dpm++3m-sde", "ancestral"]),
        (["--sampler", "ddim", "--eta", "2"], ["sampler ddim", "eta = 2.0", "[0, 1]"]),
        (["--noise-scale", "1.5"], ["noise_scale = 1.5", "(0, 1]"]),
        (["--sampler", "ddim", "--noise-scale", "0.9"], ["DDIM draws no noise"]),
    ],
)
def test_contradictions_end_with_one_sentence(
    asked: list[str], words: list[str], molecule_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [argument.format(run=molecule_run) for argument in asked]
    said = refusal(["sample", str(molecule_run), "-o", str(tmp_path / "out.sdf"), *asked], capsys)
    assert all(word in said for word in words)
    assert not list(tmp_path.iterdir())


def sampled(run: Path, out: Path) -> bytes:
    main(["sample", str(run), "-n", "2", "--steps", "3", "--seed", "5", "-o", str(out)])
    return out.read_bytes()


def test_samples_say_where_they_come_from(molecule_run: Path, tmp_path: Path) -> None:
    first, again = (sampled(molecule_run, tmp_path / f"{name}.sdf") for name in "ab")
    assert first == again
    molecules, _ = read_molecules(tmp_path / "a.sdf")
    assert [molecule.name for molecule in molecules] == ["sample-0001", "sample-0002"]
    for molecule in molecules:
        assert molecule.properties == {
            "made_by": f"model={molecule_run.name} seed=5 steps=3 sampler=ancestral grid=time"
        }


def test_molecules_are_written_as_the_name_of_the_file_says(molecule_run: Path, tmp_path: Path) -> None:
    plain = sampled(molecule_run, tmp_path / "a.sdf")
    packed, other = (sampled(molecule_run, tmp_path / f"{name}.sdf.gz") for name in "ab")
    assert gzip.decompress(packed) == plain
    assert packed == other  # neither the name nor the time is in it
    sampled(molecule_run, tmp_path / "a.xyz")
    for one, same in zip(read_molecules(tmp_path / "a.xyz")[0], read_molecules(tmp_path / "a.sdf")[0], strict=True):
        assert (one.name, one.properties) == (same.name, same.properties)
        np.testing.assert_allclose(one.positions, same.positions, atol=1e-4)


def test_sampling_says_how_many_molecules_are_sound(
    molecule_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["sample", str(molecule_run), "-n", "4", "--steps", "2", "-o", str(tmp_path / "out.sdf")])
    whole = sum(sound(molecule) is not None for molecule in read_molecules(tmp_path / "out.sdf")[0])
    assert f"; {whole} sound:" in capsys.readouterr().out.replace("\n", " ")


def test_one_molecule_is_no_plural(molecule_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["sample", str(molecule_run), "-n", "1", "--steps", "2", "-o", str(tmp_path / "out.sdf")])
    assert capsys.readouterr().out.startswith("1 molecule in")


def test_a_folder_of_molecule_files_is_all_of_them_in_order(tmp_path: Path) -> None:
    folder, molecules = tmp_path / "made", random_molecules(6)
    folder.mkdir()
    write_xyz(molecules[4:], folder / "b.xyz")
    write_sdf(molecules[:4], folder / "a.sdf")
    (folder / "notes.txt").write_text("not read")
    assert [m.name for m in read_molecules(folder)[0]] == [m.name for m in molecules]
    scores = []
    write_xyz(molecules, tmp_path / "whole.xyz")
    for path in (folder, tmp_path / "whole.xyz"):
        main(["score", str(path), "--json", str(tmp_path / "scores.json")])
        scores.append(json.loads((tmp_path / "scores.json").read_text()))
    assert scores[0] == scores[1]
    assert scores[0]["distances"]["rules"]["molecule_stability"]["n"] == 6


def test_a_folder_says_what_it_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("neither")
    said = refusal(["score", str(tmp_path)], capsys)
    assert all(word in said for word in (str(tmp_path), ".sdf", ".xyz", ".nii.gz"))
    write_scans(tmp_path / "scans", 1)  # below
    assert "--reference" in refusal(["score", str(tmp_path)], capsys)
    write_sdf(random_molecules(1), tmp_path / "one.sdf")
    assert "scans and molecule files" in refusal(["score", str(tmp_path)], capsys)


def too_large(molecules: list[Molecule]) -> Molecule:
    return Molecule(np.full(14, 6), np.random.default_rng(0).normal(size=(14, 3)) * 3)


def of_silicon(molecules: list[Molecule]) -> Molecule:
    return replace(molecules[2], atomic_numbers=np.full(molecules[2].num_atoms, 14))


@pytest.mark.parametrize(("odd", "fault"), [(too_large, "more than 12 atoms"), (of_silicon, "Si")])
def test_molecules_that_the_model_cannot_hold_are_named_or_skipped(
    odd: Callable[[list[Molecule]], Molecule],
    fault: str,
    molecule_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    molecules, file, figures = random_molecules(4), tmp_path / "some.sdf", tmp_path / "bound.json"
    write_sdf([*molecules[:2], odd(molecules), *molecules[2:]], file)
    arguments = ["validate", str(molecule_run), "--data", str(file), "--steps", "3", "--json", str(figures)]
    said = refusal(arguments, capsys)
    assert all(word in said for word in (str(file), fault, "1 of 5 molecules", "record 3", "--skip"))
    assert not figures.exists()
    main([*arguments, "--skip"])
    shown = capsys.readouterr()
    assert "without 1 molecule that the model cannot hold" in shown.out
    assert "skipped 1 of 5 molecules" in " ".join(shown.err.split())
    found = json.loads(figures.read_text())
    assert (found["examples"], found["left_out"]) == (4, 1)


def test_skip_is_for_molecules_of_a_file(
    molecule_run: Path, volume_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--data PATH" in refusal(["validate", str(molecule_run), "--skip"], capsys)
    scans = str(write_scans(tmp_path / "scans", 2))
    assert "for molecules" in refusal(["validate", str(volume_run), "--data", scans, "--skip"], capsys)


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "medmol_diffusion", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: medmol ")


def test_scoring_and_sampling_do_not_load_lightning() -> None:
    program = """
import sys
import medmol_diffusion.mri, medmol_diffusion.molecules.judge.score_report, medmol_diffusion.training.saved
assert not {"pytorch_lightning", "matplotlib"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
