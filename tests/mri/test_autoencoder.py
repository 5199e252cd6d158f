"""Autoencoder: its bound against a model whose likelihood is known, its sizes, its losses, its tiles."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import Autoencoder, VolumeBatch
from medmol_diffusion.mri.fidelity import psnr, ssim
from medmol_diffusion.mri.likelihood import FAMILIES, VoxelLikelihood
from medmol_diffusion.mri.perceptual import BandAmplitudes
from medmol_diffusion.mri.tiles import in_tiles
from tests.mri.linear import NOISE, LinearNetwork, drawn_scans, exact_nll, linear_autoencoder


def smooth(count: int, shape: tuple[int, int, int]) -> VolumeBatch:
    draw = torch.Generator().manual_seed(0)
    x = torch.nn.functional.avg_pool3d(torch.randn(count, 1, *(side + 4 for side in shape), generator=draw), 5, 1)
    data = (4 * x).clamp(-1, 1)
    data = torch.round((data + 1) * 127.5) / 127.5 - 1
    return VolumeBatch(
        data, torch.ones_like(data, dtype=torch.bool), torch.arange(count), [f"s{i}" for i in range(count)]
    )


def tiny(shape: list[int], **options: Any) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(shape, channels=[8, 8], latent_channels=2, **options).eval()


@pytest.mark.parametrize("spread", [1.0, 1.4])
def test_the_bound_is_log_p_plus_the_divergence_from_the_true_posterior(spread: float) -> None:
    """E_q of the linear model is closed: -log p(v | mu) + 1/2 sum c^2 sigma^2 / s^2; with the KL it is -log p(v) for
    the exact posterior, and KL(q || p(u | v)) more for another."""
    batch, model, network = drawn_scans(40), linear_autoencoder(spread), LinearNetwork(spread)
    found = model.nll(batch, draws=300)
    mu, sigma = network.encode(batch.data)
    strength = network.matrix.square().sum(0).view(2, 1, 1, 1)
    closed = model.restored_nats(batch, mu, 65536) + 0.5 * (strength * sigma.square()).flatten(1).sum(1) / NOISE**2
    divergence = spread**2 - 1 - math.log(spread**2)
    torch.testing.assert_close(closed + found.terms["kl"], exact_nll(batch) + divergence, rtol=0, atol=1e-5)
    error = found.draw_variance.sqrt()
    assert error.max() < 0.2
    assert ((found.terms["reconstruction"] - closed).abs() < 4.5 * error).all()
    assert found.draw_error == pytest.approx((error.square().sum().sqrt() / 40).item())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scale", [0.001, 0.1, 3.0])
@pytest.mark.parametrize("mean", [-1.3, 0.2, 1.0])
def test_grey_levels_sum_to_one(family: str, scale: float, mean: float) -> None:
    likelihood = VoxelLikelihood(family).double()
    likelihood.log_scale.data.fill_(math.log(scale))
    centres = torch.arange(256, dtype=torch.float64) * 2 / 255 - 1
    masses = torch.exp(-likelihood(centres, torch.full_like(centres, mean), 256))
    assert masses.sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_of_the_likelihood_are_its_slope_and_finite_far_away(family: str) -> None:
    likelihood = VoxelLikelihood(family).double()
    centres = torch.tensor([-1.0, 1 / 255, 1.0], dtype=torch.float64)
    mean = torch.tensor([0.4, 0.1, 0.4], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m: likelihood(centres, m, 256), mean)
    single = VoxelLikelihood(family)
    single.log_scale.data.fill_(-6.0)
    far = torch.tensor([0.9, -0.9, -0.9], requires_grad=True)
    nats = single(centres.float(), far, 256)
    nats.sum().backward()
    assert nats.isfinite().all()
    assert far.grad is not None
    assert far.grad.isfinite().all()


@pytest.mark.parametrize("shape", [(17, 18, 16), (5, 16, 19)])
def test_a_voxel_comes_out_for_every_one_that_goes_in(shape: tuple[int, int, int]) -> None:
    """MONAI's network alone gives back 16 voxels for 17."""
    model, batch = tiny(list(shape)), smooth(1, shape)
    mu, _ = model.posterior(batch.data)
    assert tuple(mu.shape[2:]) == model.latent_sizes(shape) == tuple(math.ceil(side / 2) for side in shape)
    assert model.restore(batch.data).shape == batch.data.shape
    assert model.nll(batch, draws=1).dim.tolist() == [float(math.prod(shape))]
    with torch.no_grad():
        assert model.network.reconstruct(batch.data).shape != batch.data.shape
    with pytest.raises(InputError, match="do not fit a model"):
        model.nll(smooth(1, (8, 8, 8)))


def test_with_the_likelihood_and_nothing_else_the_loss_is_the_bound_per_voxel() -> None:
    batch, model = smooth(4, (8, 8, 8)), tiny([8, 8, 8])
    batch.mask[:, :, 6:] = False
    attempts = [model.attempt(batch, torch.Generator().manual_seed(i)).terms for i in range(40)]
    loss = torch.stack([terms["reconstruction"] + terms["kl"] for terms in attempts]).mean(0)
    bound = model.nll(batch, draws=40).nats_per_dim
    torch.testing.assert_close(loss.double(), bound, rtol=0.02, atol=0)


def test_the_scale_of_the_observation_is_fitted_beside_an_l1_loss_and_moves_nothing_else() -> None:
    batch, model = smooth(2, (8, 8, 8)), tiny([8, 8, 8], reconstruction="l1")
    terms = model.attempt(batch, torch.Generator().manual_seed(0)).terms
    mean = model.decode(model.posterior(batch.data)[0], batch.data.shape[2:])
    assert terms["reconstruction"].mean().item() == pytest.approx((batch.data - mean).abs().mean().item(), rel=0.2)
    terms["scale"].sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is not None] == ["likelihood.log_scale"]


def test_blur_is_farther_in_amplitudes_than_another_texture_of_the_same_kind() -> None:
    draw = torch.Generator().manual_seed(0)
    real, other = (0.3 * torch.randn(1, 1, 16, 15, 16, generator=draw) for _ in range(2))
    blurred = torch.nn.functional.avg_pool3d(real, 3, 1, 1)
    distance = BandAmplitudes()
    assert distance(real, real).item() == 0
    assert (real - other).abs().mean() > 1.3 * (real - blurred).abs().mean()
    assert distance(blurred, real).item() > 2 * distance(other, real).item()


def test_psnr_and_ssim_look_inside_the_mask_alone() -> None:
    batch = smooth(2, (12, 12, 12))
    batch.mask[:, :, 9:] = False
    made = torch.where(batch.mask, batch.data + 0.02, 5.0)
    torch.testing.assert_close(psnr(made, batch.data, batch.mask), torch.full((2,), 40.0).double(), rtol=1e-5, atol=0)
    assert (ssim(batch.data, batch.data, batch.mask) == 1).all()
    close = ssim(made, batch.data, batch.mask)
    assert (close > 0.85).all()
    worse = batch.data + 0.2 * torch.randn(batch.data.shape, generator=torch.Generator().manual_seed(0))
    assert (ssim(worse, batch.data, batch.mask) < close - 0.1).all()


def test_tiles_give_the_whole_of_what_looks_no_farther_than_their_overlap() -> None:
    draw = torch.Generator().manual_seed(0)
    x, kernel = torch.randn(1, 1, 40, 12, 26, generator=draw), torch.randn(2, 1, 3, 3, 3, generator=draw)

    def halved(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv3d(torch.nn.functional.avg_pool3d(x, 2), kernel)

    def padded(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.pad(halved(x), (1, 1, 1, 1, 1, 1))

    whole, tiled = padded(x), in_tiles(padded, x, 16, 8)
    assert tiled.shape == whole.shape
    # A tile's faces, where the convolution is padded, lie under weights of 1/8 and more of the neighbour's.
    middle = (slice(None), slice(None), slice(9, 11), slice(1, -1), slice(9, 10))
    pointwise = in_tiles(lambda x: torch.nn.functional.avg_pool3d(x, 2), x, 16, 8)
    torch.testing.assert_close(pointwise, torch.nn.functional.avg_pool3d(x, 2))
    assert (tiled - whole)[middle].abs().max() < 0.2 * whole.std()


def test_tiled_encoding_and_decoding_are_close_to_whole_and_hold_less_at_a_time() -> None:
    model = tiny([64, 16, 16])
    x = smooth(1, (64, 16, 16)).data
    largest: list[int] = []
    for part in model.network.modules():
        part.register_forward_hook(lambda *found: largest.append(found[2].numel()) if found[2] is not None else None)
    with torch.no_grad():
        mu, _ = model.posterior(x)
        whole = model.decode(mu, x.shape[2:])
        most = max(largest)
        largest.clear()
        tiled_mu, _ = model.posterior(x, 32)
        tiled = model.decode(mu, x.shape[2:], 32)
    assert max(largest) < 0.55 * most
    assert tiled.shape == whole.shape
    for found, known in ((tiled_mu, mu), (tiled, whole)):  # apart by the statistics of the norms, which see a tile
        assert (found - known)[:, :, : known.shape[2] // 4].abs().mean() < 0.15 * known.std()


def test_tiles_of_a_network_without_norms_are_the_whole_away_from_their_faces() -> None:
    """The padding of a tile's faces reaches some 17 voxels far in this network."""
    model, x = tiny([64, 16, 16]), smooth(1, (64, 16, 16)).data
    for part in model.network.modules():
        if isinstance(part, torch.nn.GroupNorm):
            part.forward = lambda h: h  # type: ignore[method-assign]
    with torch.no_grad():
        mu, sigma = model.posterior(x)
        tiled_mu, tiled_sigma = model.posterior(x, 48)
        whole, tiled = (model.decode(mu, x.shape[2:], tile) for tile in (None, 48))
    for found, known, away in ((tiled_mu, mu, 8), (tiled_sigma, sigma, 8), (tiled, whole, 16)):
        torch.testing.assert_close(found[:, :, :away], known[:, :, :away], rtol=1e-4, atol=1e-5)
        assert not torch.equal(found, known)


def test_samples_depend_on_seed_and_place_alone_and_take_the_training_scans_sizes() -> None:
    model, batch = tiny([8, 8, 8]), smooth(3, (8, 8, 8))

    train = [(batch.data[i], batch.mask[i] & (torch.arange(8) < 6), i, "", {}) for i in range(3)]
    model.prepare(SimpleNamespace(train=train))
    three, one = (model.sample(3, seed=2, batch_size=size) for size in (3, 1))
    for a, b in zip(three, one, strict=True):
        np.testing.assert_allclose(a.data, b.data, atol=1e-5)
        assert a.shape == (8, 8, 6)
    assert not np.allclose(three[0].data, three[1].data)
    assert not np.allclose(model.sample(1, seed=3)[0].data, three[0].data)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reconstruction": "l2"}, "unknown reconstruction"),
        ({"observation": "laplace"}, "unknown observation"),
        ({"kl_weight": -1.0}, "kl_weight"),
        ({"perceptual_weight": math.nan}, "perceptual_weight"),
        ({"blocks": 0}, "start at 1"),
    ],
)
def test_what_makes_no_autoencoder_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        tiny([8, 8, 8], **options)


@pytest.mark.parametrize("options", [{"method": "flow"}, {"steps": 10}, {"draws": "exact"}, {"conditional": True}])
def test_what_its_bound_does_not_have_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="autoencoder"):
        tiny([8, 8, 8]).nll(smooth(1, (8, 8, 8)), **options)
