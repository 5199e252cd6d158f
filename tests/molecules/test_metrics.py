import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.chemistry import bond_orders, largest_fragment_smiles, rule_one_mol, stability
from medmol_diffusion.molecules.judge import verdict
from medmol_diffusion.molecules.judge.verdict import identity
from medmol_diffusion.molecules.metrics import Judge, score_molecules, smiles_of
from medmol_diffusion.molecules.molecule import Molecule
from tests.molecules import geometries as known
from tests.molecules.graphs import molecule_of, written

APART = Molecule(
    np.concatenate([known.ETHENE.atomic_numbers, known.WATER.atomic_numbers]),
    np.concatenate([known.ETHENE.positions, known.WATER.positions + 10]),
)
# One of each kind of verdict: sound, a copy of it turned, two pieces of which the larger is known, a charge that rule 1
# does not know, and an open valence that implicit hydrogen fills
TURNED = Molecule(known.WATER.atomic_numbers, known.WATER.positions[:, ::-1])
MIXED = [known.WATER, TURNED, known.ETHENE, APART, known.AMMONIUM, known.METHYL_RADICAL]


def test_every_score_is_the_fraction_it_says():
    scores = score_molecules(MIXED, smiles_of([known.WATER]))
    atoms = 3 + 3 + 6 + 9 + 5 + 4
    assert (scores.atom_stability.value, scores.atom_stability.n) == ((atoms - 2) / atoms, atoms)
    assert (scores.molecule_stability.value, scores.molecule_stability.n) == (4 / 6, 6)
    assert (scores.validity.value, scores.validity.n) == (5 / 6, 6)
    assert (scores.connectivity.value, scores.connectivity.n) == (4 / 6, 6)
    assert (scores.uniqueness.value, scores.uniqueness.n) == (3 / 5, 5)  # water, ethene, methyl
    assert (scores.novelty.value, scores.novelty.n) == (2 / 3, 3)


def test_scores_do_not_depend_on_order_or_orientation():
    q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    moved = [Molecule(one.atomic_numbers[::-1], (one.positions @ q + 5)[::-1]) for one in MIXED[::-1]]
    first, second = (score_molecules(molecules, set()).to_dict() for molecules in (MIXED, moved))
    assert {key: score["value"] for key, score in first.items()} == {
        key: score["value"] for key, score in second.items()
    }


def test_intervals_hold_the_value_and_shrink_with_the_square_root_of_n():
    few, many = score_molecules(MIXED * 10).validity, score_molecules(MIXED * 90).validity
    for score in (few, many):
        assert score.low < 5 / 6 < score.high
    exact = 2 * 1.96 * (5 / 36 / 540) ** 0.5
    assert many.high - many.low == pytest.approx(exact, rel=0.15)
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(3, rel=0.2)


def test_the_same_seed_gives_the_same_interval():
    assert score_molecules(MIXED, seed=4) == score_molecules(MIXED, seed=4)


def test_what_cannot_be_said_is_left_out():
    scores = score_molecules([known.AMMONIUM])
    assert scores.uniqueness is None
    assert scores.novelty is None
    assert score_molecules([known.WATER]).novelty is None
    assert [row[0] for row in scores.rows()] == ["atom stability", "molecule stability", "validity", "connectivity"]


def test_scores_go_to_json_and_to_a_table():
    scores = score_molecules(MIXED, set())
    assert json.loads(json.dumps(scores.to_dict()))["validity"]["n"] == 6
    rows = list(scores.rows())
    assert len(rows) == 6
    name, value, _, n = rows[0]
    assert (name, value, n) == ("atom stability", "93.3 %", "30")


def test_no_molecules_is_an_input_error():
    with pytest.raises(InputError, match="no molecules"):
        score_molecules([])


def test_stored_bonds_do_not_help():
    far = Molecule([1, 1], [[0, 0, 0], [0, 0, 5.0]], bonds=[[0, 1, 1]])
    assert score_molecules([far]).molecule_stability.value == 0


def written_out(molecules: list[Molecule], reference: set[str]) -> dict[str, float]:
    """The scores by rule 1 as they are defined, one molecule after another."""
    stable_atoms = atoms = stable = valid = connected = 0
    distinct: set[str] = set()
    for one in molecules:
        orders = bond_orders(one.atomic_numbers, one.positions)
        fine = stability(one.atomic_numbers, orders)
        stable_atoms, atoms, stable = stable_atoms + int(fine.sum()), atoms + one.num_atoms, stable + bool(fine.all())
        if (mol := rule_one_mol(one.atomic_numbers, orders)) is not None:
            smiles, whole = largest_fragment_smiles(mol)
            valid, connected = valid + 1, connected + whole
            distinct.add(smiles)
    n = len(molecules)
    return {
        "atom_stability": stable_atoms / atoms,
        "molecule_stability": stable / n,
        "validity": valid / n,
        "connectivity": connected / n,
        "uniqueness": len(distinct) / valid,
        "novelty": len(distinct - reference) / len(distinct),
    }


def scattered(count: int) -> list[Molecule]:
    """Molecules of 1 to 181 atoms of any element at random places, and known ones among them."""
    draw = np.random.default_rng(5)
    found = []
    for size in [1, 181, *draw.integers(1, 60, size=count)]:
        positions = draw.normal(size=(size, 3)) * 0.9 * size ** (1 / 3)
        found.append(Molecule(draw.choice([1, 1, 1, 6, 6, 7, 8, 9, 15, 16, 17, 34, 78, 118], size=size), positions))
    return [*found, *MIXED]


def test_scores_of_any_sizes_and_elements_are_those_of_a_plain_loop():
    molecules = scattered(300)
    reference = smiles_of(molecules[::3])
    scores = score_molecules(molecules, reference).to_dict()
    expected = written_out(molecules, reference)
    assert 0.2 < expected["uniqueness"] < 1
    assert 0 < expected["novelty"] < 1
    assert {name: scores[name]["value"] for name in expected} == pytest.approx(expected, rel=1e-12)
    strange = sum(int(np.isin(one.atomic_numbers, [34, 78, 118]).sum()) for one in molecules)
    atoms = sum(one.num_atoms for one in molecules)
    assert scores["unknown_elements"]["value"] == strange / atoms


def test_elements_outside_the_table_are_unstable_and_said():
    krypton = Molecule([36], [[0, 0, 0]])
    scores = score_molecules([krypton, known.WATER])
    assert scores.molecule_stability.value == 0.5
    assert scores.unknown_elements.value == 1 / 4
    assert [row[:2] for row in scores.rows()][-1] == ("unknown elements", "25.0 %")
    graph = Molecule([5, 9, 9, 9], known.AMMONIUM.positions[:4], [[0, 1, 1], [0, 2, 1], [0, 3, 1]])
    assert score_molecules([graph], protocol="bonds").unknown_elements.value == 1 / 4


@pytest.mark.parametrize("protocol", ["distances", "bonds"])
def test_a_stream_of_chunks_scores_like_the_whole(protocol):
    molecules = GRAPHS * 3 if protocol == "bonds" else scattered(40)
    reference = smiles_of(molecules[:4], protocol)
    judge = Judge(reference, protocol)
    for start in range(0, len(molecules), 7):
        judge.update(iter(molecules[start : start + 7]))
    assert len(judge) == len(molecules)
    assert judge.scores() == score_molecules(molecules, reference, protocol=protocol)
    assert judge.table().nbytes == 48 * len(molecules)


def test_workers_give_the_scores_of_one_process(monkeypatch):
    """Threads stand in for the processes, which take seconds to start."""
    monkeypatch.setattr(verdict, "processes", ThreadPoolExecutor)
    monkeypatch.setattr(verdict, "_CHUNK", 16)
    molecules = scattered(150)
    assert score_molecules(molecules, set(), workers=2) == score_molecules(molecules, set())


# By the file's own bonds: sound, the same one written with aromatic bonds, in two pieces, an open valence, too many
GRAPHS = [
    written("c1ccccc1"),
    written("c1ccccc1", aromatic=True),
    written("C[N+](=O)[O-].[Na+]"),
    molecule_of("C H H H", [[0, k, 1] for k in (1, 2, 3)]),
    molecule_of("O H H H", [[0, k, 1] for k in (1, 2, 3)]),
]


def test_every_score_of_stored_bonds_is_the_fraction_it_says():
    scores = score_molecules(GRAPHS, {"[H]c1c([H])c([H])c([H])c([H])c1[H]"}, protocol="bonds")
    assert scores.protocol == "bonds"
    assert (scores.atom_stability.value, scores.atom_stability.n) == (37 / 40, 40)  # not Na, C of methyl, O of OH3
    assert scores.molecule_stability.value == 2 / 5
    assert scores.validity.value == 4 / 5  # a radical is valid, as RDKit has it
    assert scores.connectivity.value == 3 / 5
    assert (scores.uniqueness.value, scores.uniqueness.n) == (3 / 4, 4)
    assert (scores.novelty.value, scores.novelty.n) == (2 / 3, 3)


def test_a_nitro_group_that_rdkit_repairs_is_valid_but_not_stable():
    nitro = written("C[N+](=O)[O-]")
    bonds = nitro.bonds.copy()
    bonds[[sorted(row[:2]) == [1, 3] for row in bonds.tolist()], 2] = 2
    five = Molecule(nitro.atomic_numbers, nitro.positions, bonds)
    both = score_molecules([nitro, five], protocol="bonds")
    assert (both.validity.value, both.molecule_stability.value) == (1, 1 / 2)


def test_protocols_do_not_borrow_from_each_other():
    """Distances that say nothing leave the bonds' verdict, and bonds that say nothing that of the distances."""
    assert score_molecules([GRAPHS[0]]).molecule_stability.value == 0
    wrong = Molecule(known.WATER.atomic_numbers, known.WATER.positions, np.zeros((0, 3)))
    assert score_molecules([wrong]).molecule_stability.value == 1
    assert score_molecules([wrong], protocol="bonds").molecule_stability.value == 0


def test_molecules_without_bonds_and_unknown_protocols_are_input_errors():
    with pytest.raises(InputError, match="'water' has no bonds to judge: choose the protocol 'distances'"):
        score_molecules([GRAPHS[0], known.WATER], protocol="bonds")
    with pytest.raises(InputError, match="protocol = 'rule 1' is unknown: choose one of distances, bonds"):
        Judge(protocol="rule 1")


def test_all_stable_is_not_certain():
    scores = score_molecules([known.WATER, known.ETHENE])
    assert (scores.validity.low, scores.validity.high) == (pytest.approx(0.025**0.5), 1)
    assert scores.unknown_elements.high == pytest.approx(1 - 0.025**0.5)


def test_fragments_of_one_size_are_told_in_an_order_of_their_own():
    first = Molecule([8, 1, 1, 7, 1, 1], np.arange(18.0).reshape(6, 3), [[0, 1, 1], [0, 2, 1], [3, 4, 1], [3, 5, 1]])
    second = Molecule([7, 1, 1, 8, 1, 1], first.positions, first.bonds)
    assert smiles_of([first], "bonds") == smiles_of([second], "bonds")


def test_identities_are_64_bits_of_blake2b():
    """The bits of RFC 7693 for an 8-byte digest, as little-endian two's complement: the same on every machine."""
    digest = hashlib.blake2b(b"[H]O[H]", digest_size=8).digest()
    assert identity("[H]O[H]").to_bytes(8, "little", signed=True) == digest
    assert identity("[H]O[H]") == 1685864696073918623
