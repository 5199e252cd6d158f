"""Residuals: each against its closed form."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import IdentityStage, UNet3D, VolumeBatch, VolumeDiffusion
from medmol_diffusion.mri.anomaly import Exam, Setting
from medmol_diffusion.mri.anomaly.residual import (
    BoundMap,
    Gradient,
    Perceptual,
    Relative,
    bright,
    dark,
    l1,
    structure,
)
from medmol_diffusion.mri.ssim import ms_ssim, ssim_map
from tests.mri.anomaly.test_method import SHAPE, exam, white
from tests.mri.linear import linear_autoencoder

RESIDUALS = {
    "bright": bright,
    "dark": dark,
    "structure": structure,
    "gradient": Gradient((0.5, 1.0)),
    "bound": BoundMap(draws=2),
    "perceptual": Perceptual(),
}


def of(data: Tensor, mask: Tensor | None = None) -> Exam:
    mask = torch.ones_like(data, dtype=torch.bool) if mask is None else mask
    return Exam(VolumeBatch(data, mask, torch.arange(len(data)), ["scan"] * len(data)), mask)


@pytest.mark.parametrize("name", sorted(RESIDUALS))
def test_a_residual_is_a_map_never_below_zero_and_the_same_in_any_batch(name: str) -> None:
    setting, scans, residual = white(), exam(3), RESIDUALS[name]
    restored = exam(3, seed=1).data
    with torch.no_grad():
        together = residual(setting, scans, restored)
        alone = residual(setting, Exam(scans.batch.take(torch.tensor([1])), scans.inside[1:2]), restored[1:2])
    assert together.shape == scans.data.shape
    assert together.min() >= 0
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["bright", "dark", "structure", "gradient", "perceptual"])
def test_a_scan_restored_as_it_is_has_no_residual(name: str) -> None:
    setting, scans = white(), exam(1)
    assert RESIDUALS[name](setting, scans, scans.data).abs().max() == 0


def test_bright_and_dark_are_the_two_halves_of_the_difference() -> None:
    setting, scans, restored = white(), exam(1), exam(1, seed=1).data
    above, below = (one(setting, scans, restored) for one in (bright, dark))
    torch.testing.assert_close(above + below, l1(setting, scans, restored))
    torch.testing.assert_close(above - below, scans.data - restored)


@pytest.mark.parametrize("name", ["structure", "gradient", "perceptual"])
def test_what_a_model_says_of_padding_is_no_difference(name: str) -> None:
    setting, scans = white(), exam(1)
    mask = torch.ones_like(scans.batch.mask)
    mask[..., 5:] = False
    restored = torch.where(mask, scans.data, 0.7)
    assert RESIDUALS[name](setting, of(scans.data, mask), restored).abs().max() == 0


def test_the_ssim_of_constant_scans_is_that_of_their_means() -> None:
    """Without variance the contrast is 1, and SSIM = (2 a b + c1) / (a^2 + b^2 + c1), c1 = (0.01 * 2)^2."""
    a, b = 0.5, -0.2
    found = structure(white(), of(torch.full((1, 1, *SHAPE), a)), torch.full((1, 1, *SHAPE), b))
    expected = 1 - (2 * a * b + 4e-4) / (a**2 + b**2 + 4e-4)
    torch.testing.assert_close(found, torch.full_like(found, expected), atol=1e-4, rtol=0)


def test_the_map_of_ssim_has_its_mean_over_whole_windows() -> None:
    a, b = (torch.randn(2, 12, 11, 10, generator=torch.Generator().manual_seed(seed)).tanh() for seed in (0, 1))
    mixed = (a + 0.3 * b).clamp(-1, 1)
    inner = ssim_map(a, mixed)[:, 3:-3, 3:-3, 3:-3].mean((1, 2, 3))
    torch.testing.assert_close(inner, ms_ssim(a, mixed, 1), atol=1e-6, rtol=0)


def test_the_gradient_of_a_ramp_is_its_slope_times_the_scale() -> None:
    ramp = torch.linspace(-1, 1, 41).view(1, 1, -1, 1, 1).expand(1, 1, 41, 9, 9)
    found = Gradient((1.0, 2.0))(white(), of(ramp), ramp / 5)
    middle = found[0, 0, 15:26]
    expected = 0.05 * (1 - 1 / 5) * (1.0 + 2.0) / 2  # voxels of 0.05
    torch.testing.assert_close(middle, torch.full_like(middle, expected), atol=1e-4, rtol=0)
    with pytest.raises(InputError, match="scales"):
        Gradient(())


def test_the_bound_of_white_noise_over_a_band_is_known_voxel_by_voxel() -> None:
    """x ~ N(0, s^2): E (eps - eps_hat)^2 = (alpha^2 s^2 / D)^2 + (sigma alpha x / D)^2, D = alpha^2 s^2 + sigma^2, and
    the mean over x too is the integrand of V1, 1/2 log[(1 + s^2 SNR_low) / (1 + s^2 SNR_high)] over the band."""
    setting, scans = white(), exam(2)
    low, high, s = -4.0, -1.0, 0.2
    with torch.no_grad():
        found = BoundMap(low, high, draws=120)(setting, scans, scans.data).double()
    gammas = torch.linspace(low, high, 2001, dtype=torch.float64)
    alpha2, sigma2 = torch.sigmoid(-gammas), torch.sigmoid(gammas)
    total = alpha2 * s**2 + sigma2
    flat, steep = (
        0.5 * torch.trapezoid(part, gammas) for part in ((alpha2 * s**2 / total) ** 2, sigma2 * alpha2 / total**2)
    )
    # White noise is white in any orthonormal basis: what holds of the coefficients holds of the voxels.
    squares = (scans.data.double() + 0.3).square()
    expected = flat * math.prod(SHAPE) + steep * squares.flatten(1).sum(1)
    torch.testing.assert_close(found.flatten(1).sum(1), expected, rtol=0.015, atol=0)
    line = np.polyfit(squares.flatten().numpy(), found.flatten().numpy(), 1)
    assert line == pytest.approx([steep.item(), flat.item()], rel=0.06)
    mean = 0.5 * math.log((1 + s**2 * math.exp(-low)) / (1 + s**2 * math.exp(-high)))
    assert (flat + steep * s**2).item() == pytest.approx(mean, abs=1e-6)


def test_the_bound_over_the_whole_schedule_is_the_diffusion_term() -> None:
    setting, scans = white(), exam(2)
    with torch.no_grad():
        found = BoundMap(-10.0, 10.0, draws=64)(setting, scans, scans.data).flatten(1).sum(1)
    bound = setting.model.elbo(scans.batch, draws=64)
    torch.testing.assert_close(found.double(), bound.terms["diffusion"], rtol=0.04, atol=0)
    torch.testing.assert_close(bound.map.flatten(1).sum(1).double(), bound.terms["diffusion"], rtol=1e-4, atol=0)


def test_a_voxel_that_the_model_does_not_expect_costs_the_most_nats() -> None:
    torch.manual_seed(0)
    model = VolumeDiffusion(SHAPE, IdentityStage(), network=UNet3D(1, 1, [8], 1)).eval()
    model.first_stage.std.fill_(0.2)
    data = torch.full((1, 1, *SHAPE), 0.05)
    data[0, 0, 2, 3, 4] = 1.0
    with torch.no_grad():
        found = BoundMap(-3.0, 0.0, draws=8)(Setting(model), of(data), data)
    assert np.unravel_index(int(found.argmax()), found.shape)[2:] == (2, 3, 4)


def test_the_nats_of_latents_are_shared_by_their_blocks() -> None:
    """Two latents of a block of 2^3 voxels: every voxel has an eighth of their sum."""
    from medmol_diffusion.mri import KLStage

    autoencoder = linear_autoencoder().float()
    model = VolumeDiffusion([2, 2, 2], KLStage(autoencoder=autoencoder), network=UNet3D(2, 2, [16], 1)).eval()
    scans = of(torch.rand(2, 1, 2, 2, 2, generator=torch.Generator().manual_seed(0)) * 0.2)
    with torch.no_grad():
        found = BoundMap(-2.0, 2.0, draws=3)(Setting(model), scans, scans.data)
    assert found.shape == scans.data.shape
    assert found.std((2, 3, 4)).max() < 1e-6
    assert found.min() > 0


def test_a_band_must_not_be_empty() -> None:
    with pytest.raises(InputError, match="low < high"):
        BoundMap(1.0, 1.0)


def test_features_of_the_users_own_say_where_they_differ() -> None:
    """Means of blocks of 2^3 voxels: half of a difference of 0.8 in one of two channels."""

    def features(v: Tensor) -> list[Tensor]:
        means = torch.nn.functional.avg_pool3d(v, 2)
        return [torch.cat([means, torch.zeros_like(means)], 1)]

    data = torch.zeros(1, 1, *SHAPE)
    restored = data.clone()
    restored[..., 4:] = 0.8
    found = Perceptual(features)(white(), of(data), restored)
    torch.testing.assert_close(found[..., :3], torch.zeros_like(found[..., :3]))
    torch.testing.assert_close(found[..., 5:], torch.full_like(found[..., 5:], 0.4))


def test_a_relative_residual_is_that_of_healthy_voxels_as_bright_and_as_steep() -> None:
    """Two tissues, of which the bright one is missed by four times as much: both are missed by 1 after that, and what
    is missed by twice as much as usual by 2, in whichever tissue it lies."""
    draw, size = torch.Generator().manual_seed(0), (1, 1, 24, 24, 24)
    restored = torch.full(size, -0.5)
    restored[..., 12:] = 0.5
    spread = torch.where(restored > 0, 0.04, 0.01)

    def missed(factor: float = 1.0) -> Exam:
        return of(restored + factor * spread * torch.randn(size, generator=draw))

    fitted = Relative(l1).compared(white(), [(missed(), restored) for _ in range(3)])
    usual, twice = (fitted(white(), missed(factor), restored) for factor in (1.0, 2.0))
    for tissue in (restored > 0, restored < 0):
        assert usual[tissue].mean() == pytest.approx(1, abs=0.03)
        assert twice[tissue].mean() == pytest.approx(2, abs=0.06)


def test_a_relative_residual_forgives_edges_and_nothing_else() -> None:
    """Where a model blurs, residuals are large along edges; beside them a fainter lesion is found."""
    size = (1, 1, 24, 24, 24)
    blurred = torch.linspace(-6, 6, 24).tanh().mul(0.8).expand(size).contiguous()
    sharp = torch.linspace(-12, 12, 24).tanh().mul(0.8).expand(size) + 0.01 * torch.randn(
        size, generator=torch.Generator().manual_seed(0)
    )
    lesion = torch.zeros(size, dtype=torch.bool)
    lesion[:, :, 4:8, 4:8, :4] = True
    sick = of(torch.where(lesion, sharp + 0.1, sharp))
    fitted = Relative(l1).compared(white(), [(of(sharp), blurred)])
    plain, relative = (residual(white(), sick, blurred) for residual in (l1, fitted))
    assert plain[lesion].mean() < plain[~lesion].quantile(0.95)
    assert relative[lesion].mean() > 2 * relative[~lesion].quantile(0.95)


def test_a_relative_residual_has_to_see_healthy_scans() -> None:
    scans = exam(1)
    with pytest.raises(InputError, match="healthy scans: call fit"):
        Relative()(white(), scans, scans.data)
    nowhere = Exam(scans.batch, torch.zeros_like(scans.inside))
    with pytest.raises(InputError, match="no voxel of the healthy scans"):
        Relative().compared(white(), [(nowhere, scans.data)])
    with pytest.raises(InputError, match="bins = 0"):
        Relative(bins=0)
