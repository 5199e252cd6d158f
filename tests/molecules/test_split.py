"""A split is the same everywhere: as a permutation, and as a file that fits its data alone."""

import json

import numpy as np
import pytest

from medmol_diffusion.cli import main
from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import Molecule, write_sdf
from medmol_diffusion.molecules.data import EnumeratedData, MoleculeData
from medmol_diffusion.molecules.scaffold import scaffold
from medmol_diffusion.molecules.smiles import canonical_smiles
from medmol_diffusion.molecules.split import draw
from tests.conftest import random_molecules, write_npz
from tests.molecules.test_molecule import embedded

PARTS = ("train", "validation", "test")


@pytest.fixture
def npz(tmp_path):
    return str(write_npz(tmp_path / "set.npz", random_molecules(40)))


def ready(*arguments, **options):
    data = MoleculeData(*arguments, **options)
    data.setup()
    return data


def test_a_permutation_of_the_groups_decides_as_it_always_did():
    group = np.repeat(np.arange(0, 200, 2), 3)
    order = np.random.default_rng(3).permutation(np.arange(0, 200, 2))
    train, validation, test = draw(group, 0.1, 0.2, seed=3)
    assert set(group[test]) == set(order[:20])
    assert set(group[validation]) == set(order[20:30])
    assert set(group[train]) == set(order[30:])
    assert sorted(np.concatenate([train, validation, test])) == list(range(300))


def test_a_split_written_is_the_split_read(npz, tmp_path):
    first = ready(npz, validation=0.2, test=0.3, split_seed=4)
    first.write_split(str(tmp_path / "split.json"))
    again = ready(npz, split_file=str(tmp_path / "split.json"))
    for part in PARTS:
        assert sorted(getattr(first, part).index) == sorted(getattr(again, part).index)
    cached = ready(npz, split_file=str(tmp_path / "split.json"), cache_dir=str(tmp_path / "cache"))
    assert sorted(cached.test.index) == sorted(first.test.index)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"test": [0, 1], "train": [1, 2]}, "record 1 more than once"), ({"test": [40]}, "goes beyond the 40"),
     ({"test": [-1]}, "goes beyond"), ({"fingerprint": "x"}, "made for other data"), 
     ({"train": "all"}, "no split file"), ({"train": []}, "no molecule to train on")],
)  # fmt: skip
def test_a_split_file_that_does_not_fit_is_refused(change, message, npz, tmp_path):
    file = tmp_path / "split.json"
    ready(npz).write_split(str(file))
    content = {**json.loads(file.read_text()), "train": [5], "validation": [], "test": []}
    file.write_text(json.dumps({**content, **change}))
    with pytest.raises(InputError, match=message):
        ready(npz, split_file=str(file))


def test_a_split_file_that_is_missing_or_meets_a_limit_is_refused(npz, tmp_path):
    with pytest.raises(InputError, match=r"There is no split file .*medmol split"):
        ready(npz, split_file=str(tmp_path / "gone.json"))
    with pytest.raises(InputError, match="limit and split_file"):
        MoleculeData(npz, limit=3, split_file="a.json")


def test_group_by_keeps_together_what_is_equal(tmp_path):
    molecules = [
        Molecule(m.atomic_numbers, m.positions, name=f"n{i % 7}", properties={"batch": f"b{i % 5}"})
        for i, m in enumerate(random_molecules(35))
    ]
    write_sdf(molecules, tmp_path / "a.sdf")
    for key, count in (("name", 7), ("batch", 5)):
        data = ready(str(tmp_path / "a.sdf"), group_by=key, validation=0.3, test=0.3)
        groups = [set((getattr(data, part).index % count).tolist()) for part in PARTS]
        assert sum(map(len, groups)) == len(set.union(*groups)) == count
    with pytest.raises(InputError, match=r"No record of .* has 'colour'"):
        ready(str(tmp_path / "a.sdf"), group_by="colour")


def test_a_split_file_never_parts_conformers(tmp_path):
    molecules = random_molecules(6)
    write_sdf(
        [Molecule(m.atomic_numbers, m.positions, name="same") for m in molecules[:2]] + molecules[2:],
        tmp_path / "a.sdf",
    )
    ready(str(tmp_path / "a.sdf")).write_split(str(tmp_path / "s.json"))
    content = json.loads((tmp_path / "s.json").read_text()) | {"train": [0, 2], "test": [1], "validation": []}
    (tmp_path / "s.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="parts conformers"):
        ready(str(tmp_path / "a.sdf"), group_by="name", split_file=str(tmp_path / "s.json"))


def test_the_scaffold_is_the_rings_and_what_links_them(tmp_path):
    assert scaffold(embedded("Cc1ccccc1")) == scaffold(embedded("Oc1ccccc1CC")) == "c1ccccc1"
    assert scaffold(embedded("CCO")) == "CCO"
    write_sdf([embedded(s) for s in ("Cc1ccccc1", "CCO", "Oc1ccccc1", "C1CCC1")], tmp_path / "a.sdf")
    data = MoleculeData(str(tmp_path / "a.sdf"), group_by="scaffold")
    assert data.load().group.tolist() == [0, 1, 0, 3]


def test_smiles_are_computed_and_tell_molecules_apart_however_they_are_written(tmp_path):
    written = [embedded(s) for s in ("OCC", "c1ccccc1", "CCO", "C[C@H](N)O", "C[C@@H](N)O")]
    bare = Molecule(written[0].atomic_numbers[::-1], written[0].positions[::-1])  # in another order, of rule 1
    told = Molecule([6, 6, 8], np.eye(3) * 5, properties={"smiles": "[CH3][CH2][OH]"})  # of its own field
    crowd = Molecule([6, 1, 1, 1, 1, 1], [[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1]])
    found = [canonical_smiles(one) for one in [*written, bare, told, crowd]]
    assert found == ["CCO", "c1ccccc1", "CCO", "CC(N)O", "CC(N)O", "CCO", "CCO", ""]
    write_sdf([*written, crowd, crowd], tmp_path / "a.sdf")
    data = MoleculeData(str(tmp_path / "a.sdf"), group_by="smiles")
    assert data.load().group.tolist() == [0, 1, 0, 3, 3, 5, 6]


def test_a_field_that_is_no_smiles_is_not_believed():
    one = embedded("CCO")
    one.properties["smiles"] = "ethanol?"
    assert canonical_smiles(one) == "CCO"


def test_medmol_split_groups_by_computed_smiles(tmp_path):
    write_sdf([embedded(smiles) for smiles in ("CCO", "CO", "OCC", "CN", "OC", "CC")], tmp_path / "a.sdf")
    main(["split", str(tmp_path / "a.sdf"), "-o", str(tmp_path / "s.json"), "--group-by", "smiles", "--test", "0.25"])
    content = json.loads((tmp_path / "s.json").read_text())
    parts = [set(content[part]) for part in PARTS]
    assert all(pair <= part or not pair & part for part in parts for pair in ({0, 2}, {1, 4}))
    assert sorted(set.union(*parts)) == list(range(6))


def test_the_embedded_data_can_be_split_by_file(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = EnumeratedData(max_heavy_atoms=1, conformers=4, validation=0.25, test=0.25)
    data.setup()
    data.write_split(str(tmp_path / "s.json"))
    again = EnumeratedData(max_heavy_atoms=1, conformers=4, split_file=str(tmp_path / "s.json"))
    again.setup()
    np.testing.assert_array_equal(data.train.index, again.train.index)
    np.testing.assert_array_equal(data.test.index, again.test.index)
    assert len(data.test) == 4


def test_medmol_split_writes_what_split_file_reads(npz, tmp_path, capsys):
    main(["split", npz, "-o", str(tmp_path / "s.json"), "--test", "0.25", "--validation", "0.1", "--seed", "2"])
    assert "26 to train, 4 to validate, 10 to test" in " ".join(capsys.readouterr().out.split())
    assert sorted(ready(npz, split_file=str(tmp_path / "s.json")).test.index) == sorted(
        ready(npz, test=0.25, validation=0.1, split_seed=2).test.index
    )
