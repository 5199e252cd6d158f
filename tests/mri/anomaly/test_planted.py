"""Planted lesions: what was asked for is what the scan has, and nothing else changed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import Volume
from medmol_diffusion.mri.anomaly.lesion_shape import Home, LesionShape, blob, drawn, read_shapes
from medmol_diffusion.mri.anomaly.planted import plant

AFFINE = np.array([[-2.0, 0, 0, 40], [0, 0, 1.5, -30], [0, 2.0, 0, -36], [0, 0, 0, 1]])
"""Voxels of 2 x 2 x 1.5 mm whose axes are left, superior, anterior."""


def ball(shape: tuple[int, int, int], radius: float) -> np.ndarray:
    """Voxels within ``radius`` mm of the middle."""
    axes = [(np.arange(n) - (n - 1) / 2) * width for n, width in zip(shape, (2.0, 2.0, 1.5), strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    return x**2 + y**2 + z**2 < radius**2


SHAPE = (40, 36, 44)
BRAIN = Volume(ball(SHAPE, 30), AFFINE)
WHITE = Volume(ball(SHAPE, 18), AFFINE)


def scan(noise: float = 20.0) -> Volume:
    draw = np.random.default_rng(0).standard_normal(SHAPE)
    return Volume(600.0 * BRAIN.data + 200.0 * WHITE.data + noise * np.abs(draw), AFFINE, {"source": "head"})


@pytest.mark.parametrize("reference", [None, WHITE])
@pytest.mark.parametrize("contrast", [0.4, -0.4])
def test_lesions_lie_where_they_may_and_nothing_else_changes(reference: Volume | None, contrast: float) -> None:
    healthy = scan()
    kept = healthy.data.copy()
    one, again, other = (
        plant(healthy, WHITE, seed, ml=0.8, contrast=contrast, count=2, reference=reference) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(healthy.data, kept)
    np.testing.assert_array_equal(one.scan.data, again.scan.data)
    assert one.lesions == again.lesions
    assert not np.array_equal(one.truth.data, other.truth.data)
    changed = one.scan.data != healthy.data
    assert not changed[WHITE.data == 0].any()
    assert one.truth.data[~changed].max() == 0
    assert changed.sum() < 8 * one.truth.data.sum()
    assert one.truth.same_grid(healthy)
    assert len(one.lesions) == 2
    assert "seed 3" in one.scan.provenance["planted"]
    change = (one.scan.data - healthy.data)[one.truth.data > 0]
    assert np.sign(contrast) * change.mean() > 0


def test_partial_volume_and_contrast_add_up_to_what_was_asked() -> None:
    """The change is c h times the share, whose sum is the volume; h = 400, for the percentiles are 0 and 800."""
    healthy = scan(noise=0.0)
    for ml in (0.5, 4.0):
        made = plant(healthy, BRAIN, 1, ml=ml, contrast=-0.5, fit=1 - 1e-6)
        change = made.scan.data - healthy.data
        assert change.min() == pytest.approx(-0.5 * 400, rel=0.01)
        assert change.sum() * 2 * 2 * 1.5 / 1000 == pytest.approx(-0.5 * 400 * ml, rel=0.03)
        assert made.lesions[0].ml == pytest.approx(ml, rel=0.03)
        assert made.truth.data.sum() * 6 / 1000 == pytest.approx(ml, rel=0.2)
        assert -0.5 <= made.lesions[0].seen < -0.3  # its edge is partial
    sharp, soft = (plant(healthy, BRAIN, 1, ml=4.0, contrast=-0.5, edge=edge, fit=0.99) for edge in (0.0, 3.0))
    partial = [(lambda d: ((d < -1) & (d > -199)).sum())(m.scan.data - healthy.data) for m in (sharp, soft)]
    assert partial[1] > 2 * partial[0]


def test_a_lesion_relative_to_white_matter_has_its_level_wherever_it_lies_and_keeps_the_noise() -> None:
    healthy = scan()
    grey = Volume(BRAIN.data * ~ball(SHAPE, 22), AFFINE)
    level = float(np.median(healthy.data[WHITE.data > 0]))
    low, high = np.percentile(healthy.data, [0.5, 99.5])
    for within in (WHITE, grey):
        made = plant(healthy, within, 2, ml=2.0, contrast=-0.25, reference=WHITE, edge=0.0, fit=0.6)
        inside = made.truth.data > 0
        found = made.scan.data[inside]
        assert np.median(found) == pytest.approx(level - 0.25 * (high - low) / 2, abs=30)
        assert found.std() > 10


def test_what_the_scan_clips_is_said() -> None:
    healthy = scan()
    made = plant(healthy, WHITE, 0, ml=2.0, contrast=1.0, edge=0.0)
    assert made.lesions[0].contrast == 1.0
    assert made.lesions[0].seen < 0.15  # white matter is the brightest there is


def test_shares_are_those_of_boxes_cut_by_boxes() -> None:
    """A box of 6 mm that begins a quarter into a voxel of 2 mm fills 3/4, 1, 1 and 1/4 of four."""
    grid = Volume(np.zeros((8, 8, 8)), np.diag([2.0, 2.0, 2.0, 1.0]))
    affine = np.eye(4)
    affine[:3, 3] = 4 - 1 + 0.5 + 0.5  # the first voxel's face is a quarter into voxel 2, its centre half a mm on
    shape = LesionShape("box", np.ones((6, 6, 6), dtype=bool), affine)
    share = shape.shares(grid, affine)
    one = np.array([0, 0, 0.75, 1, 1, 0.25, 0, 0])
    np.testing.assert_allclose(share, one[:, None, None] * one[:, None] * one, atol=1e-6)
    np.testing.assert_allclose(shape.shares(grid, affine, 1.0).sum(), share.sum(), rtol=0.01)
    affine[:3, 3] = 1000
    assert shape.shares(grid, affine).max() == 0


def test_turning_keeps_the_volume_and_the_centre() -> None:
    shape = LesionShape("rod", np.ones((12, 4, 4), dtype=bool), np.diag([1.0, 1.0, 1.0, 1.0]))
    healthy = scan()
    for seed in range(3):
        affine = shape.turned(np.random.default_rng(seed), np.array([1.0, 2.0, 3.0]))
        share = shape.shares(healthy, affine)
        assert share.sum() * 6 == pytest.approx(12 * 4 * 4, rel=0.05)
        centre = (healthy.to_mm(np.argwhere(share > 0)) * share[share > 0, None]).sum(0) / share.sum()
        np.testing.assert_allclose(centre, [1, 2, 3], atol=0.15)


@pytest.mark.parametrize("ml", [0.05, 1.0, 30.0])
def test_blobs_are_of_one_piece_have_their_volume_and_no_two_are_alike(ml: float) -> None:
    one, other = (blob(ml, np.random.default_rng(seed)) for seed in (0, 1))
    assert one.ml == pytest.approx(ml)
    assert not np.array_equal(one.mask, other.mask)
    x, y, z = (np.argwhere(one.mask).std(0) * np.diag(one.affine)[:3]).tolist()
    radius = (3000 * ml / (4 * np.pi)) ** (1 / 3)
    assert min(x, y, z) > 0.25 * radius  # of a ball sqrt(1/5) = 0.45
    assert max(x, y, z) < 0.9 * radius


def masks(folder: Path) -> Path:
    """Two patients: one of a block of 27 voxels, a diagonal pair and a far block of 64; one healthy."""
    data = np.zeros((30, 30, 30))
    data[4:7, 4:7, 4:7] = data[10, 10, 10] = data[11, 11, 11] = 1
    data[20:24, 20:24, 20:24] = 2
    Volume(data, np.diag([2.0, 2.0, 2.0, 1.0])).write(folder / "patient01_lesions-expert.nii.gz", np.uint8)
    Volume(0 * data, np.eye(4)).write(folder / "patient02_lesions-expert.nii.gz", np.uint8)
    return folder


def test_components_of_masks_are_shapes(tmp_path: Path) -> None:
    shapes = read_shapes(masks(tmp_path), least=0.01)
    assert sorted(round(shape.ml, 3) for shape in shapes) == [0.016, 0.216, 0.512]
    assert {shape.name.split()[0] for shape in shapes} == {"patient01"}
    assert len(read_shapes(tmp_path, least=0.1)) == 2
    made = plant(scan(), BRAIN, 0, ml=1.5, contrast=-0.5, shapes=read_shapes(tmp_path, 0.1), fit=0.95)
    assert made.lesions[0].shape.startswith("patient01 lesion")
    assert made.lesions[0].ml == pytest.approx(1.5, rel=0.05)
    with pytest.raises(InputError, match="no mask with a lesion of 5"):
        read_shapes(tmp_path, least=5.0)


def test_a_lesion_of_a_volume_has_the_form_of_one_about_as_large() -> None:
    shapes = [LesionShape(f"{n}", np.ones((n, n, n), dtype=bool), np.eye(4)) for n in range(2, 30)]
    names = {drawn(shapes, 8.0, np.random.default_rng(seed)).name for seed in range(30)}
    assert names == {"18", "19", "20", "21", "22"}
    assert drawn(shapes, 8.0, np.random.default_rng(0)).ml == pytest.approx(8.0)
    assert len({drawn(shapes, None, np.random.default_rng(seed)).name for seed in range(30)}) > 10


def test_a_whole_mask_lies_in_the_brain_where_it_lay_at_home(tmp_path: Path) -> None:
    """At home the brain is a ball about (29, 29, 29); here one of 30 mm, whose voxels have a spread of 30 / sqrt 5."""
    home = Home((29.0, 29.0, 29.0), (26.8, 13.4, 26.8))
    (shape,) = read_shapes(masks(tmp_path), whole=True, home=home)
    made = plant(scan(), BRAIN, 0, contrast=-0.5, shapes=[shape], fit=0.5, edge=0.0)
    own = Home.of(BRAIN.data > 0, AFFINE)
    affine = shape.at_home(scan(), BRAIN.data > 0)
    block = affine[:3, :3] @ [21.5, 21.5, 21.5] + affine[:3, 3]
    expected = np.array(own.centre) + (43 - 29) * np.array([0.5, 1.0, 0.5])
    np.testing.assert_allclose(block, expected, rtol=0.02)
    i, j, k = np.rint(np.linalg.inv(AFFINE) @ [*expected, 1]).astype(int)[:3]
    assert made.truth.data[i, j, k] == 1
    with pytest.raises(InputError, match="keeps its volume"):
        plant(scan(), BRAIN, 0, ml=1.0, shapes=[shape])


def test_what_does_not_fit_is_refused() -> None:
    healthy = scan()
    with pytest.raises(InputError, match=r"does not fit: at best .* give a smaller volume"):
        plant(healthy, WHITE, 0, ml=60.0)
    with pytest.raises(InputError, match="marks no voxel"):
        plant(healthy, replace(WHITE, data=0 * WHITE.data), 0)
    with pytest.raises(InputError, match="fills no voxel"):
        plant(healthy, WHITE, 0, ml=0.001)
    for wrong in ({"count": 0}, {"contrast": 0.0}, {"ml": -1.0}):
        with pytest.raises(InputError, match="plant one lesion or more"):
            plant(healthy, WHITE, 0, **wrong)  # type: ignore[arg-type]
