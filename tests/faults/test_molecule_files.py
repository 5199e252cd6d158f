"""Files of molecules that are none, or not whole: one sentence that names the file and the fault, exit code 2."""

import gzip
import io
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medmol_diffusion.cli import main
from medmol_diffusion.molecules import Molecule, write_sdf
from tests.conftest import random_molecules, write_npz
from tests.faults.refusal import listing, refusal

pytestmark = pytest.mark.filterwarnings("default::UserWarning")  # which the suite turns into errors elsewhere
WATER = "3\nwater\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n"


def text(name: str, content: str | bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        file = folder / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return file

    return make


def sdf(change: Callable[[str], str]) -> Callable[[Path], Path]:
    """A sound file of one molecule, spoilt."""

    def make(folder: Path) -> Path:
        write_sdf(random_molecules(1), folder / "some.sdf")
        (folder / "some.sdf").write_text(change((folder / "some.sdf").read_text()))
        return folder / "some.sdf"

    return make


def npz(**changes: np.ndarray | None) -> Callable[[Path], Path]:
    """A sound archive of four molecules with other arrays, or without one."""

    def make(folder: Path) -> Path:
        with np.load(write_npz(folder / "some.npz", random_molecules(4))) as archive:
            arrays = {**archive, **changes}
        np.savez(folder / "some.npz", **{name: array for name, array in arrays.items() if array is not None})
        return folder / "some.npz"

    return make


def npy(array: np.ndarray, **beside: np.ndarray) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        np.save(folder / "geom_drugs_30.npy", array)
        for name, one in beside.items():
            np.save(folder / f"{name}.npy", one)
        return folder / "geom_drugs_30.npy"

    return make


def tar(content: bytes, cut: int | None = None) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            member = tarfile.TarInfo("water.xyz")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        (folder / "some.tar").write_bytes(packed.getvalue()[:cut])
        return folder / "some.tar"

    return make


def empty_folder(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def folder_for_a_file(folder: Path) -> Path:
    """What cannot be read, for a user who may read everything."""
    (folder / "some.sdf").mkdir()
    return folder / "some.sdf"


def with_columns(rows: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "some.xyz.csv").write_bytes(rows.encode("latin-1"))
        return text("some.xyz", WATER)(folder)

    return make


def row_of_msgpack(content: object) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import msgpack

        return text("some.msgpack", msgpack.packb(content))(folder)

    return make


GEOM = np.array([[0, 6, 0, 0, 0], [0, 1, 0, 0, 1.0]])
# how the file is made, what the sentence must say beside the file's path
FILES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "sdf_empty": (text("some.sdf", ""), "is empty"),
    "sdf_of_blank_lines": (text("some.sdf", "\n\n$$$$\n"), "holds no molecules"),
    "sdf_not_text": (text("some.sdf", bytes(range(256)) * 4), "none of its"),
    "sdf_truncated": (sdf(lambda t: t[: len(t) // 2]), "none of its"),
    "sdf_nan": (sdf(lambda t: "\n".join([*t.split("\n")[:4], "nan".rjust(10) + t.split("\n")[4][10:],
                                          *t.split("\n")[5:]])), "none of its"),
    "sdf_2d_drawing": (text("some.sdf", "drawing\n     RDKit          2D\n\n  2  1  0  0  0  0  0  0  0  0999 V2000\n"
        "    0.0000    0.0000    0.0000 C   0  0\n    1.5000    0.0000    0.0000 C   0  0\n  1  2  1  0\nM  END\n"),
        "2-D"),
    "sdf_all_at_one_point": (text("some.sdf", "point\n\n\n  2  0  0  0  0  0  0  0  0  0999 V2000\n"
        + 2 * "    0.0000    0.0000    0.0000 C   0  0\n" + "M  END\n$$$$\n"), "at one point"),
    "sdf_folder": (folder_for_a_file, "some.sdf"),
    "sdf_gz_not_gzip": (text("some.sdf.gz", WATER), "not a whole gzip file"),
    "sdf_gz_cut": (text("some.xyz.gz", gzip.compress(WATER.encode() * 9)[:-9]), "not a whole gzip file"),
    "xyz_empty": (text("some.xyz", ""), "is empty"),
    "xyz_no_count": (text("some.xyz", "water\nO 0 0 0\n"), "should be a number of atoms"),
    "xyz_short": (text("some.xyz", WATER[:-20]), "of its 3 atoms"),
    "xyz_count_beyond": (text("some.xyz", "99999999999999999999\n" + WATER[2:]), "should be a number of atoms"),
    "xyz_count_superscript": (text("some.xyz", "³\n" + WATER[2:]), "should be a number of atoms"),
    "xyz_negative_count": (text("some.xyz", "-3\n" + WATER[2:]), "should be a number of atoms"),
    "xyz_zero_atoms": (text("some.xyz", "0\nnothing\n"), "non-empty"),
    "xyz_nan": (text("some.xyz", WATER.replace("0.96", "nan")), "not a finite number"),
    "xyz_overflow": (text("some.xyz", WATER.replace("0.96", "1e999")), "not a finite number"),
    "xyz_two_coordinates": (text("some.xyz", WATER.replace("0.96 0 0", "0.96 0")), "three coordinates"),
    "xyz_no_element": (text("some.xyz", WATER.replace("O ", "Qq ")), "'Qq' is not an element"),
    "xyz_element_119": (text("some.xyz", WATER.replace("O ", "119 ")), "outside 1..118"),
    "xyz_element_superscript": (text("some.xyz", WATER.replace("O ", "² ")), "is not an element"),
    "xyz_periodic": (text("some.xyz", WATER.replace("water", 'Lattice="9 0 0 0 9 0 0 0 9" name=w')), "periodic"),
    "xyz_columns_unknown": (text("some.xyz", WATER.replace("water", "Properties=m:R:1:pos:R:3")), "names no species"),
    "xyz_utf16": (text("some.xyz", WATER.encode("utf-16")), "none of its"),
    "csv_fewer_rows": (with_columns("name,logp\n"), "it has fewer"),
    "csv_more_rows": (with_columns("name,logp\nwater,1\nwine,2\n"), "it has more"),
    "csv_of_others": (with_columns("name,logp\nwine,2\n"), "wine"),
    "npz_no_archive": (text("some.npz", "nothing"), "cannot be read as an npz archive"),
    "npz_cut": (lambda p: (npz()(p), text("some.npz", npz()(p).read_bytes()[:300])(p))[1], "cannot be read as an npz"),
    "npz_empty_archive": (npz(atomic_numbers=None, positions=None, num_atoms=None), "'atomic_numbers'"),
    "npz_no_positions": (npz(positions=None), "'positions'"),
    "npz_flat_positions": (npz(positions=np.zeros((4, 24))), "'positions' of 3 dimensions"),
    "npz_two_coordinates": (npz(positions=np.zeros((4, 8, 2))), "do not agree in shape"),
    "npz_of_objects": (npz(atomic_numbers=np.array([[None] * 8] * 4)), "plain arrays"),
    "npz_of_words": (npz(positions=np.full((4, 8, 3), "far")), "has positions of type"),
    "npz_complex": (npz(positions=np.full((4, 8, 3), 1j)), "has positions of type"),
    "npz_elements_as_fractions": (npz(atomic_numbers=np.full((4, 8), 1.5)), "type float64: save them as whole"),
    "npz_counts_as_words": (npz(num_atoms=np.array(["a"] * 4)), "has num_atoms of type"),
    "npz_counts_beyond": (npz(num_atoms=np.array([99] * 4)), "num_atoms 99"),
    "npz_all_nan": (npz(positions=np.full((4, 8, 3), np.nan)), "none of its 4 records"),
    "npy_no_array": (text("some.npy", b"\x93NUMPY nothing"), "cannot be read as an array"),
    "npy_other_layout": (npy(np.zeros((3, 4))), "rows of conformer"),
    "npy_of_words": (npy(np.full((3, 5), "far")), "array of numbers"),
    "npy_other_counts": (npy(GEOM, geom_drugs_n_30=np.array([1])), "they differ"),
    "npy_damaged_counts": (npy(GEOM, geom_drugs_n_30=np.array(["two"])), "geom_drugs_n_30.npy"),
    "msgpack_other": (row_of_msgpack([1, 2]), "is not laid out as GEOM's"),
    "msgpack_cut": (lambda p: text("some.msgpack", b"\x81\xa2CC")(p), "ends in the middle"),
    "msgpack_no_rows": (row_of_msgpack({"CC": {"conformers": [{"xyz": "none"}]}}), "no rows of Z"),
    "msgpack_element_of_text": (row_of_msgpack({7: {"conformers": [{"xyz": [[1.0, 0, 0, 0]]}]}}), "GEOM"),
    "tar_cut": (tar(WATER.encode() * 300, cut=900), "not a whole tar archive"),
    "tar_no_tar": (text("some.tar", "nothing"), "not a whole tar archive"),
    "tar_of_nothing": (tar(b""), "holds no molecules"),
    "pickle": (text("some.pickle", b"\x80\x04N."), "holds pickles"),
    "folder_of_nothing": (empty_folder, "holds neither"),
    "suffix": (text("some.mol3", WATER), "must end in"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "fault"), FILES.values(), ids=FILES.keys())
def test_bad_molecule_file(
    make: Callable[[Path], Path], fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By `score`, which reads molecule by molecule, and by `split`, which reads them in blocks as training does."""
    path = make(tmp_path)
    before = listing(tmp_path)
    said = refusal(["score", str(path), "--json", str(tmp_path / "out.json")], capsys)
    assert str(path.parent) in said
    assert fault in said
    assert str(path.parent) in refusal(["split", str(path), "-o", str(tmp_path / "split.json")], capsys)
    assert listing(tmp_path) == before


@pytest.mark.parametrize(("factor", "unit"), [(0.1, "nanometres"), (100, "picometres")])
def test_positions_in_another_unit(
    factor: float, unit: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Data to train on must be in angstrom; a bad model's molecules may be of any size, and are scored."""
    molecules = [replace(one, positions=factor * one.positions) for one in random_molecules(12)]
    file = write_npz(tmp_path / "some.npz", molecules)
    said = refusal(["split", str(file), "-o", str(tmp_path / "split.json")], capsys)
    assert str(file) in said
    assert f"{unit} perhaps: give angstrom" in said
    assert listing(tmp_path) == ["some.npz"]
    main(["score", str(file)])
    main(["split", str(write_npz(tmp_path / "right.npz", random_molecules(12))), "-o", str(tmp_path / "split.json")])


def test_what_a_model_is_not_made_for(molecule_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An element, a number of atoms, an empty part."""
    silane = Molecule([14, 1, 1, 1, 1], np.random.default_rng(0).normal(size=(5, 3)))
    large = Molecule([6] * 13, np.random.default_rng(0).normal(size=(13, 3)) * 4)
    for molecule, words in ((silane, "Si"), (large, "12 atoms")):
        write_sdf([molecule], tmp_path / "one.sdf")
        said = refusal(["validate", str(molecule_run), "--data", str(tmp_path / "one.sdf")], capsys)
        assert str(tmp_path / "one.sdf") in said
        assert words in said
