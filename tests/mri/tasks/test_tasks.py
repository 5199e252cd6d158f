"""The tasks on scans: each guess against an oracle, each answer where it belongs in space."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from medmol_diffusion.core import Streams
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import HaarStage, Inpainting, SuperResolution, Translation, UNet3D, Volume, VolumeDiffusion
from medmol_diffusion.mri.batch import VolumeBatch
from medmol_diffusion.mri.generation import centred_box
from medmol_diffusion.mri.known import box_round
from medmol_diffusion.mri.tasks.comparison import HEAD, MEASURES, WHOLE, Comparison, compare, measured
from medmol_diffusion.mri.tasks.harmonic import harmonic_fill
from medmol_diffusion.mri.tasks.task import Task
from medmol_diffusion.mri.transforms import quantise
from medmol_diffusion.mri.volume_set import Example, collate

SHAPE = (16, 16, 16)
OBLIQUE = np.array([[1.73205, -1.0, 0.0, -12.0], [1.0, 1.73205, 0.0, 5.0], [0.0, 0.0, 2.0, 7.0], [0.0, 0.0, 0.0, 1.0]])
"""Voxels of 2 mm, turned by 30 degrees about z."""


class Scans(torch.utils.data.Dataset):
    """A data module in memory: smooth scans, each with a source image of which it is a linear map and white noise."""

    batch_size = 2
    slope, offset, noise = -0.5, 0.2, 0.05

    def __init__(self, count: int = 8, extent: list[int] = [16, 14, 16]) -> None:  # noqa: B006
        draw = torch.Generator().manual_seed(0)
        coarse = torch.randn(count, 1, 5, 5, 5, generator=draw)
        source = torch.nn.functional.interpolate(coarse, SHAPE, mode="trilinear", align_corners=True) * 0.4
        source = (source + 0.02 * torch.randn(source.shape, generator=draw)).clamp(-0.9, 0.9)
        self.mask = centred_box(extent, SHAPE)[None]
        target = self.offset + self.slope * source + self.noise * torch.randn(source.shape, generator=draw)
        target, source = (torch.from_numpy(quantise(image.numpy())) for image in (target, source))
        target, source = (torch.where(self.mask, image, -1.0) for image in (target, source))
        self.subjects = [f"s{i // 2}" for i in range(count)]
        self.rows = [Example(target[i], self.mask, i, f"scan {i}", {}, {"T1w": source[i]}) for i in range(count)]
        self.train = self.test = self

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> Example:
        return self.rows[place]

    def batch(self) -> VolumeBatch:
        return collate(self.rows)

    def evaluation_dataloader(self, split: str, rows: np.ndarray) -> list[VolumeBatch]:
        return [collate([self.rows[i] for i in part]) for part in np.array_split(rows, len(rows) // self.batch_size)]


def made(task: Task, scans: Scans | None = None, levels: int = 1) -> VolumeDiffusion:
    """A model whose network outputs zero: the Gaussian of the spectrum round the guess."""
    channels = 2 * 8**levels
    network = UNet3D(channels + 8**levels * task.channels, channels, [8], 1)
    model = VolumeDiffusion(list(SHAPE), HaarStage(levels), network=network, task=task).eval()
    model.prepare(Scans() if scans is None else scans)
    return model


TASKS = {
    "super-resolution": lambda: SuperResolution(2),
    "inpainting": lambda: Inpainting(0.3, 0.6),
    "translation": lambda: Translation("T1w"),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_network_of_zero_and_no_spread_is_the_baseline(name: str) -> None:
    model = made(TASKS[name]())
    model.data_mean.zero_()
    model.first_stage.spectrum.std.fill_(1e-4)
    found = compare(model, Scans(), "test", draws=1, steps=2)
    task = model.task
    assert task is not None
    np.testing.assert_allclose(found.figures["model"], found.figures[task.guess_name], rtol=2e-3)
    assert np.isfinite(found.figures["model"]).all()


@pytest.mark.parametrize("name", TASKS)
def test_answers_depend_on_seed_and_place_and_not_on_the_batch(name: str) -> None:
    model, scans = made(TASKS[name]()), Scans(4)
    two = compare(model, scans, "test", draws=2, steps=1, seed=4)
    scans.batch_size = 4
    four = compare(model, scans, "test", draws=2, steps=1, seed=4)
    for answer in two.figures:
        np.testing.assert_allclose(two.figures[answer], four.figures[answer], rtol=1e-4)
    other = compare(model, scans, "test", draws=2, steps=1, seed=5)
    assert (other.figures["model, one draw"] != two.figures["model, one draw"]).all()


@pytest.mark.parametrize("name", TASKS)
def test_the_bound_does_not_depend_on_the_batch(name: str) -> None:
    model, batch = made(TASKS[name]()), Scans().batch()
    together = model.elbo(batch, draws=2, seed=3)
    alone = model.elbo(batch.take(torch.tensor([5])), draws=2, seed=3)
    torch.testing.assert_close(alone.total[0], together.total[5], rtol=1e-5, atol=1e-3)
    assert alone.dim[0] == together.dim[5]


@pytest.mark.parametrize("name", TASKS)
def test_a_task_trains(name: str) -> None:
    torch.manual_seed(0)
    model, batch = made(TASKS[name]()).train(), Scans(4).batch()
    optimiser = torch.optim.Adam(model.network.parameters(), lr=3e-3)
    losses = []
    for _ in range(8):
        loss = model.loss(batch, torch.Generator().manual_seed(0)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_the_guess_of_translation_is_the_conditional_mean_and_the_bound_its_entropy() -> None:
    """target = a + b source + N(0, s^2): the fitted map is a and b, a network of zero is the exact denoiser, and the
    bound is log2(s sqrt(2 pi e) / bin) bits a voxel; the error of one draw is 2 s^2, that of the mean of n draws
    (1 + 1/n) s^2."""
    scans = Scans(16)
    model = made(Translation("T1w"), scans)
    task = model.task
    assert isinstance(task, Translation)
    assert task.coefficients.tolist() == pytest.approx([scans.offset, scans.slope], abs=0.005)
    model.data_mean.zero_()
    model.first_stage.spectrum.std.fill_(scans.noise)
    bits, error = model.elbo(scans.batch(), draws=16).summary()["bits_per_dim"]
    exact = math.log2(scans.noise * math.sqrt(2 * math.pi * math.e) * 255 / 2)
    assert error < 0.04
    assert bits == pytest.approx(exact, abs=0.02 + 3 * error)
    assert model.baseline(scans.batch()).mean().item() / (3584 * math.log(2)) == pytest.approx(exact, abs=0.02)
    found = compare(model, scans, "test", draws=4, steps=50, limit=4)
    psnr = {name: figures[:, 0].mean() for name, figures in found.figures.items()}
    floor = 10 * math.log10(4 / scans.noise**2)
    assert psnr["linear map"] == pytest.approx(floor, abs=0.1)
    assert psnr["model, one draw"] == pytest.approx(floor - 10 * math.log10(2), abs=0.3)
    assert psnr["model, mean of 4 draws"] == pytest.approx(floor - 10 * math.log10(1.25), abs=0.2)


def test_figures_of_the_head_do_not_count_the_air_round_it() -> None:
    """An error of 0.2 in the head alone has 10 log10(voxels / voxels of the head) dB less there than in the whole, and
    one in the air alone none; a region in the air has no figure of the head."""
    data = torch.full((1, 1, 24, 24, 24), -1.0)
    data[:, :, 5:19, 5:19, 5:19] = 0.4
    mask = torch.ones_like(data, dtype=torch.bool)
    batch, head = VolumeBatch(data, mask, torch.zeros(1), ["scan"]), data > 0
    inner, outer = (measured(data + 0.2 * where, batch, mask, head)[0] for where in (head, ~head))
    psnr, psnr_head = (list(MEASURES).index(name) for name in ("psnr", "head_psnr"))
    assert inner[psnr_head] == pytest.approx(10 * math.log10(4 / 0.04), abs=1e-3)
    assert inner[psnr] - inner[psnr_head] == pytest.approx(10 * math.log10(24**3 / 14**3), abs=1e-3)
    assert math.isinf(outer[psnr_head])
    assert np.isfinite(outer[: len(WHOLE)]).all()
    assert inner[len(WHOLE) + 1] < inner[1]  # SSIM
    air = measured(data + 0.2, batch, mask & (torch.arange(24) < 4), head)[0]
    assert np.isnan(air[len(WHOLE) :]).all()
    found = Comparison(1, ["a", "a", "b"], {"model": np.stack([inner, air, inner]), "plain": np.stack([air] * 3)})
    np.testing.assert_allclose(found.by_subject("model")[0, psnr_head], inner[psnr_head])
    assert found.rows(HEAD)[1][1:] == ("-", "-", "-")


def test_the_linear_map_is_least_squares_of_several_sources() -> None:
    draw = np.random.default_rng(0)
    first, second = draw.uniform(-1, 1, (2, 4, 4, 4, 4))
    target = 0.1 + 0.3 * first - 0.5 * second + 0.05 * draw.standard_normal(first.shape)
    task = Translation(["a", "b"])
    mask = centred_box([4, 3, 4], (4, 4, 4))[None, None]
    tensors = [torch.from_numpy(image).float()[:, None] for image in (target, first, second)]
    for i in range(4):
        data, a, b = (tensor[i : i + 1] for tensor in tensors)
        task.fit(
            VolumeBatch(data, mask, torch.tensor([i]), [""], images={"a": a, "b": b}), Streams(0, torch.tensor([i]))
        )
    task.fitted()
    inside = mask[0, 0].numpy()
    columns = np.stack([np.ones(inside.sum() * 4), first[:, inside].ravel(), second[:, inside].ravel()], 1)
    exact, *_ = np.linalg.lstsq(columns, target[:, inside].ravel(), rcond=None)
    np.testing.assert_allclose(task.coefficients.numpy(), exact, atol=1e-5)


def test_a_source_that_is_not_there_is_named() -> None:
    batch = Scans().batch()
    with pytest.raises(InputError, match=r"translates T2w, and data\.images has T1w"):
        Translation("T2w").given(batch, Streams(0, batch.index))
    with pytest.raises(InputError, match="T2w is missing"):
        Translation(["T1w", "T2w"]).named(Volume(np.zeros((2, 2, 2)), np.eye(4)))


@pytest.mark.parametrize("factor", [2, [1, 1, 5], [3, 2, 1]])
@pytest.mark.parametrize("order", [1, 3])
def test_training_degrades_and_interpolates_as_a_coarse_scan_of_a_user_is(factor: int | list[int], order: int) -> None:
    """Means of blocks by hand, then Volume.resample, against the one matrix an axis of the task."""
    task = SuperResolution(factor)
    size = tuple(2 * 3 * f for f in task.factor)
    fine = np.random.default_rng(0).uniform(-0.5, 0.5, size).astype(np.float32)
    coarse = fine
    for axis, f in enumerate(task.factor):
        coarse = np.moveaxis(
            np.moveaxis(coarse, axis, -1).reshape(*np.delete(coarse.shape, axis), -1, f).mean(-1), -1, axis
        )
    affine = np.diag([*(float(f) for f in task.factor), 1.0])
    expected = Volume(coarse, affine).resample(1.0, order=order).data
    shape = [n + 2 for n in size]
    data = torch.full((1, 1, *shape), -1.0)
    mask = centred_box(list(size), (shape[0], shape[1], shape[2]))[None, None]
    data[mask] = torch.from_numpy(fine).flatten()
    found = task.degraded(data, mask, order)
    np.testing.assert_allclose(found[mask].reshape(size).numpy(), expected, atol=1e-5)
    assert (found[~mask] == -1).all()


def test_what_is_linear_survives_coarse_voxels_and_a_rest_at_the_border() -> None:
    """Of 7 voxels by twos the last mean is of one voxel, and counts as a whole one; before it, linear functions come
    back exactly."""
    ramp = torch.linspace(-0.6, 0.6, 7).expand(1, 1, 6, 6, 7)
    found = SuperResolution([1, 1, 2]).degraded(ramp, torch.ones_like(ramp, dtype=torch.bool), 1)
    torch.testing.assert_close(found[..., 1:5], ramp[..., 1:5])
    assert found[0, 0, 0, 0, -1] == pytest.approx(0.3 + 0.75 * (0.6 - 0.3))


def test_super_resolution_guesses_by_the_interpolation_that_is_closer() -> None:
    class Rough(Scans):
        def __init__(self) -> None:
            super().__init__(2)
            draw = torch.Generator().manual_seed(0)
            white = [row.data + 0.3 * torch.randn(row.data.shape, generator=draw) for row in self.rows]
            self.rows = [row._replace(data=data.clamp(-1, 1)) for row, data in zip(self.rows, white, strict=True)]

    task = SuperResolution(2)
    made(task, Rough())
    errors = {
        name: (answer - Rough().batch().data)[Rough().batch().mask].square().mean().item()
        for name, answer in task.baselines(Rough().batch(), torch.empty(0)).items()
    }
    assert set(errors) == {"trilinear", "cubic"}
    assert task.guess_name == min(errors, key=lambda name: errors[name])


def blob(affine: np.ndarray, shape: tuple[int, int, int], centre: np.ndarray, width: float) -> Volume:
    """A Gaussian of ``width`` mm about a point, and a slope, in units of a scanner."""
    empty = Volume(np.zeros(shape), affine)
    mm = empty.to_mm(np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1))
    data = 300 + 500 * np.exp(-((mm - centre) ** 2).sum(-1) / (2 * width**2))
    return Volume(data, affine, {"source": "blob.nii"})


@pytest.mark.parametrize("codes", ["RAS", "LPI", "ASR"])
def test_super_resolution_keeps_every_structure_where_it_lies(codes: str) -> None:
    """A blob of an oblique scan of 2 mm is at the same millimetres, and of the same height, on the grid of 1 mm."""
    model = made(SuperResolution(2))
    model.data_mean.zero_()
    model.first_stage.spectrum.std.fill_(1e-4)
    task = model.task
    assert isinstance(task, SuperResolution)
    task.limits.copy_(torch.tensor([-1.0, 1.0]))
    coarse = Volume(np.zeros((8, 7, 8)), OBLIQUE).reorient(codes)
    centre = coarse.to_mm((np.array(coarse.shape) - 1) / 2 + 0.4)
    coarse = blob(coarse.affine, coarse.shape, centre, 3.5)
    (fine,) = model.super_resolve([coarse], steps=2)
    assert fine.shape == tuple(2 * n for n in coarse.shape)
    assert fine.spacing == pytest.approx((1, 1, 1), abs=1e-4)
    assert fine.orientation == coarse.orientation
    corner, old = (volume.to_mm(np.full(3, -0.5)) for volume in (fine, coarse))
    np.testing.assert_allclose(corner, old, atol=1e-4)
    mm = fine.to_mm(np.stack(np.meshgrid(*map(np.arange, fine.shape), indexing="ij"), -1))
    weight = np.clip(fine.data - 500, 0, None)[..., None]
    np.testing.assert_allclose((weight * mm).sum((0, 1, 2)) / weight.sum(), centre, atol=0.15)
    assert np.abs(fine.data - blob(fine.affine, fine.shape, centre, 3.5).data).max() < 60
    assert fine.provenance["source"] == "blob.nii"


def test_what_lies_beyond_the_models_grid_is_interpolated_with_a_warning() -> None:
    model = made(SuperResolution(2))
    long = blob(np.diag([2.0, 2.0, 2.0, 1.0]), (8, 12, 8), np.array([7.0, 11.0, 7.0]), 4.0)
    with pytest.warns(UserWarning, match="blob.nii reaches beyond the model's grid"):
        (fine,) = model.super_resolve([long], steps=2)
    assert fine.shape == (16, 24, 16)
    task = model.task
    assert isinstance(task, SuperResolution)
    interpolated = long.resample(1.0, order=int(task.order)).data
    np.testing.assert_array_equal(fine.data[:, :4], interpolated[:, :4])
    assert np.abs(fine.data[:, 4:20] - interpolated[:, 4:20]).mean() > 1


def test_voxels_of_another_size_are_warned_of() -> None:
    model = made(SuperResolution([1, 1, 2]))
    with pytest.warns(UserWarning, match="blob.nii has voxels of 1 x 1 x 4 mm .* of 1 x 1 x 2 mm"):
        model.super_resolve([blob(np.diag([1.0, 1.0, 4.0, 1.0]), (8, 8, 4), np.full(3, 6.0), 3.0)], steps=1)


@pytest.mark.parametrize("tolerance", [1e-6, 1e-12])
def test_the_harmonic_fill_gives_harmonic_functions_back(tolerance: float) -> None:
    """x y z, x^2 - y^2 and x + 2 z satisfy the discrete equation exactly, in a box and in a ragged region alike."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (10, 10, 10)), indexing="ij")
    truth = 0.3 * x * y * z + 0.4 * (x**2 - y**2) + 0.1 * (x + 2 * z)
    ragged = (np.random.default_rng(0).random(truth.shape) < 0.7) & (np.abs(truth) < 2)
    for region in (np.pad(np.ones((6, 5, 7), bool), ((2, 2), (1, 4), (2, 1))), np.pad(ragged[1:-1, 1:-1, 1:-1], 1)):
        holed = np.where(region, 9.0, truth)
        found = harmonic_fill(holed, region, np.ones_like(region), tolerance)
        np.testing.assert_allclose(found, truth, atol=100 * tolerance)
        assert np.array_equal(found[~region], truth[~region])


def test_nothing_flows_through_the_border_of_the_scan() -> None:
    """A region that reaches it is filled from the inside alone; voxels outside are not looked at."""
    data = np.full((6, 4, 4), 77.0)
    inside = np.zeros(data.shape, dtype=bool)
    inside[:5] = True
    data[:3] = np.arange(3)[:, None, None]
    region = np.zeros(data.shape, dtype=bool)
    region[3:5] = True
    found = harmonic_fill(data, region, inside)
    np.testing.assert_allclose(found[3:5], 2.0, atol=1e-5)
    assert (found[5] == 77).all()
    with pytest.raises(InputError, match="the whole scan"):
        harmonic_fill(data, inside, inside)


@pytest.mark.parametrize("randomness", ["streams", "generator"])
def test_regions_are_drawn_within_the_scan_and_of_the_sizes_asked(randomness: str) -> None:
    mask = torch.zeros(60, 1, 20, 24, 20, dtype=torch.bool)
    mask[:, :, 2:18, 3:23, 1:19] = True
    task = Inpainting(0.25, 0.5)
    source = Streams(0, torch.arange(60)) if randomness == "streams" else torch.Generator().manual_seed(0)
    regions = task.draw(mask, source)
    assert not (regions & ~mask).any()
    boxes = box_round(regions)
    sides = torch.stack(
        [boxes[:, 0].any(3).any(2).sum(1), boxes[:, 0].any(3).any(1).sum(1), boxes[:, 0].any(2).any(1).sum(1)], 1
    )
    share = sides / torch.tensor([16, 20, 18])
    assert share.min() >= 0.2
    assert share.max() <= 0.55
    filled = regions.flatten(1).sum(1) / boxes.flatten(1).sum(1)
    assert 15 < (filled == 1).sum() < 45
    assert filled.min() > 0.3
    assert len({tuple(region.nonzero()[0].tolist()) for region in regions}) > 30


def test_the_bound_of_inpainting_counts_the_voxels_of_the_region() -> None:
    model, batch = made(TASKS["inpainting"]()), Scans().batch()
    known = model.known(batch, Streams(0, batch.index))
    wanted = known.wanted
    assert wanted is not None
    bound = model.elbo(batch, draws=2)
    assert bound.dim.tolist() == wanted.flatten(1).sum(1).tolist()
    outside = ~wanted
    torch.testing.assert_close(known.guess[outside], batch.data[outside], rtol=0, atol=0)
    seen = model.observed(batch)
    torch.testing.assert_close(seen.space.dim(), box_round(wanted).flatten(1).sum(1).double())


def test_the_bound_of_an_inpainted_box_is_the_entropy_of_what_is_drawn_in_it() -> None:
    """White noise round a constant that the fill knows: the scan is the fill plus N(0, s^2) inside the box."""
    scans, std = Scans(8, [16, 16, 16]), 0.1
    model = made(Inpainting(0.4, 0.6), scans)
    task = model.task
    assert isinstance(task, Inpainting)
    draw = torch.Generator().manual_seed(1)
    batch = scans.batch()
    region = box_round(task.draw(batch.mask, Streams(0, batch.index)))
    noise = std * torch.randn(batch.data.shape, generator=draw)
    batch.data = torch.from_numpy(quantise(torch.where(region, 0.3 + noise, 0.3).numpy()))
    task.draw = lambda mask, randomness: region  # type: ignore[method-assign]
    model.data_mean.zero_()
    model.first_stage.spectrum.std.fill_(std)
    bits, error = model.elbo(batch, draws=12).summary()["bits_per_dim"]
    exact = math.log2(std * math.sqrt(2 * math.pi * math.e) * 255 / 2)
    assert error < 0.08
    assert bits == pytest.approx(exact, abs=0.02 + 3 * error)


def test_inpainting_changes_no_voxel_outside_the_region_and_all_inside() -> None:
    model = made(TASKS["inpainting"]())
    affines = [OBLIQUE / np.array([2, 2, 2, 1.0]), np.diag([-1.0, -1.0, 1.0, 1.0])]
    volumes = [blob(affine, (14, 12, 13), affine[:3, 3] + affine[:3, :3].sum(1) * 6, 4.0) for affine in affines]
    for volume in volumes:
        volume.data[...] += np.random.default_rng(0).normal(size=volume.shape)
    region = np.zeros((14, 12, 13), dtype=bool)
    region[3:8, 4:9, 5:9] = True
    region[8, 6, 6] = True  # no box
    found = model.inpaint(volumes, [region] * 2, steps=3)
    hidden = [Volume(np.where(region, 400.0, volume.data), volume.affine, volume.provenance) for volume in volumes]
    for new, old in zip(found, volumes, strict=True):
        assert np.array_equal(new.data[~region], old.data[~region])
        assert (new.data != old.data)[region].all()
        assert new.same_grid(old)
        assert "resamples" not in new.provenance
    again = model.inpaint(hidden, [region] * 2, steps=3)
    for a, b in zip(found, again, strict=True):  # what the region held is not looked at but for the percentiles
        assert np.abs(a.data - b.data)[region].mean() < 0.1 * np.abs(a.data - a.data.mean())[region].mean()


def test_translations_lie_on_the_grid_of_their_source() -> None:
    scans = Scans()
    model = made(Translation(["T1w"]), scans)
    source = blob(OBLIQUE / np.array([2, 2, 2, 1.0]), (14, 15, 12), np.array([-10.0, 14.0, 10.0]), 5.0).reorient("LPI")
    (found,) = model.translate([source], steps=2)
    (named,) = model.translate([{"T1w": source}], steps=2)
    assert found.same_grid(source)
    assert np.array_equal(found.data, named.data)
    assert found.provenance["source"] == "blob.nii"
    correlation = np.corrcoef(found.data.ravel(), source.data.ravel())[0, 1]
    assert correlation < -0.8  # the linear map has a slope of -0.5


def test_several_sources_are_put_on_the_grid_of_the_first() -> None:
    scans = Scans()
    scans.rows = [row._replace(images={"T1w": row.images["T1w"], "T2w": -row.images["T1w"]}) for row in scans.rows]
    model = made(Translation(["T1w", "T2w"]), scans)
    one = blob(np.eye(4), (16, 16, 16), np.full(3, 8.0), 4.0)
    other = blob(OBLIQUE / np.array([2, 2, 2, 1.0]), (40, 40, 40), np.full(3, 8.0), 4.0)
    (found,) = model.translate([{"T1w": one, "T2w": other}], steps=2)
    assert found.same_grid(one)


def test_a_model_of_one_task_does_no_other() -> None:
    model, volume = made(Translation("T1w")), blob(np.eye(4), (8, 8, 8), np.full(3, 4.0), 2.0)
    region = np.zeros((8, 8, 8), dtype=bool)
    region[3:5, 3:5, 3:5] = True
    for call, said in [
        (lambda: model.super_resolve([volume]), "of Translation, not of SuperResolution"),
        (lambda: model.inpaint([volume], [region]), "of Translation, not of Inpainting"),
        (lambda: model.vary([volume]), "one of Translation: to vary"),
        (lambda: model.sample(1), "one of Translation: it makes"),
        (lambda: model.translate([]), "no scans are given"),
    ]:
        with pytest.raises(InputError, match=said):
            call()
    free = VolumeDiffusion([8, 8, 8], HaarStage(1), network=UNet3D(16, 16, [8], 1))
    with pytest.raises(InputError, match="one of scans alone, not of Translation"):
        free.translate([volume])
    with pytest.raises(InputError, match="has no task"):
        compare(free, Scans(), "test")


@pytest.mark.parametrize("factor", [1, [1, 1, 1], [2, 2], [2, 0, 1]])
def test_factors_that_make_nothing_finer_are_refused(factor: int | list[int]) -> None:
    with pytest.raises(InputError, match="factor"):
        SuperResolution(factor)


def box_of(mask: Tensor) -> Tensor:
    places = mask.nonzero()
    out = torch.zeros_like(mask)
    out[tuple(slice(a, b + 1) for a, b in zip(places.amin(0).tolist(), places.amax(0).tolist(), strict=True))] = True
    return out


def test_the_box_round_a_mask_is_that_of_its_extremes() -> None:
    masks = torch.rand(20, 1, 6, 5, 7, generator=torch.Generator().manual_seed(0)) < 0.03
    masks[:, :, 2, 3, 4] = True
    for mask, box in zip(masks, box_round(masks), strict=True):
        assert torch.equal(box[0], box_of(mask[0]))
