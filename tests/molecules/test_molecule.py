import gzip
import subprocess
import sys

import numpy as np
import pytest
import torch

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import Molecule, MoleculeBatch, read_molecules, write_sdf
from tests.molecules import geometries as known

BROKEN = "broken\n  nothing\n\n  9  9  0\n    not an atom line\nM  END\n$$$$\n"


def embedded(smiles):
    from rdkit import Chem
    from rdkit.Chem import rdDistGeom

    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    mol.SetProp("_Name", smiles)
    return Molecule.from_rdkit(mol)


def same_atoms(one, other, tolerance):
    np.testing.assert_array_equal(one.atomic_numbers, other.atomic_numbers)
    np.testing.assert_allclose(one.positions, other.positions, atol=tolerance)


@pytest.mark.parametrize(
    ("fault", "fields"),
    [("shape", {"positions": np.zeros((3, 3))}), ("non-empty", {"atomic_numbers": [], "positions": np.zeros((0, 3))}),
     ("finite", {"positions": [[0, 0, 0], [0, 0, np.nan]]}), ("1..118", {"atomic_numbers": [0, 1]}),
     ("1..118", {"atomic_numbers": [1, 119]}), ("i < j", {"bonds": [[1, 0, 1]]}), ("i < j", {"bonds": [[0, 2, 1]]}),
     ("order", {"bonds": [[0, 1, 5]]}), ("charge", {"formal_charges": [1]})],
)  # fmt: skip
def test_a_molecule_that_cannot_be_is_refused_by_name(fault, fields):
    with pytest.raises(InputError, match=f"'this one'.*{fault}"):
        Molecule(**{"atomic_numbers": [1, 1], "positions": [[0, 0, 0], [0, 0, 0.74]], "name": "this one", **fields})


@pytest.mark.parametrize("smiles", ["CC(=O)[O-]", "C[NH3+]", "c1ccccc1", "C[N+](=O)[O-]", "N#N", "[NH4+].[Cl-]"])
def test_sdf_round_trip_keeps_atoms_bonds_charges_name_and_properties(smiles, tmp_path):
    from rdkit import Chem

    before = embedded(smiles)
    before.properties.update({"energy": -1.5, "note": "made here"})
    write_sdf([before], tmp_path / "one.sdf")
    (after,), bad = read_molecules(tmp_path / "one.sdf")
    assert bad == []
    same_atoms(before, after, 1e-4)  # V2000 has four decimals
    np.testing.assert_array_equal(before.formal_charges, after.formal_charges)
    assert (after.name, after.properties) == (smiles, {"energy": -1.5, "note": "made here"})
    assert Chem.MolToSmiles(Chem.RemoveHs(after.to_rdkit())) == Chem.CanonSmiles(smiles)


def test_bonds_from_distances_reach_the_sdf_file(tmp_path):
    write_sdf([known.ETHENE, known.CARBON_DIOXIDE], tmp_path / "two.sdf")
    (ethene, dioxide), _ = read_molecules(tmp_path / "two.sdf")
    assert sorted(ethene.bonds[:, 2].tolist()) == [1, 1, 1, 1, 2]
    assert dioxide.bonds[:, 2].tolist() == [2, 2]


def test_a_molecule_of_impossible_valence_is_written_all_the_same(tmp_path):
    crowded = known.build("H C C C", [[0, 0, 0], [0.9, 0, 0], [-0.9, 0, 0], [0, 0.9, 0]], name="crowded")
    write_sdf([known.WATER, crowded, known.METHANE], tmp_path / "three.sdf")
    molecules, bad = read_molecules(tmp_path / "three.sdf")
    assert [molecule.name for molecule in molecules] == ["water", "crowded", "methane"]
    assert len(molecules[1].bonds) >= 3
    assert bad == []


def test_an_aromatic_ring_that_cannot_be_kekulised_is_written_all_the_same():
    ring = [[i, i + 1, 4] for i in range(4)] + [[0, 4, 4]]
    angle = np.arange(5) * 2 * np.pi / 5
    pentagon = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    assert Molecule([6] * 5, 1.2 * pentagon, bonds=ring).to_sdf().count("  4  0\n") == 5


def test_a_bad_record_between_good_ones_is_reported_and_skipped(tmp_path):
    (tmp_path / "three.sdf").write_text(known.WATER.to_sdf() + BROKEN + known.METHANE.to_sdf())
    molecules, bad = read_molecules(tmp_path / "three.sdf")
    assert [molecule.name for molecule in molecules] == ["water", "methane"]
    (record,) = bad
    assert (record.index, record.name) == (1, "broken")
    assert "cannot parse" in record.reason


def test_flat_drawings_are_not_molecules_in_space(tmp_path):
    drawing = known.WATER.to_sdf().split("\n")
    drawing[1] = drawing[1][:20] + "2D" + drawing[1][22:]
    (tmp_path / "flat.sdf").write_text("\n".join(drawing))
    molecules, (record,) = read_molecules(tmp_path / "flat.sdf")
    assert molecules == []
    assert "2-D" in record.reason


def test_flat_molecules_are_molecules_and_a_flag_of_2d_alone_makes_no_drawing(tmp_path):
    water = known.WATER.to_sdf().split("\n")
    unsaid = [*water]
    unsaid[1] = water[1][:20]
    deep = known.METHANE.to_sdf().split("\n")
    deep[1] = deep[1][:20] + "2D"
    (tmp_path / "a.sdf").write_text("\n".join(unsaid) + "\n".join(deep))
    (flat, methane), bad = read_molecules(tmp_path / "a.sdf")
    assert bad == []
    same_atoms(flat, known.WATER, 1e-4)
    same_atoms(methane, known.METHANE, 1e-4)


def test_a_record_without_atoms_is_reported(tmp_path):
    (tmp_path / "a.sdf").write_text(
        "none\n\n\n  0  0  0  0  0  0            999 V2000\nM  END\n$$$$\n" + known.WATER.to_sdf()
    )
    (water,), (record,) = read_molecules(tmp_path / "a.sdf")
    assert (water.name, record.index, record.name) == ("water", 0, "none")


def test_private_notes_of_rdkit_are_no_properties(tmp_path):
    note = ">  <_FileComments>\nfrom a.xyz\n\n>  <energy>\n-1.5\n\n$$$$"
    (tmp_path / "a.sdf").write_text(known.WATER.to_sdf().replace("$$$$", note))
    assert read_molecules(tmp_path / "a.sdf")[0][0].properties == {"energy": -1.5}


def test_gzip_is_read_and_a_cut_one_is_named(tmp_path):
    data = gzip.compress((known.WATER.to_sdf() * 50).encode())
    (tmp_path / "a.sdf.gz").write_bytes(data)
    assert len(read_molecules(tmp_path / "a.sdf.gz")[0]) == 50
    (tmp_path / "cut.sdf.gz").write_bytes(data[:-20])
    with pytest.raises(InputError, match=r"cut\.sdf\.gz is not a whole gzip file"):
        read_molecules(tmp_path / "cut.sdf.gz")


def test_xyz_round_trip_of_several_frames(tmp_path):
    (tmp_path / "two.xyz").write_text(known.WATER.to_xyz() + "\n" + known.BENZENE.to_xyz())
    (water, benzene), bad = read_molecules(tmp_path / "two.xyz")
    assert bad == []
    same_atoms(water, known.WATER, 1e-8)
    same_atoms(benzene, known.BENZENE, 1e-8)
    assert benzene.name == "benzene"


@pytest.mark.parametrize(
    ("text", "reason"),
    [("1\nbad\nXx 0 0 0\n", "not an element"), ("1\nbad\nC 0 zero 0\n", "three coordinates"),
     ("1\nbad\nC 0 0\n", "three coordinates"), ("1\nbad\nC 0 0 nan\n", "finite"),
     ("atoms follow\nC 0 0 0\n", "number of atoms"), ("0\nbad\n", "non-empty")],
)  # fmt: skip
def test_a_bad_xyz_frame_is_reported_and_the_next_is_read(text, reason, tmp_path):
    (tmp_path / "a.xyz").write_text(known.WATER.to_xyz() + text + known.METHANE.to_xyz())
    molecules, (record,) = read_molecules(tmp_path / "a.xyz")
    assert [molecule.name for molecule in molecules] == ["water", "methane"]
    assert record.index == 1
    assert reason in record.reason


def test_an_xyz_file_cut_short_is_reported(tmp_path):
    (tmp_path / "a.xyz").write_text(known.WATER.to_xyz() + "5\ncut\nC 0 0 0\n")
    molecules, (record,) = read_molecules(tmp_path / "a.xyz")
    assert len(molecules) == 1
    assert "ends after 1 of its 5 atoms" in record.reason


def test_npz_rows_become_molecules_with_their_columns_and_bad_rows_are_reported(tmp_path):
    numbers = np.array([[8, 1, 1], [6, 8, 0], [6, 0, 0], [6, 8, 0]], dtype=np.uint8)
    positions = np.zeros((4, 3, 3), dtype=np.float32)
    positions[:, 1, 0], positions[:, 2, 1] = 1.1, 1.0
    positions[3, 1, 0] = np.inf
    np.savez(
        tmp_path / "a.npz", atomic_numbers=numbers, positions=positions, num_atoms=np.array([3, 2, 2, 2]),
        index=np.array([10, 11, 12, 13]), smiles=np.array(["O", "C=O", "?", "?"]), gap=np.array([1.0, 2.0, 3.0, 4.0]),
    )  # fmt: skip
    molecules, bad = read_molecules(tmp_path / "a.npz")
    assert [molecule.name for molecule in molecules] == ["10", "11"]
    assert molecules[1].properties == {"smiles": "C=O", "gap": 2.0}
    assert [(record.index, record.name) for record in bad] == [(2, "12"), (3, "13")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("gone.sdf", None, "There is no file"), ("empty.xyz", b"", "is empty"), ("a.pdb", b"x", r"must end in \.sdf"),
     ("blank.sdf", b"\n\n", "holds no molecules"), ("text.npz", b"hello", "cannot be read as an npz")],
)  # fmt: skip
def test_files_that_cannot_be_read_are_named(name, content, message, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}.*{message}|{message}.*{name}"):
        read_molecules(tmp_path / name)


def test_an_npz_without_positions_or_with_pickled_objects_is_named(tmp_path):
    np.savez(tmp_path / "a.npz", atomic_numbers=np.ones((2, 3)))
    with pytest.raises(InputError, match="'positions' of 3 dimensions"):
        read_molecules(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", atomic_numbers=np.array([None, "x"], dtype=object))
    with pytest.raises(InputError, match="plain arrays"):
        read_molecules(tmp_path / "b.npz")


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    write_sdf([known.WATER], tmp_path / "a.sdf")

    def molecules():
        yield known.METHANE
        raise RuntimeError("the sampler stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_sdf(molecules(), tmp_path / "a.sdf")
    assert read_molecules(tmp_path / "a.sdf")[0][0].name == "water"
    assert [path.name for path in tmp_path.iterdir()] == ["a.sdf"]


def test_from_rdkit_needs_a_conformer():
    from rdkit import Chem

    with pytest.raises(InputError, match="no 3-D coordinates"):
        Molecule.from_rdkit(Chem.MolFromSmiles("CC"))


def test_from_rdkit_refuses_a_drawing_and_takes_a_flat_molecule():
    from rdkit import Chem
    from rdkit.Chem import rdDepictor

    mol = Chem.AddHs(Chem.MolFromSmiles("CC"))
    mol.SetProp("_Name", "ethane")
    rdDepictor.Compute2DCoords(mol)
    with pytest.raises(InputError, match="'ethane' is a 2-D drawing: embed it in 3-D before use"):
        Molecule.from_rdkit(mol)
    same_atoms(Molecule.from_rdkit(known.BENZENE.to_rdkit()), known.BENZENE, 1e-12)


def test_a_batch_pads_and_gives_its_molecules_back():
    batch = MoleculeBatch.collate([known.WATER, known.BENZENE], index=[7, 3])
    assert batch.positions.shape == (2, 12, 3)
    assert batch.positions.dtype == torch.float32
    assert (batch.atomic_numbers[0, 3:] == 0).all()
    assert (batch.positions[0, 3:] == 0).all()
    assert batch.num_atoms.tolist() == [3, 12]
    assert (len(batch), batch.index.tolist()) == (2, [7, 3])
    for one, other in zip(batch.unbatch(), (known.WATER, known.BENZENE), strict=True):
        same_atoms(one, other, 1e-6)


def test_a_batch_moves_as_lightning_moves_it():
    from lightning_fabric.utilities.apply_func import move_data_to_device

    moved = move_data_to_device(MoleculeBatch.collate([known.WATER]), torch.device("meta"))
    assert isinstance(moved, MoleculeBatch)
    assert moved.positions.device.type == "meta"


def test_npz_is_read_where_there_is_no_rdkit():
    code = (
        "import sys; sys.modules['rdkit'] = None\n"
        "import medmol_diffusion.molecules.data, medmol_diffusion.molecules.size\n"
        "import medmol_diffusion.molecules.networks.egnn"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("options", "fault"),
    [({"bonds": [[0, 1, 1], [0, 1, 2]]}, "two bonds between the same atoms"), ({"formal_charges": [0, 300]}, "charge")],
)
def test_graphs_that_rdkit_cannot_hold_are_refused(options, fault):
    with pytest.raises(InputError, match=fault):
        Molecule([6, 6], np.zeros((2, 3)), **options)


def test_a_molecule_is_shown_in_a_few_words() -> None:
    water = Molecule([8, 1, 1], np.eye(3))
    assert repr(water) == "Molecule(H2O, 3 atoms)"
    named = Molecule([6, 8, 8, 1, 6], np.eye(5)[:, :3], bonds=[[0, 1, 2]], name="x")
    assert repr([named]) == "[Molecule('x', C2HO2, 5 atoms, 1 bond)]"
    assert repr(Molecule([17, 1], np.eye(3)[:2], bonds=[])) == "Molecule(ClH, 2 atoms, 0 bonds)"
