"""The corrected rule, on stored bonds and charges."""

import numpy as np
import pytest
from rdkit import Chem

from medmol_diffusion.molecules import chemistry
from medmol_diffusion.molecules.judge import valence
from medmol_diffusion.molecules.judge.verdict import judge
from medmol_diffusion.molecules.molecule import AROMATIC
from tests.molecules.graphs import molecule_of, written

# The rule as published, by (element, charge): (aromatic bonds, sum of the others), written out a second time
PUBLISHED = {
    ("C", 0): {(0, 4), (2, 2), (2, 1), (3, 0)},
    ("C", 1): {(0, 3), (2, 1), (3, 0)},
    ("C", -1): {(0, 3), (2, 1), (3, 0)},
    ("N", 0): {(0, 3), (2, 0), (2, 1), (3, 0)},
    ("N", 1): {(0, 4), (2, 0), (2, 1), (2, 2), (3, 0)},
    ("N", -1): {(0, 2), (2, 0)},
    ("N", -2): {(0, 1)},
    ("O", 0): {(0, 2), (2, 0)},
    ("O", -1): {(0, 1)},
    ("O", 1): {(0, 3)},
    ("S", 0): {(0, 2), (0, 3), (0, 6), (2, 0)},
    ("S", 1): {(0, 3), (2, 0), (2, 1), (3, 0)},
    ("S", 2): {(0, 4), (2, 1), (2, 2)},
    ("S", 3): {(0, 2), (0, 5)},
    ("S", -1): {(0, 1)},
    ("H", 0): {(0, 1)},
    ("F", 0): {(0, 1)},
    ("Cl", 0): {(0, 1)},
    ("Br", 0): {(0, 1)},
    ("Cl", 1): {(0, 2)},
    ("Br", 1): {(0, 2)},
    ("I", 0): {(0, 1)},
    ("I", 1): {(0, 2)},
    ("I", 2): {(0, 3)},
    ("P", 0): {(0, 3), (0, 5)},
    ("P", 1): {(0, 4)},
    ("Si", 0): {(0, 4)},
    ("Si", 1): {(0, 5)},
}
# Molecules that have aromatic bonds in RDKit's own form, of the kinds that a drug holds
AROMATICS = [
    "c1ccccc1", "c1ccncc1", "c1cc[nH]c1", "c1ccoc1", "c1ccsc1", "Cn1cccc1", "c1ccc2ccccc2c1", "c1ccn2cccc2c1",
    "O=c1cccc[nH]1",
    "c1cc[nH+]cc1", "C[n+]1ccccc1", "[O-][n+]1ccccc1", "[n-]1cccc1", "c1cc[o+]cc1", "c1ccc[cH+]cc1", "[cH-]1cccc1",
    "Cn1cnc2c1c(=O)n(C)c(=O)n2C", "c1nnn[nH]1", "c1cc[s+]cc1",
]  # fmt: skip


def test_the_table_is_the_published_one_entry_for_entry():
    for number, symbol in enumerate(chemistry.SYMBOLS):
        for charge in range(-9, 10):
            pairs = np.array([(a, b) for a in range(12) for b in range(12)])
            stable = valence.pair_stability(np.full(144, number), np.full(144, charge), pairs)
            assert {tuple(pair) for pair in pairs[stable].tolist()} == PUBLISHED.get((symbol, charge), set())


def test_pairs_count_aromatic_bonds_apart_and_number_molecules_through():
    """An aromatic bond is neither 1.5, nor the 1 that an integer makes of it, nor the 4 that stands for it."""
    bonds = np.array([[0, 1, AROMATIC], [0, 2, AROMATIC], [0, 3, 2], [2, 3, 1], [5, 6, 3]])
    pairs = valence.valence_pairs(8, bonds)
    np.testing.assert_array_equal(pairs, [[2, 2], [1, 0], [1, 1], [0, 3], [0, 0], [0, 3], [0, 3], [0, 0]])
    np.testing.assert_array_equal(valence.valence_pairs(2, np.zeros((0, 3), dtype=np.int64)), np.zeros((2, 2)))


@pytest.mark.parametrize("smiles", AROMATICS)
def test_a_ring_is_stable_written_with_aromatic_bonds_or_in_kekule_form(smiles):
    aromatic, kekule = written(smiles, aromatic=True), written(smiles, aromatic=False)
    assert (aromatic.bonds[:, 2] == AROMATIC).any()
    assert not (kekule.bonds[:, 2] == AROMATIC).any()
    (first, second), (name, other) = judge([aromatic, kekule], "bonds")
    np.testing.assert_array_equal(first, second)
    assert first[1] == first[0] == aromatic.num_atoms
    assert name == other


@pytest.mark.parametrize("smiles", sorted(set(AROMATICS) - {"c1cc[o+]cc1"}))
def test_aromatic_entries_agree_with_those_of_the_kekule_form(smiles):
    """As stored, no Kekule form sought. Pyrylium is the one ring whose entry, O+1 (2,0), the published table lacks."""
    one = written(smiles, aromatic=True)
    pairs = valence.valence_pairs(one.num_atoms, one.bonds)
    assert valence.pair_stability(one.atomic_numbers, one.formal_charges, pairs).all()


@pytest.mark.parametrize(
    ("symbols", "bonds", "charges", "unstable"),
    [
        ("N O O", [[0, 1, 2], [0, 2, 2]], [0, 0, 0], [0]),  # a nitro group of a five-valent nitrogen, less its carbon
        ("O H", [[0, 1, 1]], [0, 0], [0]),  # hydroxyl radical
        ("O H", [[0, 1, 1]], [-1, 0], []),  # hydroxide
        ("N H H H H", [[0, k, 1] for k in (1, 2, 3, 4)], [1, 0, 0, 0, 0], []),  # ammonium
        ("N H H H H", [[0, k, 1] for k in (1, 2, 3, 4)], [0, 0, 0, 0, 0], [0]),
        ("C O", [[0, 1, 3]], [-1, 1], []),  # carbon monoxide
        ("H", [], [1], [0]),  # a proton has no entry
        ("B F F F", [[0, k, 1] for k in (1, 2, 3)], [0, 0, 0, 0], [0]),  # boron has no entry
    ],
)
def test_charges_decide(symbols, bonds, charges, unstable):
    one = molecule_of(symbols, bonds, charges)
    pairs = valence.valence_pairs(one.num_atoms, one.bonds)
    stable = valence.pair_stability(one.atomic_numbers, one.formal_charges, pairs)
    np.testing.assert_array_equal(np.flatnonzero(~stable), unstable)
    assert judge([one], "bonds")[0][0, 1] == stable.sum()


def test_aromatic_bonds_that_no_kekule_form_explains_are_looked_up_as_they_stand_and_are_not_valid():
    """Five carbons of C5H5 have two aromatic bonds and one other each, which the table allows; five is odd."""
    ring = [[0, 1], [1, 2], [2, 3], [3, 4], [0, 4]]
    bonds = [[i, j, AROMATIC] for i, j in ring] + [[k, k + 5, 1] for k in range(5)]
    odd = molecule_of("C " * 5 + "H " * 5, bonds)
    assert chemistry.kekulised_bonds(chemistry.graph(odd.atomic_numbers, odd.bonds, None, False)) is None
    table, smiles = judge([odd], "bonds")
    assert table[0].tolist() == [10, 10, 0, 0, 0, 0]
    assert smiles == [None]


def test_kekulised_bonds_are_those_of_rdkit_after_it_sanitised():
    for smiles in AROMATICS:
        one = written(smiles, aromatic=True)
        mol = chemistry.graph(one.atomic_numbers, one.bonds, one.formal_charges, implicit_hydrogens=False)
        ours = chemistry.kekulised_bonds(mol)
        Chem.SanitizeMol(mol)
        Chem.Kekulize(mol, clearAromaticFlags=True)
        assert ours is not None
        pairs = valence.valence_pairs(one.num_atoms, ours)
        np.testing.assert_array_equal(pairs[:, 1], [atom.GetExplicitValence() for atom in mol.GetAtoms()])


def test_no_rule_calls_an_open_shell_stable_but_the_corrected_one_sulphur_of_three_bonds() -> None:
    """Every pair of the table without aromatic bonds as an element with so many hydrogens, by RDKit's own count."""
    open_shells = []
    for symbol, by_charge in valence.PAIRS.items():
        for charge, pairs in by_charge.items():
            for count in (int(pair[1]) for pair in pairs.split() if pair[0] == "0"):
                numbers = np.array([chemistry.atomic_number(symbol)] + [1] * count)
                bonds = np.array([[0, i + 1, 1] for i in range(count)])
                mol = chemistry.graph(numbers, bonds, np.array([charge] + [0] * count), implicit_hydrogens=False)
                if (sound := chemistry.sanitised(mol)) is not None and sound.GetAtomWithIdx(0).GetNumRadicalElectrons():
                    open_shells.append((symbol, charge, count))
    assert open_shells == [("S", 0, 3), ("S", 3, 2)]
