"""Autoguidance from the command line and from Python: samples move away from a worse model."""

from pathlib import Path

import numpy as np
import pytest

from medmol_diffusion.cli import main
from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import Molecule, read_molecules
from medmol_diffusion.training.saved import load_model


def drawn(model: Path, folder: Path, *more: str) -> list[Molecule]:
    out = folder / "made.sdf"
    main(["sample", str(model), "-n", "2", "--steps", "3", "-o", str(out), *more])
    return read_molecules(out)[0]


def positions(molecules: list[Molecule]) -> np.ndarray:
    return np.concatenate([molecule.positions for molecule in molecules])


def test_samples_move_away_from_a_worse_model(molecule_run: Path, tmp_path: Path) -> None:
    plain = positions(drawn(molecule_run, tmp_path))
    same = positions(drawn(molecule_run, tmp_path, "--worse", str(molecule_run), "--away", "3"))
    np.testing.assert_allclose(same, plain, atol=1e-3)  # there is nothing between a model and itself

    model, worse = load_model(molecule_run), load_model(molecule_run)
    for parameter in worse.parameters():
        parameter.data.mul_(0.5)

    def away(scale: float) -> np.ndarray:
        return positions(model.sample(2, steps=3, guide=model.away_from(worse, scale)))  # type: ignore[attr-defined]

    np.testing.assert_allclose(away(1.0), plain, atol=1e-3)
    assert np.abs(away(2.0) - plain).max() > 1e-3


def test_the_noise_of_a_sampler_is_asked_for_and_told(molecule_run: Path, tmp_path: Path) -> None:
    how = ["--sampler", "dpm++3m-sde"]
    plain = positions(drawn(molecule_run, tmp_path, *how))
    same = positions(drawn(molecule_run, tmp_path, *how, "--eta", "1", "--noise-scale", "1"))
    np.testing.assert_array_equal(same, plain)
    less = drawn(molecule_run, tmp_path, *how, "--eta", "2", "--noise-scale", "0.9")
    assert np.abs(positions(less) - plain).max() > 1e-3
    assert "eta=2 noise_scale=0.9" in str(less[0].properties["made_by"])


def test_a_model_of_other_things_is_no_worse_one(
    molecule_run: Path, volume_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        drawn(molecule_run, tmp_path, "--away", "2")
    assert stopped.value.code == 2
    assert "--worse MODEL" in capsys.readouterr().err
    with pytest.raises(InputError, match="is a VolumeDiffusion, not a MoleculeDiffusion"):
        load_model(molecule_run).away_from(load_model(volume_run), 2.0)
