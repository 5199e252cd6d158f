"""Damaged bytes, the same ones every time: whatever a reader makes of them, it raises nothing but InputError."""

import gzip
import io
import tarfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import Molecule, read_molecules, write_sdf, write_xyz
from medmol_diffusion.molecules.flat import FlatMolecules
from medmol_diffusion.molecules.formats.files import chunks
from medmol_diffusion.mri import Volume
from tests.conftest import random_molecules, write_npz

pytestmark = pytest.mark.filterwarnings("ignore")
TRIALS = 40
WORDS = (
    b"nan",
    b"-1",
    b"1e400",
    b"\n",
    b"\0",
    b"9" * 20,
    b"$$$$\n",
    b"\xff\xfe",
    b"inf",
    b"0",
    "³".encode(),
    b"M  END\n",
)
NUMBERS = (0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000, 0x80000000)
"""Among them the float NaN and the smallest integer."""


def damaged(content: bytes, seed: int) -> bytes:
    """Cut short; or in a few places another byte, a bit turned, bytes left out, said twice, or replaced by something
    that readers stumble over."""
    draw, file = np.random.default_rng(seed), bytearray(content)
    kind = draw.integers(7)
    if kind == 0:
        return bytes(file[: draw.integers(len(file) + 1)])
    for _ in range(draw.integers(1, 6)):
        place = int(draw.integers(len(file)))
        if kind == 1:
            file[place] = draw.integers(256)
        elif kind == 2:
            file[place] ^= 1 << int(draw.integers(8))
        elif kind == 3:
            del file[place : place + min(int(draw.integers(1, 20)), len(file) - 1)]
        elif kind == 4:
            file[place:place] = file[place : place + int(draw.integers(1, 40))]
        elif kind == 5:
            file[place : place + 1] = WORDS[int(draw.integers(len(WORDS)))]
        else:
            file[place : place + 4] = NUMBERS[int(draw.integers(len(NUMBERS)))].to_bytes(4, "little")
    return bytes(file)


def molecules(count: int = 4) -> list[Molecule]:
    """With all that a file can say of them."""
    return [
        replace(
            one,
            bonds=np.array([[0, 1, 1], [1, 2, 2]]),
            formal_charges=np.zeros(one.num_atoms, dtype=np.int64),
            properties={"logp": 1.5, "smiles": "CCO"},
        )
        for one in random_molecules(count)
    ]


def sdf(folder: Path) -> bytes:
    write_sdf(molecules(), folder / "sound.sdf")
    return (folder / "sound.sdf").read_bytes()


def sdf_v3000(folder: Path) -> bytes:
    from rdkit import Chem

    return "".join(Chem.MolToV3KMolBlock(one.to_rdkit()) + "$$$$\n" for one in molecules()).encode()


def xyz(folder: Path) -> bytes:
    write_xyz(molecules(), folder / "sound.xyz")
    return (folder / "sound.xyz").read_bytes()


def npz(folder: Path) -> bytes:
    return write_npz(folder / "sound.npz", molecules()).read_bytes()


def npz_packed(folder: Path) -> bytes:
    with np.load(write_npz(folder / "sound.npz", molecules())) as archive:
        np.savez_compressed(folder / "packed.npz", name=np.array(list("abcd")), logp=np.arange(4.0), **archive)
    return (folder / "packed.npz").read_bytes()


def npy(folder: Path) -> bytes:
    np.save(folder / "sound.npy", np.array([[0, 6, 0, 0, 0], [0, 1, 0, 0, 1.1], [1, 8, 0, 0, 0], [1, 1, 1, 0, 0]]))
    return (folder / "sound.npy").read_bytes()


def msgpack(folder: Path) -> bytes:
    import msgpack

    rows = {"xyz": [[6.0, 0, 0, 0], [6.0, 1.5, 0, 0]], "totalenergy": -1.0}
    packed: bytes = msgpack.packb({"CC": {"conformers": [rows], "charge": 0}, "C": {"conformers": [rows]}})
    return packed


def tar(folder: Path) -> bytes:
    """Of a name that leads out, and of links."""
    packed, content = io.BytesIO(), xyz(folder)
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo("../../water.xyz")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
        for name, kind in (("s.xyz", tarfile.SYMTYPE), ("h.xyz", tarfile.LNKTYPE), ("f.xyz", tarfile.FIFOTYPE)):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "/etc/passwd"
            archive.addfile(link)
    return packed.getvalue()


def nifti(kind: type, dtype: type) -> Callable[[Path], bytes]:
    def make(folder: Path) -> bytes:
        data = np.random.default_rng(0).normal(scale=100, size=(5, 6, 4)).astype(dtype)
        nib.save(kind(data, np.diag([1.0, 1.0, 2.0, 1.0])), folder / "sound.nii")
        return (folder / "sound.nii").read_bytes()

    return make


def series(folder: Path) -> bytes:
    from tests.mri.series import write_enhanced

    data = np.random.default_rng(0).integers(0, 100, size=(4, 5, 3))
    return write_enhanced(folder / "sound.dcm", data, [1.0, 1.0, 1.0]).read_bytes()


def packed(make: Callable[[Path], bytes]) -> Callable[[Path], bytes]:
    return lambda folder: gzip.compress(make(folder), mtime=0)


def both_ways(path: Path) -> None:
    """One by one, as they are scored; in blocks, as they are trained on."""
    for read in (read_molecules, lambda path: FlatMolecules.concatenate(chunks(path))):
        with suppress(InputError):
            read(path)


def volume(path: Path) -> None:
    with suppress(InputError):
        Volume.read(path).reorient("LPS")


FORMATS: dict[str, tuple[Callable[[Path], bytes], str, Callable[[Path], None]]] = {
    "sdf": (sdf, "a.sdf", both_ways),
    "sdf_v3000": (sdf_v3000, "a.sdf", both_ways),
    "sdf_gz": (packed(sdf), "a.sdf.gz", both_ways),
    "xyz": (xyz, "a.xyz", both_ways),
    "npz": (npz, "a.npz", both_ways),
    "npz_packed": (npz_packed, "a.npz", both_ways),
    "npy": (npy, "a.npy", both_ways),
    "msgpack": (msgpack, "a.msgpack", both_ways),
    "tar": (tar, "a.tar", both_ways),
    "nifti": (nifti(nib.Nifti1Image, np.float32), "a.nii", volume),
    "nifti_2": (nifti(nib.Nifti2Image, np.int16), "a.nii", volume),
    "nifti_gz": (packed(nifti(nib.Nifti1Image, np.int16)), "a.nii.gz", volume),
    "dicom": (series, "a.dcm", volume),
}


@pytest.mark.parametrize(("make", "name", "read"), FORMATS.values(), ids=FORMATS.keys())
def test_damaged_bytes_bring_a_sentence_or_data(
    make: Callable[[Path], bytes], name: str, read: Callable[[Path], None], tmp_path: Path
) -> None:
    folder = tmp_path / "in" / "side"
    folder.mkdir(parents=True)
    sound, path = make(folder), folder / name
    path.write_bytes(sound)
    read(path)
    before = sorted(tmp_path.rglob("*"))
    for seed in range(TRIALS):
        path.write_bytes(damaged(sound, seed))
        read(path)
    assert sorted(tmp_path.rglob("*")) == before  # and nothing is unpacked anywhere
