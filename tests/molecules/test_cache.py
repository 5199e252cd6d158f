"""The memory-mapped cache says what the source says, is used again only for the same source, and is whole or absent."""

import os
import pickle

import numpy as np
import pytest
import torch

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import MoleculeBatch, cache, write_sdf
from medmol_diffusion.molecules.chemistry import bond_orders
from medmol_diffusion.molecules.data import MoleculeData
from medmol_diffusion.molecules.dataset import MoleculeDataset
from medmol_diffusion.molecules.flat import FlatMolecules
from medmol_diffusion.molecules.formats import files
from tests.conftest import random_molecules, write_npz
from tests.molecules import geometries as known
from tests.molecules.test_molecule import embedded

FIELDS = ("atomic_numbers", "positions", "offsets", "index", "group", "bonds", "bond_offsets", "formal_charges")
MOLECULES = [embedded(smiles) for smiles in ("C[NH3+]", "CC(=O)[O-]", "c1ccccc1", "[Cl-]", "N#N")]


def assert_same(one, other):
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert one.columns.keys() == other.columns.keys()
    for name in one.columns:
        np.testing.assert_array_equal(one.columns[name], other.columns[name])


def in_chunks(molecules, size):
    for start in range(0, len(molecules), size):
        part = molecules[start : start + size]
        yield FlatMolecules.of(part, np.arange(start, start + len(part)))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_what_is_written_in_chunks_is_read_as_a_whole(size, tmp_path):
    for place, molecule in enumerate(MOLECULES):
        molecule.properties.clear()
        molecule.properties.update({"place": place} | ({"late/name": 7.0} if place > 2 else {}))
    cache.write(tmp_path / "c", in_chunks(MOLECULES, size), {})
    read = cache.read(tmp_path / "c")
    assert_same(read, FlatMolecules.of(MOLECULES))
    assert_same(FlatMolecules.concatenate(in_chunks(MOLECULES, size)), FlatMolecules.of(MOLECULES))
    assert np.isnan(read.columns["late/name"][:3]).all()
    assert read.records == len(MOLECULES)
    assert read.positions.base is not None  # a view of the map, not a copy
    assert not list(tmp_path.glob(".*"))


def test_one_molecule_without_bonds_leaves_the_data_without(tmp_path):
    mixed = [*MOLECULES, known.WATER]
    cache.write(tmp_path / "c", in_chunks(mixed, 2), {})
    assert cache.read(tmp_path / "c").bonds is None
    assert cache.read(tmp_path / "c").formal_charges is None
    assert FlatMolecules.concatenate(in_chunks(mixed, 2)).bonds is None


def test_molecules_of_one_atom_have_no_bonds_to_map(tmp_path):
    cache.write(tmp_path / "c", in_chunks([MOLECULES[3]], 1), {})
    data = MoleculeDataset(cache.read(tmp_path / "c"), None, "file")
    batch = data.__getitems__([0])
    assert batch.bonds.tolist() == [[[0]]]
    assert batch.formal_charges.tolist() == [[-1]]


def test_a_build_that_fails_leaves_nothing(tmp_path):
    def chunks():
        yield FlatMolecules.of(MOLECULES)
        raise InputError("the file ends here")

    with pytest.raises(InputError, match="ends here"):
        cache.write(tmp_path / "c", chunks(), {})
    assert list(tmp_path.iterdir()) == []


def test_the_cache_is_read_again_only_for_the_same_content(tmp_path, monkeypatch):
    source = tmp_path / "a.sdf"
    write_sdf(MOLECULES, source)
    reads = []
    real = files.chunks
    monkeypatch.setattr(files, "chunks", lambda *a: reads.append(a) or real(*a))

    def size():
        return len(MoleculeData(str(source), cache_dir=str(tmp_path / "cache")).load())

    assert [size(), size(), len(reads)] == [5, 5, 1]
    os.utime(source, (1, 1))  # touched, with the same content
    assert [size(), len(reads)] == [5, 1]
    write_sdf(MOLECULES[:3], source)
    assert [size(), len(reads)] == [3, 2]
    next((tmp_path / "cache").glob("*/manifest.json")).write_text("{")  # damaged
    assert [size(), len(reads)] == [3, 3]
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_bad_records_are_told_each_time(tmp_path):
    write_sdf(MOLECULES, tmp_path / "a.sdf")
    (tmp_path / "a.sdf").write_text("junk\n\n\nbad counts\n$$$$\n" + (tmp_path / "a.sdf").read_text())
    for _ in range(2):
        data = MoleculeData(str(tmp_path / "a.sdf"), cache_dir=str(tmp_path / "cache"), validation=0, test=0)
        with pytest.warns(UserWarning, match="skipped 1 record that .* record 1 .junk."):
            data.setup()
        assert data.train.index.tolist() == [1, 2, 3, 4, 5]


def test_batches_from_the_cache_are_those_from_memory_and_from_collate(tmp_path):
    write_sdf(MOLECULES, tmp_path / "a.sdf")
    options = {"validation": 0, "test": 0, "bonds": "file", "batch_size": 3}
    memory = MoleculeData(str(tmp_path / "a.sdf"), **options)
    mapped = MoleculeData(str(tmp_path / "a.sdf"), cache_dir=str(tmp_path / "cache"), num_workers=1, **options)
    memory.setup()
    mapped.setup()
    molecules, _ = files.read_molecules(tmp_path / "a.sdf")
    assert mapped.train.flat.folder is not None
    for one, other in zip(memory.train_dataloader(), mapped.train_dataloader(), strict=True):
        made = MoleculeBatch.collate([molecules[i] for i in one.index], one.index)
        assert one.index.tolist() == other.index.tolist()
        for name in ("atomic_numbers", "positions", "mask", "bonds", "formal_charges"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
            if name != "positions":  # which are centred
                assert torch.equal(getattr(one, name), getattr(made, name)), name


def test_a_worker_is_sent_the_folder_and_not_the_arrays(tmp_path):
    molecules = random_molecules(200)
    cache.write(tmp_path / "c", in_chunks(molecules, 50), {})
    flat = cache.read(tmp_path / "c")
    assert len(pickle.dumps(flat)) < 500
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(flat)).positions, flat.positions)
    alone = FlatMolecules.of(molecules)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(alone)).positions, alone.positions)


def test_bonds_from_distances_are_rule_one_and_need_no_file(tmp_path):
    molecules = [known.BENZENE, known.CARBON_DIOXIDE, known.ETHENE, known.WATER]
    data = MoleculeData(str(write_npz(tmp_path / "a.npz", molecules)), validation=0, test=0, bonds="distances")
    data.setup()
    batch = data.train.__getitems__([0, 1, 2, 3])
    assert batch.bonds.dtype == torch.int8
    assert not batch.formal_charges.any()
    for row, molecule in enumerate(molecules):
        n = molecule.num_atoms
        expected = bond_orders(molecule.atomic_numbers, molecule.positions)
        np.testing.assert_array_equal(batch.bonds[row, :n, :n], expected)
        assert not batch.bonds[row, n:].any()
    assert data.train[1].bonds[:, 2].tolist() == [2, 2]
    with pytest.raises(InputError, match="say distances"):
        MoleculeData(str(tmp_path / "a.npz"), validation=0, test=0, bonds="file").setup()


def test_properties_come_from_the_source_or_are_computed_once(tmp_path, monkeypatch):
    from medmol_diffusion.molecules import properties

    for place, molecule in enumerate(MOLECULES):
        molecule.properties.clear()
        molecule.properties["gap"] = 0.5 * place
    write_sdf(MOLECULES, tmp_path / "a.sdf")
    calls = []
    real = properties.compute
    monkeypatch.setattr(properties, "compute", lambda *a: calls.append(a) or real(*a))
    for _ in range(2):
        data = MoleculeData(str(tmp_path / "a.sdf"), cache_dir=str(tmp_path / "cache"), validation=0, test=0,
                            properties=["gap", "heavy_atoms", "rings"])  # fmt: skip
        data.setup()
        batch = data.train.__getitems__([0, 1, 2, 3, 4])
        assert batch.properties["gap"].tolist() == [0, 0.5, 1, 1.5, 2]
        assert batch.properties["heavy_atoms"].tolist() == [2, 4, 6, 1, 2]
        assert batch.properties["rings"].tolist() == [0, 0, 1, 0, 0]
    assert len(calls) == len(MOLECULES)
    with pytest.raises(InputError, match=r"no column colour .it has gap.*ready ones are qed"):
        MoleculeData(str(tmp_path / "a.sdf"), properties=["colour"]).setup()


def test_the_spread_of_positions_counts_degrees_of_freedom():
    flat = FlatMolecules.of(random_molecules(40))
    data = MoleculeDataset(flat).subset(np.arange(5, 30))
    total = sum((np.square(data[i].positions)).sum() for i in range(len(data)))
    assert data.position_std() == pytest.approx((total / (3 * (data.num_atoms - 1).sum())) ** 0.5, rel=1e-6)
