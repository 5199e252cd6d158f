"""VolumeDiffusion: its likelihood against a Gaussian whose code length is known, its spaces, its samples."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from medmol_diffusion.core import GRIDS, STEPPERS, WEIGHTINGS, Autoguidance, Classifier, Space, Streams, alpha
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import HaarStage, UNet3D, Volume, VolumeBatch, VolumeDiffusion
from medmol_diffusion.mri.generation import centred_box
from medmol_diffusion.mri.spectrum import CosineSpace
from medmol_diffusion.mri.transforms import quantise
from medmol_diffusion.mri.volume_set import collate


class Scans:
    """What VolumeDiffusion.prepare looks at: white Gaussian scans on 256 grey levels, some voxels not counted."""

    def __init__(self, count: int, shape: tuple[int, int, int], extent: list[int], std: float = 0.2) -> None:
        draw = np.random.default_rng(0)
        self.mask = centred_box(extent, shape)[None]
        values = quantise(0.1 + std * draw.standard_normal((count, 1, *shape)))
        self.data = torch.where(self.mask, torch.from_numpy(values), -1.0)
        self.train = [(scan, self.mask, i, "", {}) for i, scan in enumerate(self.data)]

    def batch(self) -> VolumeBatch:
        count = len(self.data)
        return VolumeBatch(self.data, self.mask.expand(count, *self.mask.shape), torch.arange(count), [""] * count)


def tiny(shape: list[int], levels: int = 1) -> VolumeDiffusion:
    channels = 2 * 8**levels
    return VolumeDiffusion(shape, HaarStage(levels), network=UNet3D(channels, channels, [8], 1)).eval()


def encoded(model: VolumeDiffusion, batch: VolumeBatch) -> tuple[CosineSpace, torch.Tensor]:
    streams = Streams(0, batch.index)
    space, x = model.first_stage.encode(batch, model.known(batch, streams).guess, streams)
    assert isinstance(space, CosineSpace)
    return space, x


@pytest.mark.parametrize("extent", [[16, 16, 16], [12, 9, 16]])
@pytest.mark.parametrize("levels", [0, 1, 2])
def test_bits_per_dim_of_white_gaussian_scans_are_their_code_length(extent: list[int], levels: int) -> None:
    """A network that outputs zero is the exact denoiser of white Gaussian data: the bound is log2(std sqrt(2 pi e) /
    bin)."""
    scans = Scans(8, (16, 16, 16), extent)
    model = tiny([16, 16, 16], levels)
    model.data_mean.fill_(0.1)
    model.first_stage.spectrum.std.fill_(0.2)
    bound = model.elbo(scans.batch(), draws=48, seed=0)
    exact = math.log2(0.2 * math.sqrt(2 * math.pi * math.e) * 255 / 2)
    bits, error = bound.summary()["bits_per_dim"]
    assert bound.dim.tolist() == [float(math.prod(extent))] * 8
    assert error < 0.03
    assert bits == pytest.approx(exact, abs=0.01 + 3 * error)


def test_bits_per_dim_of_the_flow_are_the_code_length_of_white_gaussian_scans() -> None:
    """On a box inside the grid, for the exact denoiser: example by example, but for the grey levels of 2/255."""
    scans = Scans(6, (8, 8, 8), [8, 7, 6])
    model = tiny([8, 8, 8])
    model.data_mean.fill_(0.1)
    model.first_stage.spectrum.std.fill_(0.2)
    found = model.nll(scans.batch(), "flow", steps=20, draws=2)
    values = scans.data[:, scans.mask]
    spread = 0.2**2 + (2 / 255) ** 2 / 12
    exact = 0.5 * ((values - 0.1).square() / spread + math.log(2 * math.pi * spread)).mean() - math.log(2 / 255)
    error = found.draw_error / (336 * math.log(2))
    assert found.method == "flow"
    assert error < 0.02
    bits, _ = found.summary()["bits_per_dim"]
    assert bits == pytest.approx(exact.item() / math.log(2), abs=0.01 + 3 * error)
    assert found.terms["log_volume"].tolist() == [0.0] * 6


def test_the_importance_weighted_bound_of_scans_is_the_discrete_one_less_what_the_weights_gain() -> None:
    scans = Scans(24, (4, 4, 4), [4, 4, 3])
    model = tiny([4, 4, 4])
    model.data_mean.fill_(0.1)
    model.first_stage.spectrum.std.fill_(0.2)
    found, bound = model.nll(scans.batch(), "iwae", steps=25, draws=4), model.elbo(scans.batch(), 25, None)
    difference = found.total - found.terms["importance"] - bound.total
    error = difference.std().item() / 24**0.5
    assert abs(difference.mean().item()) < 3 * error
    assert error < 0.05 * bound.total.mean().item()
    assert (found.terms["importance"] < -1).all()


def test_bits_per_dim_of_an_untrained_model_are_the_code_length_of_the_spectrum() -> None:
    """Gaussian scans of one octave of frequencies loud and the rest quiet: a network that outputs zero is their Wiener
    filter, and the bound is 1/2 log2(2 pi e lambda) - log2 w, averaged over the frequencies."""
    shape, loud, quiet = (16, 12, 16), 0.6, 0.1
    space = CosineSpace(torch.ones(120, 1, *shape, dtype=torch.bool))
    low = [f < 0.5 for f in space.frequencies]
    std = torch.where(low[0][:, :, None, None] & low[1][:, None, :, None] & low[2][:, None, None], loud, quiet)
    noise = torch.randn(120, *shape, 1, generator=torch.Generator().manual_seed(0))
    scans = Scans(120, shape, list(shape))
    scans.data = torch.from_numpy(quantise(space.decode(std[..., None] * noise).numpy()))
    scans.train = [(scan, scans.mask, i, "", {}) for i, scan in enumerate(scans.data)]
    model = tiny(list(shape), 1)
    model.prepare(scans)
    batch = collate(scans.train[:24])
    bits, error = model.elbo(batch, draws=16, seed=0).summary()["bits_per_dim"]
    white = 0.5 * math.log2(2 * math.pi * math.e) + math.log2(255 / 2)
    exact = white + std.log2().mean().item()
    assert error < 0.03
    assert bits == pytest.approx(exact, abs=0.02 + 3 * error)
    baseline = model.baseline(batch) / (math.prod(shape) * math.log(2))
    assert baseline.mean().item() == pytest.approx(exact, abs=0.02)
    assert bits < white + 0.5 * math.log2(std.square().mean().item()) - 0.3  # what one variance for all would cost


def test_the_map_of_the_bound_lies_on_the_voxels_and_sums_to_the_diffusion_term() -> None:
    """One bright voxel is what a white model finds least likely, and the map shows where it is."""
    scans = Scans(1, (16, 16, 16), [16, 12, 16], std=0.05)
    scans.data[0, 0, 5, 9, 3] = 1.0
    model = tiny([16, 16, 16])
    model.data_mean.fill_(0.1)
    model.first_stage.spectrum.std.fill_(0.05)
    bound = model.elbo(scans.batch(), draws=64)
    assert bound.map is not None
    assert bound.map.shape == scans.data.shape
    torch.testing.assert_close(bound.map.sum().double(), bound.terms["diffusion"].sum(), rtol=1e-4, atol=0)
    assert (bound.map[~scans.batch().mask].abs() < 1e-6).all()
    peak = np.unravel_index(int(bound.map[0, 0].argmax()), scans.data.shape[2:])
    assert peak == (5, 9, 3)


def test_a_gain_of_the_network_multiplies_the_wavelet_coefficients() -> None:
    model = tiny([8, 8, 8])
    space, x = encoded(model, Scans(2, (8, 8, 8), [8, 8, 6]).batch())

    class Gain(nn.Module):
        def forward(self, h: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
            return torch.cat([torch.zeros_like(h[:, :8]), torch.full_like(h[:, 8:], 0.5)], 1)

    model.network.network = Gain()
    torch.testing.assert_close(model.network(x, torch.zeros(2), space), 0.5 * x, rtol=1e-5, atol=1e-5)


def test_the_bound_does_not_depend_on_the_batch() -> None:
    scans = Scans(4, (8, 8, 8), [8, 8, 6])
    model = tiny([8, 8, 8])
    together = model.elbo(scans.batch(), draws=2, seed=3)
    batch = scans.batch()
    alone = model.elbo(VolumeBatch(batch.data[2:3], batch.mask[2:3], batch.index[2:3], [""]), draws=2, seed=3)
    torch.testing.assert_close(alone.total[0], together.total[2], rtol=1e-5, atol=1e-3)


def test_what_is_not_counted_stays_out_of_the_state() -> None:
    scans = Scans(2, (8, 8, 8), [8, 4, 8])
    model = tiny([8, 8, 8])
    space, x = encoded(model, scans.batch())
    torch.testing.assert_close(space.project(x), x)
    eps = space.noise(x, Streams(0, torch.arange(2)))
    voxels = space.decode(eps)
    outside = ~scans.batch().mask
    assert voxels[outside].abs().max() < 1e-6
    assert voxels[~outside].std().item() == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "heun", "dpm++2m"])
def test_samples_of_a_white_gaussian_model_have_its_spread(sampler: str) -> None:
    """With the exact denoiser, x_hat(z_0) of 100 steps has the data's mean and standard deviation."""
    scans = Scans(8, (16, 16, 16), [16, 16, 16])
    model = tiny([16, 16, 16])
    model.prepare(scans)
    volumes = model.sample(4, steps=100, sampler=sampler, seed=0)
    values = np.stack([volume.data for volume in volumes])
    assert values.mean() == pytest.approx(0.1, abs=0.01)
    assert values.std() == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize("sampler", STEPPERS)
@pytest.mark.parametrize("steps", [1, 3])
def test_every_sampler_gives_scans_on_every_grid(sampler: str, steps: int) -> None:
    model = tiny([8, 8, 8])
    for spacing in GRIDS:
        (volume,) = model.sample(1, steps=steps, sampler=sampler, spacing=spacing)
        assert np.isfinite(volume.data).all()
        assert volume.data.std() > 0


def test_samples_take_the_sizes_of_the_training_scans() -> None:
    scans = Scans(4, (16, 16, 16), [12, 9, 16])
    model = tiny([16, 16, 16])
    model.prepare(scans)
    assert {volume.shape for volume in model.sample(3, steps=2)} == {(12, 9, 16)}


def test_samples_do_not_depend_on_the_batch_size() -> None:
    model = tiny([8, 8, 8])
    three, one = (model.sample(3, steps=3, sampler="ancestral", seed=5, batch_size=b) for b in (3, 1))
    for a, b in zip(three, one, strict=True):
        np.testing.assert_allclose(a.data, b.data, atol=1e-5)


def test_no_scans_are_refused() -> None:
    with pytest.raises(InputError, match="at least 1, not 0"):
        tiny([8, 8, 8]).sample(0)


def test_a_network_of_other_channels_is_refused_with_the_right_number() -> None:
    with pytest.raises(InputError, match="channels_in 8: set it to 16"):
        VolumeDiffusion([16, 16, 16], HaarStage(1), network=UNet3D(8, 16, [8], 1))


def test_a_shape_that_does_not_divide_is_refused_with_the_multiple() -> None:
    with pytest.raises(InputError, match="multiples of 4"):
        VolumeDiffusion([16, 18, 16], HaarStage(2))


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_every_weighting_trains(weighting: str) -> None:
    torch.manual_seed(0)
    scans = Scans(2, (8, 8, 8), [8, 7, 8])
    model = VolumeDiffusion([8, 8, 8], HaarStage(1), network=UNet3D(16, 16, [8], 1), weighting=weighting)
    model.prepare(scans)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    before = {name: value.clone() for name, value in model.named_parameters()}
    loss = model.loss(scans.batch(), torch.Generator().manual_seed(0))
    loss.mean().backward()
    optimiser.step()
    assert loss.isfinite().all()
    assert all(torch.isfinite(p).all() for p in model.parameters())
    moved = {name.partition(".")[0] for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == ({"network", "weighting"} if weighting == "learned" else {"network"})


def given() -> list[Volume]:
    """Scans in units of their own, for a grid of 8 x 8 x 8 voxels of 1 mm: of 2 mm, smaller, and turned over."""
    draw = np.random.default_rng(0)
    affines = [np.diag([2.0, 2.0, 2.0, 1.0]), np.eye(4), np.diag([-1.0, -1.0, 1.0, 1.0])]
    shapes = [(4, 4, 4), (8, 5, 7), (6, 8, 8)]
    return [
        Volume(500 + 100 * draw.standard_normal(shape), affine, {"source": f"{i}.nii"})
        for i, (shape, affine) in enumerate(zip(shapes, affines, strict=True))
    ]


def regions() -> list[np.ndarray]:
    out = [np.zeros(volume.shape, dtype=bool) for volume in given()]
    for region in out:
        region[1:3, 1:3, :3] = True
    return out


@pytest.fixture(scope="module")
def small() -> VolumeDiffusion:
    made = tiny([8, 8, 8])
    made.data_mean.fill_(0.1)
    made.first_stage.spectrum.std.fill_(0.3)
    return made


@pytest.mark.parametrize("sampler", STEPPERS)
def test_outside_the_region_no_voxel_changes_by_a_bit_and_inside_all_do(small: VolumeDiffusion, sampler: str) -> None:
    found = small.inpaint(given(), regions(), steps=3, sampler=sampler, resamples=2, jump=2)
    for new, old, region in zip(found, given(), regions(), strict=True):
        assert np.array_equal(new.data[~region], old.data[~region])
        assert (np.abs(new.data - old.data)[region] > 0).all()
        assert np.isfinite(new.data).all()
        assert np.array_equal(new.affine, old.affine)
        assert new.provenance == {
            **old.provenance, "sampler": sampler, "steps": "3", "seed": "0", "resamples": "2"
        }  # fmt: skip


def test_inpainting_sees_the_voxels_beside_the_region() -> None:
    """Scans of one grey value each under a spectrum of low frequencies alone: the region takes the value round it."""
    made = tiny([8, 8, 8])
    made.data_mean.fill_(0.0)
    made.first_stage.spectrum.std.fill_(0.01)
    made.first_stage.spectrum.std[:6, :6, :6] = 10.0
    draw = np.random.default_rng(0)
    bright, dark = (Volume(np.clip(level + 0.01 * draw.standard_normal((8, 8, 8)), -1, 1), np.eye(4))
                    for level in (0.7, -0.7))  # fmt: skip
    for volume in (bright, dark):
        volume.data[0, 0, :] = -1
        volume.data[7, 7, :] = 1
    region = np.zeros((8, 8, 8), dtype=bool)
    region[3:5, 3:5, 3:5] = True
    hidden = [Volume(np.where(region, 0.0, volume.data), np.eye(4)) for volume in (bright, dark)]
    found = made.inpaint(hidden, [region] * 2, steps=40, sampler="ddim", resamples=4, jump=5)
    assert found[0].data[region].mean() == pytest.approx(0.7, abs=0.2)
    assert found[1].data[region].mean() == pytest.approx(-0.7, abs=0.2)


@pytest.mark.parametrize("sampler", STEPPERS)
def test_variations_lie_on_the_scans_own_grid_and_leave_them_with_the_noise(
    small: VolumeDiffusion, sampler: str
) -> None:
    moved = []
    for strength in (0.05, 0.9):
        found = small.vary(given(), strength, steps=3, sampler=sampler)
        for new, old in zip(found, given(), strict=True):
            assert new.same_grid(old)
            assert new.provenance["source"] == old.provenance["source"]
            assert new.provenance["strength"] == str(strength)
        moved.append(np.mean([np.abs(n.data - o.data).mean() for n, o in zip(found[1:], given()[1:], strict=True)]))
    assert 2 * moved[0] < 60 < moved[1]


def test_inpainted_and_varied_scans_depend_on_seed_and_place_alone(small: VolumeDiffusion) -> None:
    def both(seed: int, batch_size: int) -> list[Volume]:
        inpainted = small.inpaint(given(), regions(), steps=3, seed=seed, batch_size=batch_size)
        return inpainted + small.vary(given(), steps=3, sampler="ancestral", seed=seed, batch_size=batch_size)

    for a, b, c in zip(both(3, 3), both(3, 1), both(4, 3), strict=True):
        np.testing.assert_allclose(a.data, b.data, atol=1e-2)  # of a range of 600
        assert np.abs(a.data - c.data).max() > 1


def test_a_guide_wraps_the_denoiser_of_samples_variations_and_inpainting(small: VolumeDiffusion) -> None:
    """A log p(y | z) that grows with the sum of the voxels makes scans brighter; guidance by the model itself changes
    nothing."""

    def bright(z: torch.Tensor, gamma: torch.Tensor, space: Space, condition: object) -> torch.Tensor:
        return alpha(gamma).to(z) * space.localise(z).sum((1, 2, 3, 4))

    runs = {
        "sample": lambda guide: small.sample(2, steps=5, guide=guide),
        "vary": lambda guide: small.vary(given(), steps=5, guide=guide),
        "inpaint": lambda guide: small.inpaint(given(), regions(), steps=5, guide=guide),
    }
    for name, run in runs.items():
        plain, same, guided = (
            np.concatenate([scan.data.ravel() for scan in run(guide)])
            for guide in (None, lambda d: Autoguidance(d, d, 3.0), lambda d: Classifier(d, bright, 5.0))
        )
        np.testing.assert_allclose(same, plain, atol=1e-2, err_msg=name)
        assert guided.mean() > plain.mean() + 0.01 * plain.std(), name


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda r: r[:2], "2 regions are given for 3 scans"),
        (lambda r: [r[0], r[1].astype(float), r[2]], "the region of 1.nii is float64"),
        (lambda r: [r[0][:3], *r[1:]], r"the region of 0.nii is bool of shape \(3, 4, 4\): .*\(4, 4, 4\)"),
        (lambda r: [r[0] & False, *r[1:]], "the region of 0.nii marks no voxel"),
        (lambda r: [r[0] | True, *r[1:]], "the region of 0.nii is the whole scan"),
    ],
)
def test_impossible_regions_are_refused(small: VolumeDiffusion, change: Callable, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        small.inpaint(given(), change(regions()), steps=2)


def test_impossible_variations_and_inpainting_are_refused(small: VolumeDiffusion) -> None:
    large = Volume(np.random.default_rng(0).normal(size=(12, 8, 8)), np.eye(4), {"source": "large.nii"})
    region = np.zeros(large.shape, dtype=bool)
    region[0:4] = True
    with pytest.raises(InputError, match=r"128 voxels of the region of large\.nii lie beyond the model's grid"):
        small.inpaint([large], [region])
    for strength in (0.0, 1.1):
        with pytest.raises(InputError, match=r"strength = .* must lie in \(0, 1\]"):
            small.vary(given(), strength)
    with pytest.raises(InputError, match="no scans are given"):
        small.vary([])
    with pytest.raises(InputError, match="resamples = 0"):
        small.inpaint(given(), regions(), steps=2, resamples=0)
    for run in (small.vary, lambda scans, **o: small.inpaint(scans, regions(), **o)):
        with pytest.raises(InputError, match="unknown sampler 'magic'"):
            run(given(), sampler="magic")
