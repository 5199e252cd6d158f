"""Relaxation by MMFF94: what it gives back, and what it counts."""

import json

import numpy as np
import pytest

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.judge.strain import figure, relax, strain_scores, superposed_rmsd
from medmol_diffusion.molecules.molecule import Molecule
from tests.molecules import geometries as known
from tests.molecules.drawn import embedded


def moved(molecule: Molecule, positions: np.ndarray) -> Molecule:
    return Molecule(molecule.atomic_numbers, positions, molecule.bonds, molecule.formal_charges)


def test_a_minimum_has_no_strain_and_a_stretched_bond_has() -> None:
    from rdkit.Chem import rdForceFieldHelpers as fields

    ethanol = embedded("CCO")
    rest = relax(ethanol)
    assert rest.converged
    assert rest.strain == pytest.approx(0, abs=0.01)
    assert rest.rmsd < 0.02
    long = moved(ethanol, ethanol.positions * 1.05)
    found = relax(long)
    mol = long.to_rdkit()
    parameters = fields.MMFFGetMoleculeProperties(mol)
    energy = [fields.MMFFGetMoleculeForceField(m, parameters).CalcEnergy() for m in (mol, ethanol.to_rdkit())]
    assert found.strain == pytest.approx(energy[0] - energy[1], abs=0.01)
    assert found.strain > 5
    assert found.strain_per_heavy_atom == pytest.approx(found.strain / 3)
    assert 0 < found.rmsd_heavy < found.rmsd
    assert not relax(long, steps=1).converged


def test_strain_and_rmsd_do_not_depend_on_where_a_molecule_lies() -> None:
    draw = np.random.default_rng(0)
    q, _ = np.linalg.qr(draw.normal(size=(3, 3)))
    q *= np.sign(np.linalg.det(q))
    ethanol = embedded("CCO")
    bent = moved(ethanol, ethanol.positions + 0.05 * draw.normal(size=ethanol.positions.shape))
    a, b = relax(bent), relax(moved(bent, bent.positions @ q + 7))
    assert (a.strain, a.rmsd) == pytest.approx((b.strain, b.rmsd), rel=1e-3)


def test_superposition_undoes_a_rotation_but_no_mirror() -> None:
    draw = np.random.default_rng(1)
    q, _ = np.linalg.qr(draw.normal(size=(3, 3)))
    q *= np.sign(np.linalg.det(q))
    x = draw.normal(size=(8, 3))
    assert superposed_rmsd(x @ q + 3, x) == pytest.approx(0, abs=1e-12)
    assert superposed_rmsd(x * [1, 1, -1], x) > 0.3
    from scipy.spatial.transform import Rotation

    y = draw.normal(size=(8, 3))
    _, rssd = Rotation.align_vectors(y - y.mean(0), x - x.mean(0))
    assert superposed_rmsd(x, y) == pytest.approx(rssd / 8**0.5)


def test_what_cannot_be_relaxed_is_counted() -> None:
    apart = Molecule([*known.WATER.atomic_numbers] * 2, [*known.WATER.positions, *known.WATER.positions + 9])
    borane = Molecule([5, 1, 1, 1], [[0, 0, 0], [1.19, 0, 0], [-0.595, 1.03, 0], [-0.595, -1.03, 0]])
    scores = strain_scores([known.WATER, apart, borane])
    assert (scores.relaxed, scores.unsound, scores.untyped, scores.unconverged) == (1, 1, 1, 0)
    assert len(list(scores.rows())) == 4
    assert json.loads(json.dumps(scores.to_dict()))["untyped"] == 1
    assert strain_scores([borane]).figures == ()
    with pytest.raises(InputError, match="no molecules"):
        strain_scores([])


def test_the_median_and_its_interval_are_those_of_the_order_statistics() -> None:
    values = np.random.default_rng(3).exponential(size=401)
    found = figure("x", "", values, draws=2000)
    assert (found.median, found.mean) == (np.median(values), values.mean())
    # the binomial limits of the middle rank: 1.96 sqrt(n) / 2 places either way
    low, high = np.sort(values)[[200 - 20, 200 + 20]]
    assert found.median_low == pytest.approx(low, rel=0.08)
    assert found.median_high == pytest.approx(high, rel=0.08)
    assert found.mean_high - found.mean_low == pytest.approx(2 * 1.96 * values.std() / 401**0.5, rel=0.1)
