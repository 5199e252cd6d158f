"""The ready properties against values worked out by hand or printed in their papers."""

import math

import numpy as np
import pytest

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.molecule import Molecule
from medmol_diffusion.molecules.properties import PROPERTIES, compute, compute_columns
from tests.molecules import geometries as known
from tests.molecules.drawn import embedded

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"
APART = Molecule(
    np.concatenate([known.WATER.atomic_numbers] * 2), np.concatenate([known.WATER.positions, known.WATER.positions + 9])
)


def test_properties_of_aspirin_are_the_published_ones() -> None:
    found = compute(embedded(ASPIRIN))
    assert found["molecular_weight"] == pytest.approx(180.159, abs=0.01)
    assert found["tpsa"] == pytest.approx(26.30 + 37.30, abs=0.01)  # an ester and an acid (Ertl et al. 2000, table 1)
    assert found["qed"] == pytest.approx(0.55, abs=0.01)
    assert found["logp"] == pytest.approx(1.31, abs=0.01)
    assert 1 < found["sa"] < 2
    counts = ("rings", "aromatic_rings", "rotatable_bonds", "hbond_donors", "hbond_acceptors", "heavy_atoms")
    assert [found[name] for name in counts] == [1, 1, 2, 1, 3, 13]
    assert [found[f"num_{symbol}"] for symbol in ("C", "H", "O", "N")] == [9, 8, 4, 0]
    assert found["num_atoms"] == 21
    assert found["fraction_csp3"] == pytest.approx(1 / 9)


def test_a_strange_molecule_is_harder_to_make_than_aspirin() -> None:
    assert compute(embedded("C1CC2CC3CC1C23"), ["sa"])["sa"] > 1.5 + compute(embedded(ASPIRIN), ["sa"])["sa"]


def test_what_hangs_on_bonds_is_nan_without_one_sound_graph() -> None:
    crowd = Molecule([6, 1, 1, 1, 1, 1], [[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1]])
    for molecule in (APART, crowd):
        for name, value in compute(molecule).items():
            assert math.isnan(value) == PROPERTIES[name].needs_bonds, name
    assert compute(APART, ["num_O", "heavy_atoms"]) == {"num_O": 2, "heavy_atoms": 2}


def test_columns_are_the_rows_turned() -> None:
    columns = compute_columns([known.WATER, APART], ["tpsa", "num_H"])
    assert list(columns) == ["tpsa", "num_H"]
    assert columns["num_H"].tolist() == [2, 4]
    assert columns["tpsa"][0] == compute(known.WATER, ["tpsa"])["tpsa"]
    assert math.isnan(columns["tpsa"][1])


def test_an_unknown_name_is_an_input_error_that_lists_the_names() -> None:
    with pytest.raises(InputError, match=r"no property 'gap'.*qed"):
        compute(known.WATER, ["gap"])
    assert compute_columns([], ["qed"])["qed"].shape == (0,)
