"""What holds of any scan, any molecule and any schedule, and what is refused of all others: drawn by hypothesis, the
same examples every time."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medmol_diffusion.core import Cosine as CosineSchedule
from medmol_diffusion.core import LinearGamma, Polynomial, Schedule, Sigmoid, alpha, sigma
from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import Molecule, MoleculeBatch, read_molecules, write_sdf, write_xyz
from medmol_diffusion.mri import Volume
from medmol_diffusion.mri.bids import subject_of

few = settings(max_examples=20, deadline=None, derandomize=True, database=None)
ORIENTATIONS = ("RAS", "LPS", "SPL", "AIR", "PRI")
unit = st.floats(-1, 1, width=32)


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """A turn of any axis and angle, spacings of 0.2 to 8 mm, axes mirrored or not, and a place."""
    quaternion = np.array([draw(unit) for _ in range(4)]) + np.array([1e-3, 0, 0, 0])
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    turn = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    spacing = [draw(st.floats(0.2, 8)) * draw(st.sampled_from([1, -1])) for _ in range(3)]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * spacing, [draw(st.floats(-300, 300)) for _ in range(3)]
    return affine


@st.composite
def volumes(draw: st.DrawFn) -> Volume:
    """Every voxel has a value of its own, so that none can be mistaken for another."""
    shape = [draw(st.integers(1, 7)) for _ in range(3)]
    data = np.random.default_rng(draw(st.integers(0, 99))).permutation(math.prod(shape)).reshape(shape)
    return Volume(data + 1.0, draw(affines()))


def places(volume: Volume) -> np.ndarray:
    """(voxels, 3): the millimetres of the voxels, in the order of their values."""
    index = np.stack(np.unravel_index(np.argsort(volume.data, axis=None), volume.shape), axis=-1)
    return volume.to_mm(index)


@few
@given(volumes(), st.sampled_from(ORIENTATIONS))
def test_a_turned_scan_has_its_voxels_where_they_were(volume: Volume, codes: str) -> None:
    leaning = np.sort(np.abs(volume.affine[:3, :3]) / volume.spacing, axis=0)
    assume((leaning[2] - leaning[1] > 0.01).all())  # else the nearest axis is either of two
    assume(len(set(np.abs(volume.affine[:3, :3]).argmax(0).tolist())) == 3)
    turned = volume.reorient(codes)
    np.testing.assert_allclose(places(turned), places(volume), atol=1e-9)
    again = turned.reorient(volume.orientation)
    assert (again.data == volume.data).all()
    np.testing.assert_allclose(again.affine, volume.affine, atol=1e-9)


@few
@given(volumes(), st.tuples(*[st.integers(1, 9)] * 3))
def test_a_cropped_or_padded_scan_has_its_voxels_where_they_were(volume: Volume, shape: tuple[int, int, int]) -> None:
    changed = volume.crop_or_pad(shape, value=0)
    assert changed.shape == shape
    own = changed.data[changed.data > 0]
    assert len(own) == math.prod(map(min, shape, volume.shape))
    kept = np.searchsorted(np.sort(volume.data, axis=None), np.sort(own))
    np.testing.assert_allclose(places(changed)[len(places(changed)) - len(own) :], places(volume)[kept], atol=1e-9)


@few
@given(volumes())
def test_a_scan_on_its_own_grid_is_itself_and_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, volume: Volume
) -> None:
    np.testing.assert_allclose(volume.resample(like=volume).data, volume.data, atol=1e-3)
    path = tmp_path_factory.getbasetemp() / "drawn.nii.gz"
    read = Volume.read(volume.write(path), constant=True)
    assert (read.data == volume.data).all()
    np.testing.assert_allclose(read.affine, volume.affine, rtol=1e-6, atol=1e-4)  # the header's floats


@few
@given(
    arrays.arrays(np.float64, st.tuples(*[st.integers(0, 3)] * 3) | st.just((4,)), elements=st.floats(width=64)),
    arrays.arrays(np.float64, (4, 4), elements=st.floats(-1e3, 1e3) | st.sampled_from([np.nan, np.inf, 0.0])),
)
def test_an_affine_is_refused_or_says_where_every_voxel_is(data: np.ndarray, affine: np.ndarray) -> None:
    try:
        volume = Volume(np.nan_to_num(data, posinf=0, neginf=0).clip(-1e30, 1e30), affine)
    except InputError:
        return
    assert sorted(volume.orientation.translate(str.maketrans("LPI", "RAS"))) == sorted("RAS")
    assert np.isfinite(volume.to_mm([[0, 0, 0], [1, 1, 1]])).all()


@few
@given(st.text(max_size=40))
def test_every_name_has_a_subject(name: str) -> None:
    assert subject_of(f"folder/{name.replace('/', '_')}_T1w.nii.gz")


line = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=12)
word = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
"""One line of letters of any script; any text at all."""


@st.composite
def molecules(draw: st.DrawFn, text: st.SearchStrategy[str] = line) -> Molecule:
    """Elements to fermium at places to 1e-4 angstrom, none at that of another, any bonds, charges, name and fields."""
    size = draw(st.integers(1, 9))
    numbers = draw(st.lists(st.integers(1, 100), min_size=size, max_size=size))
    grid = draw(arrays.arrays(np.int64, (size, 3), elements=st.integers(-400_000, 400_000)))
    grid[:, 2] = 10_000 * np.arange(size) + grid[0, 2]  # RDKit reads no chirality off a bond of length zero
    pairs = [(i, j) for i in range(size) for j in range(i + 1, size)]
    bonds = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=6)) if pairs else []
    orders = [(i, j, draw(st.integers(1, 3))) for i, j in sorted(bonds)]
    charges = draw(st.lists(st.integers(-2, 1), min_size=size, max_size=size))
    fields: dict[str, float | str] = {"logp": draw(st.floats(-1e6, 1e6)), "note": draw(text)}
    return Molecule(numbers, grid / 1e4, orders, charges, draw(text), fields)


@few
@given(st.lists(molecules(), min_size=1, max_size=4))
def test_molecules_are_read_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[Molecule]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    for write, name in ((write_sdf, "drawn.sdf"), (write_xyz, "drawn.xyz")):
        write(drawn, folder / name)
        read, bad = read_molecules(folder / name)
        assert not bad
        for one, other in zip(read, drawn, strict=True):
            assert (one.atomic_numbers == other.atomic_numbers).all()
            np.testing.assert_allclose(one.positions, other.positions, atol=1e-6)
            assert one.properties["logp"] == other.properties["logp"]
            if name == "drawn.sdf":
                assert one.name == other.name
                assert (one.formal_charges == other.formal_charges).all()
                assert one.bonds is not None
                assert sorted(one.bonds.tolist()) == sorted(other.bonds.tolist())


@few
@given(st.lists(molecules(word), min_size=1, max_size=4))
def test_no_text_in_a_molecule_makes_another_one(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[Molecule]
) -> None:
    """Names and fields with line ends, marks of fields and ends of records: as many molecules are read as written."""
    folder = tmp_path_factory.getbasetemp()
    hostile = [
        Molecule(one.atomic_numbers, one.positions, name=text, properties={"a\n$$$$\n>  <b": text, "note": text})
        for one in drawn
        for text in (f"$$$$\n{one.name}", f"> <x>\n\n$$$$\n{one.name}", f"x\r\n$$$$\r\n{one.name}")
    ]
    for write, name in ((write_sdf, "hostile.sdf"), (write_xyz, "hostile.xyz")):
        write(hostile, folder / name)
        read, bad = read_molecules(folder / name)
        assert len(read) + len(bad) == len(hostile)
        assert not bad


@few
@given(st.lists(molecules(), min_size=1, max_size=4))
def test_a_batch_gives_its_molecules_back(drawn: list[Molecule]) -> None:
    for one, other in zip(MoleculeBatch.collate(drawn).unbatch(), drawn, strict=True):
        assert (one.atomic_numbers == other.atomic_numbers).all()
        assert (one.positions == other.positions.astype(np.float32)).all()
        assert (one.formal_charges == other.formal_charges).all()
        assert one.bonds is not None
        assert sorted(one.bonds.tolist()) == sorted(other.bonds.tolist())


def test_an_ion_that_rdkit_cannot_write_is_refused_by_name(tmp_path: Path) -> None:
    """Found by drawn molecules: RDKit looks up the element of as many electrons, and H 2+ has none."""
    ion = Molecule([1, 2], [[0, 0, 0], [0, 0, 2]], [[0, 1, 3]], [2, 1], name="odd")
    with pytest.raises(InputError, match="'odd'"):
        write_sdf([ion], tmp_path / "odd.sdf")
    assert not list(tmp_path.iterdir())


odd = st.integers(-2, 130)


@few
@given(
    arrays.arrays(np.int64, arrays.array_shapes(min_dims=1, max_dims=2, max_side=4), elements=odd),
    arrays.arrays(np.float64, arrays.array_shapes(min_dims=1, max_dims=3, max_side=4), elements=st.floats(width=64)),
    st.none() | st.lists(st.tuples(odd, odd, odd), max_size=3),
    st.none() | st.lists(st.integers(-200, 200), max_size=4),
)
def test_a_molecule_is_sound_or_refused(numbers: Any, positions: Any, bonds: Any, charges: Any) -> None:
    try:
        made = Molecule(numbers, positions, bonds, charges)
    except InputError:
        return
    assert made.positions.shape == (made.num_atoms, 3)
    assert np.isfinite(made.positions).all()
    assert ((made.atomic_numbers >= 1) & (made.atomic_numbers <= 118)).all()
    assert made.bonds is None or not len(made.bonds) or made.bonds[:, :2].max() < made.num_atoms


@few
@given(
    st.sampled_from([LinearGamma, CosineSchedule, Sigmoid]),
    st.floats(-20, 20) | st.sampled_from([math.nan, math.inf]),
    st.floats(-20, 20) | st.sampled_from([math.nan, -math.inf]),
)
def test_a_schedule_of_any_ends_grows_from_one_to_the_other_or_is_refused(
    kind: Any, gamma_0: float, gamma_1: float
) -> None:
    """gamma(0) and gamma(1) are what was asked, gamma grows between, gamma' > 0, alpha^2 + sigma^2 = 1."""
    if not (math.isfinite(gamma_0) and math.isfinite(gamma_1) and gamma_0 < gamma_1):
        with pytest.raises(ValueError, match="noise grows with t"):
            kind(gamma_0, gamma_1)
        return
    if gamma_1 - gamma_0 > 1e-3:  # else the rounding of gamma is as large as its growth
        is_sound(kind(gamma_0, gamma_1), (gamma_0, gamma_1))


@few
@given(st.floats(0.5, 5), st.integers(2, 200))
def test_polynomials_of_any_power_grow(power: float, steps: int) -> None:
    schedule = Polynomial(power=power, steps=steps)
    is_sound(schedule, (schedule.gamma_0, schedule.gamma_1))


def is_sound(schedule: Schedule, ends: tuple[float, float]) -> None:
    t = torch.linspace(0, 1, 33, dtype=torch.float64)
    gamma = schedule.gamma(t)
    torch.testing.assert_close(gamma[[0, -1]], torch.tensor(ends, dtype=torch.float64), rtol=1e-9, atol=1e-9)
    assert (gamma.diff() > 0).all()
    assert (schedule.derivative(t[1:-1]) > 0).all()
    torch.testing.assert_close(alpha(gamma) ** 2 + sigma(gamma) ** 2, torch.ones_like(t), rtol=1e-12, atol=0)
    torch.testing.assert_close(-torch.log(alpha(gamma) ** 2 / sigma(gamma) ** 2), gamma, rtol=1e-9, atol=1e-9)
