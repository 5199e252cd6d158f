"""Fixed atoms: how they are chosen, and that they and their bonds come out as they went in."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medmol_diffusion.core import STEPPERS
from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import EGNN, Molecule, MoleculeDiffusion, read_molecules, write_sdf
from medmol_diffusion.molecules.fragment import Fragment, joined, kept_atoms, matching, odd_charges, places_of
from medmol_diffusion.molecules.perceive import perceived
from medmol_diffusion.molecules.size import SizeDistribution
from tests.molecules.geometries import AMMONIUM, BENZENE, ETHENE, WATER

ELEMENTS = [1, 6, 7, 8]
AROMATIC = replace(
    BENZENE,
    bonds=np.array(
        [*([i, i + 1, 4] for i in range(5)), [0, 5, 4], *([i, i + 6, 1] for i in range(6))],
    ),
    formal_charges=np.zeros(12, dtype=int),
)


def model(bonds: bool, charges: bool = True) -> MoleculeDiffusion:
    torch.manual_seed(0)
    size = {"pairs_in": 4, "pairs_out": 4} if bonds else {}
    atoms = 6 if bonds and charges else 4
    made = MoleculeDiffusion(
        ELEMENTS,
        EGNN(atoms, atoms, hidden=8, edge_hidden=8, layers=1, **size),
        max_atoms=20,
        bond_orders=[0, 1, 2, 3] if bonds else None,
        formal_charges=[0, 1] if bonds and charges else None,
    )
    return made.eval()


def given() -> list[Molecule]:
    """Ammonium with its charge, ethene with its double bond: far from the origin, bonds as a file would say them."""
    charged = replace(perceived(AMMONIUM, (0, 1, 2, 3)), formal_charges=np.array([1, 0, 0, 0, 0]))
    return [replace(m, positions=m.positions + 30) for m in (charged, perceived(ETHENE, (0, 1, 2, 3)))]


def inside(molecule: Molecule, count: int) -> list[list[int]]:
    assert molecule.bonds is not None
    return sorted(molecule.bonds[molecule.bonds[:, 1] < count].tolist())


@pytest.mark.parametrize("sampler", STEPPERS)
@pytest.mark.parametrize("bonds", [False, True])
def test_the_fixed_part_comes_out_of_the_sdf_as_it_went_in(sampler: str, bonds: bool, tmp_path) -> None:
    fixed = [[0, 1, 2], [0, 1, 2, 4]]
    found = model(bonds).inpaint(given(), fixed, "drawn", steps=3, sampler=sampler, resamples=2, jump=2)
    write_sdf(found, tmp_path / "out.sdf")
    read, bad = read_molecules(tmp_path / "out.sdf")
    assert not bad
    for new, old, places in zip(read, given(), fixed, strict=True):
        k = len(places)
        assert new.num_atoms > k
        assert np.array_equal(new.atomic_numbers[:k], old.atomic_numbers[places])
        np.testing.assert_allclose(new.positions[:k], old.positions[places], rtol=0, atol=1e-4)
        assert np.array_equal(new.formal_charges[:k], old.formal_charges[places])
        assert inside(new, k) == inside(Fragment.of(old, places).atoms, k)


def test_a_fragment_has_the_bonds_between_its_atoms_and_their_charges() -> None:
    part = Fragment.of(given()[0], [0, 2, 4]).atoms
    assert part.bonds.tolist() == [[0, 1, 1], [0, 2, 1]]
    assert part.formal_charges.tolist() == [1, 0, 0]


def test_bonds_of_the_rest_are_those_of_the_distances_where_the_model_makes_none() -> None:
    whole = perceived(ETHENE, (0, 1, 2, 3))
    odd = replace(whole, bonds=np.array([[0, 1, 1], [0, 2, 1], [1, 4, 1]]))  # a file that says a single bond
    back = Fragment.of(odd, [0, 1]).put_into(ETHENE)
    assert inside(back, 2) == [[0, 1, 1]]
    rest = whole.bonds[whole.bonds[:, 1] >= 2].tolist()
    assert sorted(b for b in back.bonds.tolist() if b[1] >= 2) == sorted(rest)


def test_charges_of_fixed_atoms_are_kept_where_the_model_makes_bonds_and_no_charges() -> None:
    """The rest has none; what does not go with its charge is told by number, and a complete ion is not."""
    whole = given()[0]
    made = replace(perceived(AMMONIUM, (0, 1, 2, 3)), formal_charges=None)
    back = Fragment.of(whole, [0, 1, 2]).put_into(made)
    assert back.formal_charges.tolist() == [1, 0, 0, 0, 0]
    assert odd_charges([back], [3]) is None
    cut = replace(back, bonds=back.bonds[back.bonds[:, 1] < 4])
    said = odd_charges([back, cut, replace(cut, formal_charges=np.zeros(5, dtype=int))], [3, 3, 3])
    assert said is not None
    assert said.startswith("1 of 3 molecules have a fixed atom")
    assert "atom 1 (N, +1)" in said
    assert odd_charges([cut], [0]) is None  # no fixed atom
    assert odd_charges([replace(cut, bonds=None)], [3]) is None
    (found,) = model(True, charges=False).inpaint([whole], [[0, 1, 2]], [7], steps=3)
    assert found.formal_charges.tolist() == [1, 0, 0, 0, 0, 0, 0]
    with pytest.raises(InputError, match="the formal charges -1, but the model makes 0, 1 alone"):
        model(True).inpaint([replace(whole, formal_charges=-whole.formal_charges)], [[0, 1, 2]], [7], steps=3)
    fluorine = replace(whole, atomic_numbers=np.array([7, 9, 17, 1, 1]))
    with pytest.raises(InputError, match="the elements F, Cl, but the model makes H, C, N, O alone"):
        model(True).inpaint([fluorine], [[0, 1, 2]], [7], steps=3)


def test_fragments_of_one_linker_lie_where_they_lay() -> None:
    parts = [replace(part, name=name) for part, name in zip(given(), "ab", strict=True)]
    parts[1] = replace(parts[1], positions=parts[1].positions + 6)
    whole = joined(parts)
    found = model(True).inpaint([whole], [range(11)], [14], steps=3)[0]
    np.testing.assert_allclose(found.positions[:11], np.concatenate([p.positions for p in parts]), rtol=0, atol=1e-9)
    assert inside(found, 11) == sorted([*inside(parts[0], 5), *([i + 5, j + 5, o] for i, j, o in inside(parts[1], 6))])
    assert whole.name == "a"
    assert whole.formal_charges.tolist() == [1] + 10 * [0]
    assert joined([parts[0], WATER]).bonds is None
    with pytest.raises(InputError, match="no fragments"):
        joined([])


def test_aromatic_bonds_are_kekulised_for_a_state_without_them_and_come_out_as_given() -> None:
    kekule = perceived(AROMATIC, (0, 1, 2, 3)).bonds
    ring = kekule[(kekule[:, 1] < 6)]
    assert sorted(ring[:, 2].tolist()) == [1, 1, 1, 2, 2, 2]
    assert np.array_equal(perceived(AROMATIC, (0, 1, 2, 3, 4)).bonds, AROMATIC.bonds)
    found = model(True).inpaint([AROMATIC], [range(11)], steps=2)[0]
    assert inside(found, 11) == inside(Fragment.of(AROMATIC, range(11)).atoms, 11)


def test_bonds_nobody_has_said_are_perceived_by_rule_one() -> None:
    water = perceived(WATER, (0, 1))
    assert water.bonds.tolist() == [[0, 1, 1], [0, 2, 1]]
    assert water.formal_charges.tolist() == [0, 0, 0]
    kept = model(True).vary([WATER], 0.01, steps=2)[0]
    assert kept.bonds.tolist() == water.bonds.tolist()
    assert kept.atomic_numbers.tolist() == [8, 1, 1]


def test_sizes_above_the_fixed_atoms_have_the_probabilities_of_p_given_more() -> None:
    """p(N | N > 4) = p(N) / sum over N > 4, read off an even grid of u."""
    size = SizeDistribution(10).fit(np.bincount([3, 4, 4, 5, 5, 5, 7, 9]))
    u = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    found = torch.bincount(size.sample(u, torch.full((100_000,), 4)), minlength=11) / 100_000
    p = size.log_probabilities.exp().clone()
    p[:5] = 0
    torch.testing.assert_close(found.double(), p / p.sum(), atol=2e-5, rtol=0)
    assert size.sample(torch.tensor([1 - 1e-16, 0.0]), torch.tensor([9, 9])).tolist() == [10, 10]
    with pytest.raises(InputError, match="10 atoms leave no larger size"):
        size.sample(u[:1], torch.tensor([10]))


def test_atoms_are_chosen_as_people_count_them() -> None:
    assert places_of("1,2,5-9", 9) == [0, 1, 4, 5, 6, 7, 8]
    assert places_of("3-3, 1", 4) == [0, 2]
    assert kept_atoms(ETHENE) == [0, 1, 2, 3, 4, 5]
    assert kept_atoms(ETHENE, free="3-6") == [0, 1]
    assert kept_atoms(ETHENE, fixed="6,1") == [0, 5]
    assert kept_atoms(ETHENE, smarts="[#6]=[#6]") == [0, 1]
    assert matching(BENZENE, "[#1]") == [6, 7, 8, 9, 10, 11]
    for text in ("0", "7", "1,,2", "a", "2-", "3-1", ""):
        with pytest.raises(InputError, match=r"no list of atoms|outside 1 to 6"):
            places_of(text, 6)
    with pytest.raises(InputError, match="no SMARTS"):
        matching(ETHENE, "((")
    with pytest.raises(InputError, match="matches nothing"):
        matching(ETHENE, "[#8]")
    with pytest.raises(InputError, match="exclude each other"):
        kept_atoms(ETHENE, fixed="1", free="2")
