"""Lengths, angles and dihedrals against RDKit, molecule by molecule."""

from itertools import permutations

import numpy as np
import pytest

from medmol_diffusion.molecules.judge.geometry import STRAIGHT, measure, type_name
from medmol_diffusion.molecules.molecule import Molecule
from tests.molecules import geometries as known
from tests.molecules.drawn import embedded

SET = [embedded("CC(=O)Oc1ccccc1C(=O)O"), known.WATER, embedded("C1CC1C#N"), known.ETHENE]


def test_every_length_angle_and_dihedral_is_rdkits() -> None:
    from rdkit.Chem import rdMolTransforms as transforms

    found = measure(SET)
    for place, molecule in enumerate(SET):
        mol = molecule.to_rdkit()
        conformer = mol.GetConformer()
        bonds = [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds()]
        near = {a.GetIdx(): [n.GetIdx() for n in a.GetNeighbors()] for a in mol.GetAtoms()}
        lengths = [100 * transforms.GetBondLength(conformer, *bond) for bond in bonds]
        angles = [
            transforms.GetAngleDeg(conformer, i, j, k) for j in near for i, k in permutations(near[j], 2) if i < k
        ]
        dihedrals = [
            transforms.GetDihedralDeg(conformer, p, q, r, s)
            for q, r in bonds
            for p in near[q]
            for s in near[r]
            if len({p, q, r, s}) == 4
            and transforms.GetAngleDeg(conformer, p, q, r) < STRAIGHT
            and transforms.GetAngleDeg(conformer, q, r, s) < STRAIGHT
        ]
        for values, exact in ((found.lengths, lengths), (found.angles, angles), (found.dihedrals, dihedrals)):
            mine, theirs = (
                np.sort(np.mod(np.round(one, 6), 360)) for one in (values.value[values.owner == place], exact)
            )
            np.testing.assert_allclose(mine, theirs, atol=2e-6)  # -180 is 180
    assert found.sizes.value.tolist() == [21, 3, 10, 6]
    assert found.count == 4


def test_a_mirror_turns_the_sign_of_dihedrals_and_nothing_else() -> None:
    one = SET[0]
    other = Molecule(one.atomic_numbers, one.positions * [1, 1, -1], one.bonds, one.formal_charges)
    a, b = measure([one]), measure([other])
    np.testing.assert_allclose(a.angles.value, b.angles.value, atol=1e-9)
    np.testing.assert_allclose(np.sin(np.radians(a.dihedrals.value)), -np.sin(np.radians(b.dihedrals.value)), atol=1e-9)


def test_types_are_named_as_chemists_write_them() -> None:
    found = measure([known.ETHENE, known.WATER, known.HYDROGEN_CYANIDE])
    assert {type_name(kind) for kind in found.lengths.type} == {"C=C", "C-H", "O-H", "C#N"}
    assert {type_name(kind) for kind in found.angles.type} == {"C", "O"}
    assert {type_name(kind) for kind in found.dihedrals.type} == {"C=C"}
    np.testing.assert_allclose(np.sort(np.abs(found.dihedrals.value)), [0, 0, 180, 180], atol=1e-6)


def test_stored_bonds_go_before_distances() -> None:
    far = Molecule([1, 1], [[0, 0, 0], [0, 0, 5.0]], bonds=[[0, 1, 1]])
    assert measure([far]).lengths.value == pytest.approx([500])
    assert len(measure([Molecule([1, 1], far.positions)]).lengths.value) == 0
    assert measure([]).count == 0
