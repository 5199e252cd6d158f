import numpy as np
import pytest

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import enumerate as enumeration
from medmol_diffusion.molecules.enumerate import embed, enumerate_molecules, enumerate_smiles
from medmol_diffusion.molecules.metrics import score_molecules


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_one_and_two_heavy_atoms_are_what_chemistry_has():
    assert set(enumerate_smiles(1)) == {"C", "N", "O", "F"}
    two = {"CC", "C=C", "C#C", "CN", "C=N", "C#N", "CO", "C=O", "CF", "NN", "N=N", "N#N", "NO", "N=O", "OO"}
    assert set(enumerate_smiles(2)) - set(enumerate_smiles(1)) == two


def test_four_heavy_atoms_hold_familiar_molecules_and_no_absurd_ones():
    from rdkit import Chem

    found = set(enumerate_smiles(4))
    familiar = ["CCCC", "C=CC=C", "CC(C)=O", "CC(=O)O", "NC(N)=O", "C1CCC1", "COC=O", "N#CC#N", "C1CO1", "FC(F)F"]
    assert {Chem.CanonSmiles(smiles) for smiles in familiar} <= found
    absurd = ["O=O", "OOO", "NNN", "C1=C=C1", "C1#CC1", "C1=CO1", "C1=CC=C1", "C12C3C1C23", "FN", "C=C=C=C"]
    assert not {Chem.CanonSmiles(smiles) for smiles in absurd} & found
    assert len(found) == len({Chem.CanonSmiles(smiles) for smiles in found})
    assert 300 < len(found) < 400


def test_nearly_all_molecules_are_stable_by_rule_one():
    molecules = enumerate_molecules(4, conformers=1)
    scores = score_molecules(molecules, bootstrap=10)
    assert len(molecules) > 300
    assert scores.atom_stability.value > 0.96
    assert scores.molecule_stability.value > 0.88
    # force-field geometries of N=C=N and the like are too short for the rule, which then sees a valence of 5
    assert scores.connectivity.value > 0.9


def test_conformers_of_a_molecule_follow_one_another_and_differ():
    molecules = enumerate_molecules(2, conformers=3)
    names = [molecule.name for molecule in molecules]
    assert names == [name for name in dict.fromkeys(names) for _ in range(3)]
    one, other = molecules[0].positions, molecules[1].positions
    assert np.abs(one - other).max() > 1e-3


def test_the_cache_gives_the_same_molecules_and_damage_is_repaired(monkeypatch):
    built = enumerate_molecules(2, conformers=2)
    with monkeypatch.context() as patch:
        patch.setattr(enumeration, "enumerate_smiles", lambda _: pytest.fail("the cache was not used"))
        cached = enumerate_molecules(2, conformers=2)
    for one, other in zip(built, cached, strict=True):
        assert one.name == other.name
        np.testing.assert_allclose(one.positions, other.positions, atol=1e-6)
    enumeration.cache_file(2, 2, 0).write_bytes(b"damaged")
    assert len(enumerate_molecules(2, conformers=2)) == len(built)


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(enumerate_molecules(1, conformers=1)) >= 3


def test_the_seed_decides():
    first, again, other = embed("CCO", 2, seed=0), embed("CCO", 2, seed=0), embed("CCO", 2, seed=1)
    np.testing.assert_array_equal(first[1].positions, again[1].positions)
    assert np.abs(first[1].positions - other[1].positions).max() > 1e-3


def test_sizes_below_one_are_refused():
    with pytest.raises(InputError, match="at least 1"):
        enumerate_molecules(0)
