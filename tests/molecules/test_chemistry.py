import time

import numpy as np
import pytest

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import chemistry
from medmol_diffusion.molecules.molecule import Molecule, pad
from tests.molecules import geometries as known

# (molecule, its orders by pairs of atoms) as rule 1 reads them; only these pairs are bonded
EXPECTED = [
    (known.METHANE, {(0, h): 1 for h in (1, 2, 3, 4)}),
    (known.WATER, {(0, 1): 1, (0, 2): 1}),
    (known.ETHENE, {(0, 1): 2, (0, 2): 1, (0, 3): 1, (1, 4): 1, (1, 5): 1}),
    (known.ETHYNE, {(0, 1): 3, (0, 2): 1, (1, 3): 1}),
    (known.CARBON_DIOXIDE, {(0, 1): 2, (0, 2): 2}),
    (known.HYDROGEN_CYANIDE, {(0, 1): 3, (0, 2): 1}),
]
STABLE = [molecule for molecule, _ in EXPECTED]


def orders_of(molecule):
    return chemistry.bond_orders(molecule.atomic_numbers, molecule.positions)


@pytest.mark.parametrize(("molecule", "bonds"), EXPECTED, ids=[molecule.name for molecule in STABLE])
def test_known_molecules_have_their_bonds(molecule, bonds):
    expected = np.zeros((molecule.num_atoms, molecule.num_atoms), dtype=int)
    for (i, j), order in bonds.items():
        expected[i, j] = expected[j, i] = order
    np.testing.assert_array_equal(orders_of(molecule), expected)
    assert chemistry.stability(molecule.atomic_numbers, orders_of(molecule)).all()


def test_benzene_is_six_bonds_of_one_length_so_rule_one_calls_all_double_or_all_single():
    """1.397 angstrom lies above 1.39, the limit of a double bond: every carbon has valence 3, and none is stable."""
    orders = orders_of(known.BENZENE)
    assert {int(orders[i, (i + 1) % 6]) for i in range(6)} == {1}
    stable = chemistry.stability(known.BENZENE.atomic_numbers, orders)
    np.testing.assert_array_equal(stable, known.BENZENE.atomic_numbers == 1)


@pytest.mark.parametrize(
    ("pair", "picometres", "order"),
    [("C C", 163.9, 1), ("C C", 164, 0), ("C C", 138.9, 2), ("C C", 139, 1), ("C C", 122.9, 3), ("C C", 123, 2),
     ("C O", 115.9, 3), ("O C", 115.9, 3), ("H H", 83.9, 1), ("C F", 144.9, 1), ("C F", 90, 1), ("S P", 190.9, 2),
     ("B H", 128.9, 1), ("He H", 50, 0)],
)  # fmt: skip
def test_limits_are_strict_and_include_their_margins(pair, picometres, order):
    assert orders_of(known.build(pair, [[0, 0, 0], [0, 0, picometres / 100]]))[0, 1] == order


@pytest.mark.parametrize("molecule", STABLE, ids=lambda molecule: molecule.name)
def test_bonds_turn_and_permute_with_the_atoms(molecule):
    draw = np.random.default_rng(0)
    q, _ = np.linalg.qr(draw.normal(size=(3, 3)))
    order = draw.permutation(molecule.num_atoms)
    moved = chemistry.bond_orders(molecule.atomic_numbers[order], (molecule.positions @ q.T + 3)[order])
    np.testing.assert_array_equal(moved, orders_of(molecule)[np.ix_(order, order)])


def test_a_padded_batch_gives_each_molecule_its_own_answer():
    numbers, positions, _ = pad([*STABLE, known.BENZENE])
    orders = chemistry.bond_orders_batch(numbers, positions)
    stable = chemistry.stability(numbers, orders)
    for row, molecule in enumerate([*STABLE, known.BENZENE]):
        size = molecule.num_atoms
        np.testing.assert_array_equal(orders[row, :size, :size], orders_of(molecule))
        assert orders[row, size:].sum() == orders[row, :, size:].sum() == 0
        assert not stable[row, size:].any()


def test_wrong_valences_are_not_stable():
    for molecule, centre in ((known.AMMONIUM, "N"), (known.METHYL_RADICAL, "C")):
        stable = chemistry.stability(molecule.atomic_numbers, orders_of(molecule))
        assert not stable[molecule.atomic_numbers == chemistry.atomic_number(centre)].any()
        assert stable[molecule.atomic_numbers == 1].all()


def test_phosphorus_may_have_two_valences():
    numbers = np.array([15, 15, 15])
    orders = np.diag([3, 4, 5])  # stability only adds up rows
    np.testing.assert_array_equal(chemistry.stability(numbers, orders), [True, False, True])


def test_ten_thousand_molecules_take_less_than_five_seconds():
    draw = np.random.default_rng(0)
    numbers = draw.choice([1, 6, 7, 8], size=(10_000, 29))
    numbers[np.arange(29) >= draw.integers(9, 30, size=10_000)[:, None]] = 0
    positions = draw.normal(size=(10_000, 29, 3))
    start = time.perf_counter()
    chemistry.stability(numbers, chemistry.bond_orders_batch(numbers, positions))
    assert time.perf_counter() - start < 5


def test_molecules_become_the_rdkit_molecules_they_are():
    from rdkit import Chem

    smiles = [Chem.MolToSmiles(Chem.RemoveHs(molecule.to_rdkit())) for molecule in (*STABLE, known.AMMONIUM)]
    assert smiles == ["C", "O", "C=C", "C#C", "O=C=O", "C#N", "[NH4+]"]


def test_impossible_valences_keep_their_bonds_unsanitised():
    crowded = known.build("H C C", [[0, 0, 0], [0.9, 0, 0], [-0.9, 0, 0]])
    mol = crowded.to_rdkit()
    assert mol.GetNumBonds() == 2
    assert mol.GetNumConformers() == 1


def test_rule_one_smiles_is_of_the_largest_fragment():
    apart = np.concatenate([known.ETHENE.positions, known.WATER.positions + 10])
    numbers = np.concatenate([known.ETHENE.atomic_numbers, known.WATER.atomic_numbers])
    mol = chemistry.rule_one_mol(numbers, chemistry.bond_orders(numbers, apart))
    whole = chemistry.rule_one_mol(known.ETHENE.atomic_numbers, orders_of(known.ETHENE))
    smiles, connected = chemistry.largest_fragment_smiles(mol)
    assert (smiles, True) == chemistry.largest_fragment_smiles(whole)
    assert not connected


def test_ammonium_is_not_valid_by_rule_one_which_knows_no_charges():
    assert chemistry.rule_one_mol(known.AMMONIUM.atomic_numbers, orders_of(known.AMMONIUM)) is None


def test_element_symbols():
    from rdkit import Chem

    table = Chem.GetPeriodicTable()
    assert list(chemistry.SYMBOLS[1:]) == [table.GetElementSymbol(number) for number in range(1, 119)]
    assert chemistry.atomic_number("CL") == 17
    for symbol in ("Xx", "X", ""):
        with pytest.raises(InputError, match="element symbol"):
            chemistry.atomic_number(symbol)


def test_bonds_of_a_molecule_are_what_its_file_says_not_what_its_distances_say():
    stretched = Molecule([6, 6], [[0, 0, 0], [0, 0, 3]], bonds=[[0, 1, 3]])
    assert stretched.to_rdkit().GetBondBetweenAtoms(0, 1).GetBondTypeAsDouble() == 3
