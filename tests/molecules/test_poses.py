"""PoseBusters on a sound molecule, one out of shape, and one that is none."""

import contextlib
from pathlib import Path

import pytest

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.judge.poses import bust, pose_scores
from medmol_diffusion.molecules.molecule import Molecule
from tests.molecules.drawn import embedded


def test_a_relaxed_molecule_passes_and_a_swollen_one_fails_on_its_bonds() -> None:
    ethanol = embedded("CCO")
    assert all(bust(ethanol).values())
    swollen = bust(Molecule(ethanol.atomic_numbers, ethanol.positions * 1.6, ethanol.bonds))
    assert not swollen["bond_lengths"]
    assert swollen["sanitization"]
    assert swollen["all_atoms_connected"]


def test_a_stream_of_errors_that_was_closed_since_fails_no_check(tmp_path: Path) -> None:
    ethanol = embedded("CCO")
    with (tmp_path / "errors.txt").open("w") as before, contextlib.redirect_stderr(before):
        bust(ethanol)
    assert all(bust(ethanol).values())


def test_the_rates_are_shares_and_what_cannot_be_checked_fails(capfd: pytest.CaptureFixture[str]) -> None:
    ethanol = embedded("CCO")
    crowd = Molecule([6, 1, 1, 1, 1, 1], [[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1]])
    rates = {rate.name: rate for rate in pose_scores([ethanol, crowd])}
    assert rates["all checks"].value == 0.5
    assert rates["sanitization"].value == 0.5
    assert rates["internal energy"].value == 0.5
    assert rates["all checks"].n == 2
    assert "valence" not in capfd.readouterr().err
    with pytest.raises(InputError, match="no molecules"):
        pose_scores([])
