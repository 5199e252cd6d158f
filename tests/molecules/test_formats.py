"""Every published layout is read: the molecules, what they are called, their columns, and the damaged ones by name."""

import gzip
import io
import sys
import tarfile

import numpy as np
import pytest

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import Molecule, read_molecules, write_sdf, write_xyz
from medmol_diffusion.molecules.flat import FlatMolecules
from medmol_diffusion.molecules.formats import files, geom
from tests.molecules import geometries as known

PROPERTIES = "157.7 157.7 157.7 0. 13.21 -0.3877 0.1171 0.5048 35.3641 0.044749 -40.479 -40.476 -40.475 -40.499 6.469"
QM9 = f"""5
gdb 1\t{PROPERTIES.replace(" ", chr(9))}\t
C\t-0.0126981359\t 1.0858041578\t 0.0080009958\t-0.535689
H\t 0.002150416\t-0.0060313176\t 1.9761204*^-3\t 0.133921
H\t 1.0117308433\t 1.4637511618\t 0.0002765748\t 0.133922
H\t-0.540815069\t 1.4475266138\t-0.8766437152\t 0.133923
H\t-0.5238136345\t 1.4379326443\t 9.063972942*^-1\t 0.133923
1341.307\t1341.3284\t1341.365\t1562.6731\t1562.7453\t3038.3205\t3151.6034\t3151.6788\t3151.7078
C\tC
InChI=1S/CH4/h1H4\tInChI=1S/CH4/h1H4
"""


def flat_of(path, **options):
    return FlatMolecules.concatenate(files.chunks(files.check_path(path), **options))


def test_raw_qm9_xyz_gives_geometry_properties_and_smiles(tmp_path):
    (tmp_path / "a.xyz").write_text(QM9 + QM9.replace("gdb 1", "gdb 2"))
    molecules, bad = read_molecules(tmp_path / "a.xyz")
    assert bad == []
    assert [molecule.name for molecule in molecules] == ["gdb_1", "gdb_2"]
    first = molecules[0]
    assert first.atomic_numbers.tolist() == [6, 1, 1, 1, 1]
    assert first.positions[1, 2] == pytest.approx(0.0019761204)
    assert first.positions[4, 2] == pytest.approx(0.9063972942)
    assert first.properties["smiles"] == "C"
    assert (first.properties["homo"], first.properties["gap"], first.properties["cv"]) == (-0.3877, 0.5048, 6.469)
    assert len(first.properties) == 16


def test_a_folder_and_a_tar_of_raw_qm9_are_the_same_data(tmp_path):
    folder = tmp_path / "raw"
    folder.mkdir()
    texts = {f"dsgdb9nsd_00000{i}.xyz": QM9.replace("gdb 1", f"gdb {i}") for i in (1, 2, 3)}
    texts["dsgdb9nsd_000002.xyz"] = texts["dsgdb9nsd_000002.xyz"].replace("-0.535689", "").replace("0.0080009958", "?")
    for name, text in texts.items():
        (folder / name).write_text(text)
    with tarfile.open(tmp_path / "dsgdb9nsd.xyz.tar.bz2", "w:bz2") as archive:
        for name, text in texts.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    one, other = flat_of(folder), flat_of(tmp_path / "dsgdb9nsd.xyz.tar.bz2")
    for flat in (one, other):
        assert flat.index.tolist() == [0, 2]
        assert (flat.records, flat.skipped) == (3, 1)
        assert "gdb_2" in flat.faults[0]
        np.testing.assert_array_equal(flat.columns["alpha"], [13.21, 13.21])
    np.testing.assert_array_equal(one.positions, other.positions)


def test_gdb9_sdf_loses_its_artefacts_and_gains_its_csv(tmp_path):
    charged = Molecule([7, 1, 1, 1, 1], known.AMMONIUM.positions, [[0, i, 1] for i in range(1, 5)], [1, 0, 0, 0, 0])
    named = [Molecule(charged.atomic_numbers, charged.positions, charged.bonds, charged.formal_charges, f"gdb_{i}")
             for i in (1, 2)]  # fmt: skip
    write_sdf(named, tmp_path / "gdb9.sdf")
    write_sdf(named, tmp_path / "mine.sdf")
    (tmp_path / "gdb9.sdf.csv").write_text("mol_id,homo,note\ngdb_1,-0.25,a\ngdb_2,-0.5,b\n")
    molecules, bad = read_molecules(tmp_path / "gdb9.sdf")
    assert bad == []
    assert [(one.bonds, one.formal_charges) for one in molecules] == [(None, None)] * 2
    assert molecules[1].properties == {"homo": -0.5, "note": "b"}
    assert read_molecules(tmp_path / "mine.sdf")[0][0].formal_charges.tolist() == [1, 0, 0, 0, 0]


def test_a_csv_that_does_not_fit_is_refused(tmp_path):
    write_sdf([known.WATER, known.METHANE], tmp_path / "a.sdf")
    (tmp_path / "a.sdf.csv").write_text("name,x\nwater,1\nbenzene,2\n")
    _, (record,) = read_molecules(tmp_path / "a.sdf")
    assert (record.index, record.name) == (1, "methane")
    assert "benzene" in record.reason
    for text, has in (("name,x\nwater,1\n", "fewer"), ("name,x\nwater,1\nmethane,2\nmore,3\n", "more")):
        (tmp_path / "a.sdf.csv").write_text(text)
        with pytest.raises(InputError, match=f"one row for each record of a.sdf: it has {has}"):
            read_molecules(tmp_path / "a.sdf")


def test_v3000_is_read(tmp_path):
    from rdkit import Chem

    block = Chem.MolToV3KMolBlock(known.BENZENE.to_rdkit())
    (tmp_path / "a.sdf").write_text(block + "$$$$\n")
    ((benzene,), bad) = read_molecules(tmp_path / "a.sdf")
    assert bad == []
    assert len(benzene.bonds) == 12
    np.testing.assert_allclose(benzene.positions, known.BENZENE.positions, atol=1e-4)


def test_extended_xyz_round_trip_keeps_name_and_properties(tmp_path):
    before = Molecule([8, 1, 1], known.WATER.positions, name="a b", properties={"gap": -1.5, "note": 'it is "so"'})
    write_xyz([before, known.METHANE], tmp_path / "a.xyz")
    (after, methane), bad = read_molecules(tmp_path / "a.xyz")
    assert bad == []
    assert (after.name, after.properties) == ("a b", {"gap": -1.5, "note": "it is 'so'"})
    np.testing.assert_allclose(after.positions, before.positions, atol=1e-8)
    assert methane.name == "methane"


def test_extended_xyz_puts_columns_where_properties_says_and_refuses_a_crystal(tmp_path):
    atoms = "0.5 H 1 2 3\n"
    (tmp_path / "a.xyz").write_text(
        f'1\nProperties=charge:R:1:species:S:1:pos:R:3 energy=-2 pbc="F F F"\n{atoms}'
        f'1\nProperties=charge:R:1:species:S:1:pos:R:3 Lattice="9 0 0 0 9 0 0 0 9"\n{atoms}'
        f"1\nProperties=charge:R:1:x:R:3\n{atoms}"
    )
    ((one,), bad) = read_molecules(tmp_path / "a.xyz")
    assert (one.atomic_numbers.tolist(), one.positions.tolist()) == ([1], [[1, 2, 3]])
    assert one.properties == {"energy": -2.0}
    assert ["periodic" in bad[0].reason, "names no species" in bad[1].reason] == [True, True]


def test_extxyz_is_a_suffix_of_xyz(tmp_path):
    text = known.WATER.to_xyz() + known.METHANE.to_xyz()
    (tmp_path / "a.extxyz").write_text(text)
    (tmp_path / "b.extxyz.gz").write_bytes(gzip.compress(text.encode()))
    for path, count in ((tmp_path / "a.extxyz", 2), (tmp_path / "b.extxyz.gz", 2), (tmp_path, 4)):
        assert len(read_molecules(path)[0]) == count


def edm_array(folder, sizes=(3, 3, 2, 4)):
    """Two conformers of one molecule, then two others, as EDM lays them out."""
    draw = np.random.default_rng(0)
    elements = [[8, 1, 1], [8, 1, 1], [6, 8], [6, 1, 1, 8]]
    rows = [[i, z, *draw.normal(size=3)] for i, numbers in enumerate(elements) for z in numbers]
    np.save(folder / "GEOM_drugs_30.npy", np.array(rows))
    np.save(folder / "GEOM_drugs_n_30.npy", np.array(sizes))
    return np.array(rows)


def test_edm_arrays_are_read_with_conformers_grouped(tmp_path, monkeypatch):
    rows = edm_array(tmp_path)
    for block in (1, 5, 1 << 18):  # conformers across the ends of blocks
        monkeypatch.setattr(geom, "ATOMS", block)
        flat = flat_of(tmp_path / "GEOM_drugs_30.npy")
        assert flat.num_atoms.tolist() == [3, 3, 2, 4]
        assert flat.group.tolist() == [0, 0, 2, 3]
        np.testing.assert_array_equal(flat.atomic_numbers, rows[:, 1])
        np.testing.assert_allclose(flat.positions[:3], rows[:3, 2:] - rows[:3, 2:].mean(0), atol=1e-6)
    molecules, bad = read_molecules(tmp_path / "GEOM_drugs_30.npy")
    assert bad == []
    np.testing.assert_array_equal(molecules[2].positions, rows[6:8, 2:])


def test_edm_arrays_that_disagree_or_are_damaged_are_named(tmp_path):
    edm_array(tmp_path, sizes=(3, 3, 3, 3))
    with pytest.raises(InputError, match=r"GEOM_drugs_n_30\.npy does not say"):
        flat_of(tmp_path / "GEOM_drugs_30.npy")
    rows = edm_array(tmp_path)
    rows[4, 3] = np.nan
    np.save(tmp_path / "GEOM_drugs_30.npy", rows)
    flat = flat_of(tmp_path / "GEOM_drugs_30.npy")
    assert (flat.index.tolist(), flat.faults) == ([0, 2, 3], ("conformer 1",))
    np.save(tmp_path / "GEOM_drugs_30.npy", rows[:, :4])
    with pytest.raises(InputError, match="rows of conformer, Z, x, y and z"):
        flat_of(tmp_path / "GEOM_drugs_30.npy")


def test_the_crude_msgpack_keeps_the_lowest_conformers_of_each_molecule(tmp_path):
    import msgpack

    def entry(*energies):
        xyz = [[8.0, 0, 0, 0], [1.0, 0.9, 0, 0]]
        return {
            "charge": -1,
            "conformers": [{"xyz": [[*r[:3], r[3] + e] for r in xyz], "totalenergy": e} for e in energies],
        }

    batches = [{"[OH-]": entry(2.0, 1.0, 3.0)}, {"other": entry(5.0), "bad": {"conformers": [{"xyz": [[1, 2]]}]}}]
    (tmp_path / "drugs_crude.msgpack").write_bytes(b"".join(map(msgpack.packb, batches)))
    flat = flat_of(tmp_path / "drugs_crude.msgpack", conformers=2)
    assert flat.columns["totalenergy"].tolist() == [1.0, 2.0, 5.0]
    assert flat.columns["charge"].tolist() == [-1, -1, -1]
    assert (flat.group.tolist(), flat.index.tolist()) == ([0, 0, 2], [0, 1, 2])
    assert (flat.skipped, "bad" in flat.faults[0]) == (1, True)
    whole = (tmp_path / "drugs_crude.msgpack").read_bytes()
    (tmp_path / "cut.msgpack").write_bytes(whole[:-30])
    with pytest.raises(InputError, match="ends in the middle"):
        flat_of(tmp_path / "cut.msgpack")
    (tmp_path / "other.msgpack").write_bytes(msgpack.packb([1, 2]))
    with pytest.raises(InputError, match="not laid out as GEOM's"):
        flat_of(tmp_path / "other.msgpack")


def test_without_msgpack_the_cure_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "msgpack", None)
    (tmp_path / "a.msgpack").write_bytes(b"x")
    with pytest.raises(InputError, match=r"pip install 'medmol_diffusion\[geom\]'"):
        read_molecules(tmp_path / "a.msgpack")


def test_pickles_are_refused(tmp_path):
    folder = tmp_path / "rdkit_folder" / "drugs"
    folder.mkdir(parents=True)
    (folder / "CCO.pickle").write_bytes(b"never opened")
    for path in (tmp_path / "rdkit_folder", folder / "CCO.pickle", tmp_path / "rdkit_folder.tar.gz"):
        with pytest.raises(InputError, match="loading a pickle runs any code"):
            read_molecules(path)


def test_a_streamed_npz_is_the_whole_npz(tmp_path, monkeypatch):
    from medmol_diffusion.molecules.formats import npz

    draw = np.random.default_rng(0)
    numbers = np.where(np.arange(6) < draw.integers(1, 7, 23)[:, None], 6, 0).astype(np.uint8)
    positions, charges = draw.normal(size=(23, 6, 3)), draw.integers(-1, 2, (23, 6))
    orders = np.triu(draw.integers(0, 5, (23, 6, 6)) * (numbers[:, None] * numbers[:, :, None] > 0), 1)
    np.savez_compressed(tmp_path / "a.npz", atomic_numbers=numbers, positions=positions, formal_charges=charges,
                        bonds=orders + orders.transpose(0, 2, 1), energy=np.arange(23), other=np.zeros(3))  # fmt: skip
    monkeypatch.setattr(npz, "ROWS", 5)
    streamed = flat_of(tmp_path / "a.npz")
    molecules, bad = read_molecules(tmp_path / "a.npz")
    made = FlatMolecules.of(molecules)
    assert bad == []
    for name in ("atomic_numbers", "positions", "offsets", "index", "group", "bonds", "bond_offsets", "formal_charges"):
        np.testing.assert_array_equal(getattr(streamed, name), getattr(made, name), err_msg=name)
    np.testing.assert_array_equal(streamed.columns["energy"], made.columns["energy"])
    assert "other" not in streamed.columns


def test_a_gzipped_xyz_and_a_mixed_folder_are_read_in_order_of_name(tmp_path):
    (tmp_path / "b.xyz.gz").write_bytes(gzip.compress(known.WATER.to_xyz().encode()))
    write_sdf([known.METHANE], tmp_path / "a.sdf")
    (tmp_path / "notes.txt").write_text("not a molecule")
    molecules, _ = read_molecules(tmp_path)
    assert [molecule.name for molecule in molecules] == ["methane", "water"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no file that ends in"):
        read_molecules(tmp_path / "empty")


def test_ase_round_trip_and_what_it_refuses(monkeypatch):
    from ase.build import bulk, molecule

    ethanol = Molecule.from_ase(molecule("CH3CH2OH"))
    assert sorted(ethanol.atomic_numbers.tolist()) == [1] * 6 + [6, 6, 8]
    before = Molecule([7, 1, 1, 1, 1], known.AMMONIUM.positions, formal_charges=[1, 0, 0, 0, 0], name="ammonium",
                      properties={"energy": -1.5, "note": "x"})  # fmt: skip
    after = Molecule.from_ase(before.to_ase())
    np.testing.assert_array_equal(after.positions, before.positions)
    np.testing.assert_array_equal(after.formal_charges, before.formal_charges)
    assert (after.name, after.properties) == (before.name, before.properties)
    with pytest.raises(InputError, match="periodic"):
        Molecule.from_ase(bulk("Cu"))
    monkeypatch.setitem(sys.modules, "ase", None)
    with pytest.raises(InputError, match=r"pip install 'medmol_diffusion\[ase\]'"):
        before.to_ase()
