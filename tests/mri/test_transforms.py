import numpy as np
import pytest
import torch

from medmol_diffusion.mri import transforms
from medmol_diffusion.mri.transforms import Augmentation, Grid
from medmol_diffusion.mri.volume import Volume


def test_normalise_maps_the_percentiles_to_the_ends_and_ignores_scale() -> None:
    data = np.random.default_rng(0).gamma(2.0, 50.0, size=(12, 12, 12))
    low, high = transforms.window(data, lower=1, upper=99)
    assert (low, high) == tuple(np.percentile(data, [1, 99]))
    x = transforms.normalise(data, low, high)
    np.testing.assert_allclose(x, np.clip(2 * (data - low) / (high - low) - 1, -1, 1), atol=1e-6)
    brighter = 3 * data + 40
    scaled = transforms.normalise(brighter, *transforms.window(brighter, lower=1, upper=99))
    np.testing.assert_allclose(scaled, x, atol=1e-5)
    lone = np.zeros((10, 10, 10))
    lone[0, 0, 0] = 5.0
    np.testing.assert_array_equal(transforms.normalise(lone, *transforms.window(lone)), 2 * (lone / 5) - 1)


@pytest.mark.parametrize("levels", [2, 10, 256, 1000])
def test_quantise_rounds_to_the_nearest_bin_centre_and_stays_there(levels: int) -> None:
    centres = 2 * np.arange(levels) / (levels - 1) - 1
    x = np.random.default_rng(0).uniform(-1.2, 1.2, size=(6, 6, 6))
    q = transforms.quantise(x, levels)
    nearest = centres[np.abs(np.clip(x, -1, 1)[..., None] - centres).argmin(-1)]
    np.testing.assert_allclose(q, nearest, atol=1e-7)
    np.testing.assert_array_equal(transforms.quantise(q, levels), q)
    np.testing.assert_array_equal(
        transforms.to_bins(transforms.from_bins(np.arange(levels), levels), levels), np.arange(levels)
    )


def test_foreground_is_the_body_with_its_cavities() -> None:
    x, y, z = np.meshgrid(*[np.arange(-12, 12)] * 3, indexing="ij")
    r = np.sqrt(x**2 + y**2 + z**2)
    rng = np.random.default_rng(0)
    data = np.hypot(100.0 * ((r < 9) & (r > 3)) + rng.normal(0, 3, r.shape), rng.normal(0, 3, r.shape))
    mask = transforms.foreground_mask(data)
    assert mask[r < 8.5].all()
    assert not mask[r > 10.5].any()


def test_augmentation_replays_for_the_same_seed_epoch_and_scan_only() -> None:
    generator = torch.Generator().manual_seed(0)
    data = torch.randint(0, 256, (1, 8, 8, 8), generator=generator) * (2 / 255) - 1
    mask = torch.ones_like(data, dtype=torch.bool)
    augment = Augmentation(flip=(0, 2), shift=2, bend=0.3, seed=5)
    before = data.clone()
    first, again = augment(data, mask, 256, 3, 7), augment(data, mask, 256, 3, 7)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert torch.equal(data, before)
    others = [augment(data, mask, 256, 4, 7)[0], augment(data, mask, 256, 3, 8)[0]]
    others.append(Augmentation((0, 2), 2, 0.3, seed=6)(data, mask, 256, 3, 7)[0])
    assert all(not torch.equal(first[0], other) for other in others)
    bins = (first[0].double() + 1) / 2 * 255
    torch.testing.assert_close(bins, bins.round(), rtol=0, atol=1e-4)


def test_shift_moves_data_with_its_mask_and_fills_with_padding() -> None:
    data = torch.arange(125.0).reshape(1, 5, 5, 5)
    mask = torch.ones_like(data, dtype=torch.bool)
    for seed in range(10):
        moved, kept = transforms.shift(data, mask, 2, torch.Generator().manual_seed(seed))
        assert torch.all(moved[~kept] == -1)
        assert torch.equal(moved[kept].sort().values, moved[kept])  # what is kept keeps its order
        assert kept.sum() == len(set(moved[kept].tolist()))
        assert kept.sum() >= 27


def test_prepared_scan_counts_its_own_voxels_and_goes_back() -> None:
    generator = np.random.default_rng(0)
    affine = np.diag([-1.0, 1.0, 2.0, 1.0])
    volume = Volume(generator.uniform(size=(9, 12, 7)), affine)
    prepared = Grid((16, 10, 8)).prepare(volume)
    assert prepared.cropped
    assert prepared.mask.sum() == 9 * 10 * 7
    assert (prepared.volume.data[~prepared.mask] == -1).all()
    whole = Grid((16, 13, 8)).prepare(volume)
    assert not whole.cropped
    assert whole.mask.sum() == volume.data.size
    assert whole.volume.orientation == "RAS"
    back = whole.volume.resample(like=volume, order=0)
    limits = transforms.window(volume.data)
    np.testing.assert_array_equal(back.data, transforms.quantise(transforms.normalise(volume.data, *limits)))
    inside = (volume.data > limits[0]) & (volume.data < limits[1])  # the rest was clipped
    own = whole.intensities(back.data)
    np.testing.assert_allclose(own[inside], volume.data[inside], rtol=0, atol=(limits[1] - limits[0]) / 255)
    # 2 mm slices at 1 mm are twice as many; the mask counts voxels of the common grid.
    assert Grid((16, 16, 16), spacing=1.0).prepare(volume).mask.sum() == 9 * 12 * 14


def test_the_upper_percentile_of_a_grid_decides_what_is_clipped() -> None:
    volume = Volume(np.linspace(0, 1, 8**3).reshape(8, 8, 8), np.eye(4))
    usual, whole = Grid((8, 8, 8)), Grid((8, 8, 8), upper=100)
    assert usual.prepare(volume).window == transforms.window(volume.data, 0.5, 99.5)
    assert (usual.prepare(volume).volume.data == 1).sum() > 2
    assert (whole.prepare(volume).volume.data == 1).sum() <= 2  # the brightest bin alone
    assert whole.prepare(volume).window[1] == 1
