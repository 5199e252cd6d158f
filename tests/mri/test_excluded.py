"""Voxels that a model is not to learn from."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from medmol_diffusion.core import Native, Preconditioned, Simple, Streams, V
from medmol_diffusion.core.denoiser import Prediction
from medmol_diffusion.core.objective import error_per_dim, weighted_error
from medmol_diffusion.mri import GAN, Autoencoder, HaarStage, IdentityStage, UNet3D, VolumeBatch, VolumeDiffusion
from medmol_diffusion.mri.spectrum import CosineSpace, Spectrum
from medmol_diffusion.mri.volume_set import Example

SHAPE = (8, 8, 8)
BOX = torch.zeros(2, 1, *SHAPE, dtype=torch.bool)
BOX[0, :, :, 1:, :7] = BOX[1, :, 2:, :, 1:6] = True
LESION = torch.zeros_like(BOX)
LESION[:, :, 3:5, 2:6, 3:5] = True
ROUNDING = 3e-6
"""The cosine bases are held in float32."""
GAMMA = torch.tensor([-4.0, 2.0], dtype=torch.float64)


def spectrum() -> Spectrum:
    """One that falls by a factor of a hundred, so that a voxel's whitened neighbours hear of it."""
    made = Spectrum().double()
    frequency = torch.linspace(0, 1, len(made.std)).square()
    made.std.copy_(torch.exp(-4.6 * (frequency[:, None, None] + frequency[:, None] + frequency)))
    return made


def draw(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 1, *SHAPE, generator=generator, dtype=torch.float64) * BOX


@pytest.mark.parametrize("output", [Preconditioned(spectrum()), V()], ids=["spectrum", "v"])
@pytest.mark.parametrize("windows", [False, True])
def test_gradients_do_not_depend_on_the_target_in_excluded_voxels(output: Preconditioned | V, windows: bool) -> None:
    """The same z is alpha x + sigma eps of another x there, and another eps with it."""
    space = CosineSpace(BOX)
    alpha, sigma = torch.sigmoid(-GAMMA).sqrt(), torch.sigmoid(GAMMA).sqrt()
    x, eps = space.encode(draw(0)), space.encode(draw(1))
    change = space.encode(10 * draw(2) * LESION)
    ratio = (alpha / sigma).view(-1, 1, 1, 1, 1)
    z = alpha.view(-1, 1, 1, 1, 1) * x + sigma.view(-1, 1, 1, 1, 1) * eps
    part = torch.arange(8).view(-1, 1, 1).expand(2, 1, *SHAPE) < 5 if windows else None

    def gradient(x: Tensor, eps: Tensor, kept: Tensor | None) -> Tensor:
        said = space.encode(draw(3)).requires_grad_()
        loss = error_per_dim(Prediction(said, z, GAMMA, output, space), x, eps, Simple(), None, part, kept)
        return torch.autograd.grad(loss.sum(), said)[0]

    there, elsewhere = gradient(x, eps, ~LESION), gradient(x + change, eps - ratio * change, ~LESION)
    torch.testing.assert_close(there, elsewhere, rtol=0, atol=ROUNDING * float(there.abs().max()))
    seen, other = gradient(x, eps, None), gradient(x + change, eps - ratio * change, None)
    assert (seen - other).abs().max() > 0.1 * seen.abs().max()
    torch.testing.assert_close(
        gradient(x, eps, torch.ones_like(LESION)), seen, rtol=0, atol=ROUNDING * float(seen.abs().max())
    )


def test_what_is_kept_weighs_as_it_did_where_voxels_are_apart() -> None:
    """With an output whose scale is one for all voxels, the error is the same minus those left out."""
    space = CosineSpace(BOX)
    x, eps, said = (space.encode(draw(seed)) for seed in range(3))
    found = Prediction(said, x, GAMMA, V(), space)
    kept = weighted_error(found, x, eps, Native(), None, None, ~LESION).flatten(1).sum(1)
    error = (space.decode(found.error(x, eps)) * ~LESION).square().flatten(1).sum(1)
    torch.testing.assert_close(kept, error, rtol=1e-5, atol=0)
    per_voxel = error_per_dim(found, x, eps, Native(), None, None, ~LESION)
    torch.testing.assert_close(per_voxel, error / (BOX & ~LESION).flatten(1).sum(1), rtol=1e-5, atol=0)


def model(stage: HaarStage | IdentityStage) -> VolumeDiffusion:
    torch.manual_seed(0)
    channels = (stage.channels_in, stage.channels_out)
    return VolumeDiffusion(list(SHAPE), stage, network=UNet3D(*channels, [8], 1)).eval()


def scan_with(value: float) -> Tensor:
    """A scan, -1 at padding, of one value in the lesion."""
    return torch.where(BOX, torch.where(LESION, value, 0.2 * draw(0)), -1.0)


def batch(data: Tensor, lesion: Tensor | None) -> VolumeBatch:
    return VolumeBatch(data.float(), BOX, torch.arange(2), ["a", "b"], excluded=lesion)


def test_an_autoencoder_is_not_judged_in_the_excluded_voxels(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    one = Autoencoder(list(SHAPE), channels=[8, 8])
    seen = torch.full((2, 4, 4, 4, 4), 0.5)
    monkeypatch.setattr(one, "posterior", lambda v: (seen, seen))  # it reads what it is given, as every network does
    healthy, excluded, counted = (
        sum(one.attempt(batch(scan_with(value), lesion), torch.Generator().manual_seed(0)).terms.values())
        for value, lesion in ((0.2, LESION), (0.9, LESION), (0.9, None))
    )
    torch.testing.assert_close(excluded, healthy, rtol=1e-6, atol=0)
    assert ((counted - healthy).abs() > 0.1).all()


@pytest.mark.parametrize("kind", [Autoencoder, GAN])
def test_a_critic_sees_the_excluded_voxels_alike_in_what_is_made_and_in_the_scan(kind: type) -> None:
    one = kind(list(SHAPE), channels=[8, 8])
    for lesion, alike in ((LESION, True), (None, False)):
        attempt = one.attempt(batch(scan_with(0.9), lesion), torch.Generator().manual_seed(0))
        assert torch.equal(attempt.made[LESION & BOX], attempt.real[LESION & BOX]) == alike
        assert not torch.equal(attempt.made, attempt.real)


def test_a_model_of_white_noise_has_the_same_loss_whatever_lies_in_the_excluded_voxels() -> None:
    """Untrained, it looks at each voxel by itself."""
    white = model(HaarStage(1))
    white.first_stage.spectrum.std.fill_(0.2)
    scan = 0.2 * draw(0)
    ill = torch.where(LESION, torch.tensor(0.9, dtype=torch.float64), scan)
    healthy, excluded, seen = (
        white.loss(batch(data, lesion), Streams(0, torch.arange(2)))
        for data, lesion in ((scan, LESION), (ill, LESION), (ill, None))
    )
    torch.testing.assert_close(excluded, healthy, rtol=1e-4, atol=1e-6)
    assert (seen > 1.1 * healthy).all()


@pytest.mark.parametrize("stage", [HaarStage, IdentityStage])
def test_what_is_measured_on_the_training_scans_leaves_the_excluded_out(stage: type) -> None:
    def prepared(value: float, excluded: bool) -> VolumeDiffusion:
        made = model(stage(1) if stage is HaarStage else stage())
        scans = [
            Example(torch.where(LESION[i], value, 0.2 * draw(0)[i]).float(), BOX[i], i, f"{i}", {},
                    excluded=LESION[i] if excluded else None)
            for i in range(2)
        ]  # fmt: skip
        made.prepare(SimpleNamespace(train=scans))
        return made

    one, other = prepared(0.5, True), prepared(0.9, True)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], msg=name)
    assert not torch.equal(prepared(0.5, False).data_mean, prepared(0.9, False).data_mean)
