"""Distances of distributions: what they are by hand, their floor and their interval."""

import numpy as np
import pytest

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.judge.distributions import QUANTITIES, Distance, distances
from medmol_diffusion.molecules.molecule import Molecule
from tests.molecules import geometries as known
from tests.molecules.drawn import embedded


def by_name(molecules: list[Molecule], reference: list[Molecule], **options: int) -> dict[str, Distance]:
    return {one.name: one for one in distances(molecules, reference, **options)}


def jittered(molecule: Molecule, count: int, seed: int, sigma: float = 0.02) -> list[Molecule]:
    draw = np.random.default_rng(seed)
    return [
        Molecule(
            molecule.atomic_numbers,
            molecule.positions + sigma * draw.normal(size=molecule.positions.shape),
            molecule.bonds,
        )
        for _ in range(count)
    ]


def test_a_set_is_at_no_distance_of_itself() -> None:
    molecules = [known.WATER, known.ETHENE, embedded("CCO")]
    found = by_name(molecules, molecules, draws=20)
    assert list(found) == [*QUANTITIES, "atom types"]
    assert all(one.value == pytest.approx(0, abs=1e-9) for one in found.values())
    assert all(one.covered == pytest.approx(1) for one in found.values())


def test_a_stretch_of_every_bond_is_its_length_in_pm_and_moves_no_angle() -> None:
    one = embedded("CCO")
    long = Molecule(one.atomic_numbers, one.positions * 1.01, one.bonds)
    found = by_name([long], [one], draws=5)
    lengths = np.linalg.norm(one.positions[one.bonds[:, 0]] - one.positions[one.bonds[:, 1]], axis=1)
    assert found["bond lengths"].value == pytest.approx(lengths.mean(), rel=1e-6)  # 1 % of angstrom is pm
    assert found["angles"].value == pytest.approx(0, abs=1e-6)
    assert found["dihedrals"].value == pytest.approx(0, abs=1e-6)


def test_types_are_weighted_by_the_reference_and_the_missing_ones_said() -> None:
    reference = [known.ETHENE, known.WATER]  # bonds: 4 C-H, 2 O-H, 1 C=C
    water = known.WATER
    found = by_name([Molecule(water.atomic_numbers, water.positions * 1.02)], reference, draws=5)["bond lengths"]
    assert found.covered == pytest.approx(2 / 7)
    exact = 2 * np.linalg.norm(water.positions[1])
    assert found.value == pytest.approx(exact, rel=1e-6)
    assert [(one.type, one.n) for one in found.types] == [("O-H", 2)]
    assert found.types[0].share == pytest.approx(2 / 7)


def test_atom_types_are_the_total_variation_and_sizes_are_in_atoms() -> None:
    found = by_name([known.WATER], [known.METHANE], draws=5)  # (2/3 H, 1/3 O) against (4/5 H, 1/5 C)
    assert found["atom types"].value == pytest.approx((2 / 15 + 1 / 3 + 1 / 5) / 2)
    assert found["number of atoms"].value == pytest.approx(2)
    assert "bond lengths" not in found  # they share no type
    assert "dihedrals" not in found


def test_equals_score_near_the_floor_and_others_well_above() -> None:
    one = embedded("CC(N)C(=O)O")
    reference, same, worse = jittered(one, 80, 0), jittered(one, 40, 1), jittered(one, 40, 2, sigma=0.06)
    alike, apart = by_name(same, reference, draws=50), by_name(worse, reference, draws=50)
    for name in ("bond lengths", "angles", "dihedrals"):
        assert alike[name].value < 1.5 * alike[name].floor
        assert apart[name].value > 3 * apart[name].floor
        assert apart[name].low < apart[name].value < apart[name].high
        assert apart[name].low > alike[name].high


def test_the_interval_covers_where_the_figure_of_another_sample_falls() -> None:
    one = embedded("CCO")
    reference = jittered(one, 100, 0)
    runs = [by_name(jittered(one, 30, seed, 0.04), reference, draws=60)["bond lengths"] for seed in range(1, 21)]
    mean = np.mean([run.value for run in runs])
    assert sum(run.low <= mean <= run.high for run in runs) >= 16


def test_without_molecules_or_reference_there_is_no_distance() -> None:
    for molecules, reference in (([], [known.WATER]), ([known.WATER], [])):
        with pytest.raises(InputError, match="is empty"):
            distances(molecules, reference)
    assert np.isnan(by_name([known.WATER], [known.WATER], draws=2)["number of atoms"].floor)
