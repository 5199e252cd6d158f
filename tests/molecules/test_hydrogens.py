"""Hydrogens that are missing are told from those that were never there."""

from dataclasses import replace

import numpy as np
import pytest

from medmol_diffusion.cli import main
from medmol_diffusion.molecules import EGNN, Molecule, MoleculeDiffusion, write_sdf
from medmol_diffusion.molecules.hydrogens import lacks_hydrogens, missing_hydrogens
from tests.molecules import geometries as known
from tests.molecules.drawn import embedded

WITHOUT = (
    "O=C=O", "[C-]#[O+]", "FC(F)(F)F", "Fc1c(F)c(F)c(F)c(F)c1F", "FC1(F)C(F)(F)C1(F)F", "ClC1=C(Cl)C1=O", "N#CC#N",
    "ClC(Cl)=C(Cl)Cl", "O=C(Cl)Cl", "[C-]#[N+]C(F)(F)F", "S=C=S", "[O-]C(=O)C(=O)[O-]",
)  # fmt: skip
WITH = ("C", "CC", "C=C", "C#C", "CCO", "c1ccccc1", "C1CC1", "CC(C)(C)C", "ClC(Cl)Cl", "NCC(=O)O", "CC(=O)C")


def heavy(molecule: Molecule) -> Molecule:
    """The molecule with its hydrogens left out."""
    keep = molecule.atomic_numbers > 1
    place = np.cumsum(keep) - 1
    bonds = molecule.bonds[keep[molecule.bonds[:, :2]].all(axis=1)]
    bonds = np.column_stack([place[bonds[:, 0]], place[bonds[:, 1]], bonds[:, 2]])
    return Molecule(molecule.atomic_numbers[keep], molecule.positions[keep], bonds)


@pytest.mark.parametrize("bonds", [True, False], ids=["stored bonds", "distances"])
def test_carbon_with_room_is_told_from_carbon_without(bonds: bool) -> None:
    def read(molecule: Molecule) -> Molecule:
        return molecule if bonds else replace(molecule, bonds=None)

    assert [s for s in WITHOUT if lacks_hydrogens(read(embedded(s)))] == []
    assert [s for s in WITH if lacks_hydrogens(read(embedded(s)))] == []
    assert [s for s in WITH if not lacks_hydrogens(read(heavy(embedded(s))))] == []


def test_a_set_is_warned_of_when_most_of_it_lacks_them_whatever_stands_beside() -> None:
    bare, whole = heavy(embedded("CCO")), embedded("CCO")
    assert missing_hydrogens([]) is None
    assert missing_hydrogens([bare, whole]) is None
    assert missing_hydrogens([bare, whole] * 5) is None  # each object once, however often it stands there
    assert missing_hydrogens([known.WATER, known.CARBON_DIOXIDE]) is None
    said = missing_hydrogens([bare, heavy(embedded("CC")), whole, *[known.WATER] * 9])
    assert said is not None
    assert said.startswith("2 of 3 molecules with carbon have no hydrogens")
    assert "Chem.AddHs(mol, addCoords=True)" in said


@pytest.mark.filterwarnings("default::UserWarning")
def test_score_warns_once_and_carbon_dioxide_alone_does_not(tmp_path, capsys) -> None:
    write_sdf([heavy(embedded("CCO"))], tmp_path / "bare.sdf")
    write_sdf([known.CARBON_DIOXIDE], tmp_path / "whole.sdf")
    main(["score", str(tmp_path / "bare.sdf"), "--reference", str(tmp_path / "whole.sdf")])
    assert capsys.readouterr().err.count("have no hydrogens") == 1
    main(["score", str(tmp_path / "whole.sdf"), "--reference", str(tmp_path / "bare.sdf")])
    assert "warning: The reference: 1 of 1 molecules" in " ".join(capsys.readouterr().err.split())


@pytest.mark.filterwarnings("error")
def test_inpainting_warns_a_model_that_makes_hydrogens() -> None:
    bare = heavy(embedded("CCO"))
    for elements, warned in (([1, 6, 8], True), ([6, 7, 8], False)):
        model = MoleculeDiffusion(elements, EGNN(3, 3, hidden=8, edge_hidden=8, layers=1), max_atoms=10)
        if warned:
            with pytest.warns(UserWarning, match="1 of 1 molecules with carbon have no hydrogens"):
                model.inpaint([bare] * 3, [[0]] * 3, steps=2, resamples=1)
            for sizes in ([9], "drawn"):  # there may be room for them
                assert len(model.inpaint([bare], [[0]], sizes, steps=2, resamples=1)) == 1
        else:
            assert len(model.inpaint([bare], [[0]], steps=2, resamples=1)) == 1
