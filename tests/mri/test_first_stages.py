"""First stages: what they encode they decode, and their bounds are those of voxels."""

import math

import numpy as np
import pytest
import torch

from medmol_diffusion.core import LinearGamma, NetworkDenoiser, Preconditioned, Streams, elbo
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import Autoencoder, HaarStage, IdentityStage, KLStage, UNet3D, VolumeBatch, VolumeDiffusion
from medmol_diffusion.mri.first_stages.first_stage import FirstStage
from medmol_diffusion.mri.transforms import quantise
from tests.mri.linear import drawn_scans, exact_nll, linear_autoencoder


def scans(count: int, shape: tuple[int, int, int], extent: tuple[int, int, int]) -> VolumeBatch:
    """White Gaussian scans N(0.1, 0.2^2), a part of the grid counted."""
    draw = np.random.default_rng(0)
    values = torch.from_numpy(quantise(0.1 + 0.2 * draw.standard_normal((count, 1, *shape))))
    mask = torch.zeros(count, 1, *shape, dtype=torch.bool)
    mask[(..., *(slice(1, 1 + side) for side in extent))] = True
    return VolumeBatch(torch.where(mask, values, -1.0), mask, torch.arange(count), ["scan"] * count)


class Zero(torch.nn.Module):
    """Outputs zero, whose reading is the best linear denoiser; in no need of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, h: torch.Tensor, gamma: torch.Tensor) -> torch.Tensor:
        return h * self.weight


def tiny(stage: FirstStage, shape: list[int]) -> VolumeDiffusion:
    return VolumeDiffusion(shape, stage, network=UNet3D(stage.channels_in, stage.channels_out, [8], 1)).eval()


@pytest.mark.parametrize("stage", [IdentityStage(), HaarStage(1), HaarStage(3)], ids=["identity", "haar-1", "haar-3"])
def test_an_exact_stage_decodes_what_it_encodes_and_a_model_samples_in_it(stage: FirstStage) -> None:
    batch, model = scans(2, (16, 8, 8), (13, 5, 6)), tiny(stage, [16, 8, 8])
    guess = torch.full_like(batch.data, 0.1)
    space, x = stage.encode(batch, guess, Streams(0, batch.index))
    torch.testing.assert_close(space.project(x), x)
    decoded = stage.decode(x, space, guess)
    torch.testing.assert_close(decoded[batch.mask], batch.data[batch.mask], rtol=0, atol=1e-5)
    assert np.isfinite(model.sample(1, steps=2)[0].data).all()
    assert model.elbo(batch).total.isfinite().all()


def test_bits_per_dim_of_the_identity_stage_are_the_code_length_of_white_scans() -> None:
    batch = scans(8, (16, 12, 12), (15, 11, 10))
    model = VolumeDiffusion([16, 12, 12], IdentityStage(), network=Zero())
    model.data_mean.fill_(0.1)
    model.first_stage.fit([(batch, torch.full_like(batch.data, 0.1))])
    bound = model.elbo(batch, draws=40)
    assert bound.dim.tolist() == [1650.0] * 8
    assert bound.map is not None
    assert bound.map.shape == batch.data.shape
    bits, error = bound.summary()["bits_per_dim"]
    exact = math.log2(0.2 * math.sqrt(2 * math.pi * math.e) * 255 / 2)
    assert error < 0.04
    assert bits == pytest.approx(exact, abs=0.01 + 3 * error)
    baseline = model.baseline(batch)
    assert baseline is not None
    paired = (bound.total - baseline) / (bound.dim * math.log(2))
    assert paired.mean().item() == pytest.approx(0, abs=0.01 + 3 * paired.std().item() / 8**0.5)


@pytest.mark.parametrize("seed", [0, 1])
def test_terms_of_the_exact_posterior_are_log_p_at_every_draw(seed: int) -> None:
    """-log p(v | u) - log p(u) + log q(u | v) = -log p(v) for every u, whatever the scale of the latents."""
    batch, stage = drawn_scans(6), KLStage(autoencoder=linear_autoencoder())
    stage.double()
    stage.shift.copy_(torch.tensor([0.3, -0.2]).view(2, 1, 1, 1))
    stage.scale.copy_(torch.tensor([2.0, 0.7]).view(2, 1, 1, 1))
    seen = stage.observed(batch, batch.data, 65536, Streams(seed, batch.index))
    standard = torch.distributions.Normal(-stage.shift / stage.scale, 1 / stage.scale)
    latent = -standard.log_prob(seen.x).flatten(1).sum(1) - seen.terms["log_volume"]
    total = seen.terms["first_stage_reconstruction"] - seen.terms["latent_entropy"] + latent
    torch.testing.assert_close(total, exact_nll(batch), rtol=0, atol=1e-5)


@pytest.mark.parametrize("spread", [1.0, 2.0])
def test_the_bound_of_latent_diffusion_is_log_p_plus_the_divergence_of_the_posterior(spread: float) -> None:
    """A network that outputs zero is the exact denoiser of N(0, I) latents, which these are. Equality for the exact
    posterior; else KL(q || p(u | v)) = 1/2 sum (r^2 - 1 - log r^2) more."""
    batch = drawn_scans(400)
    model = VolumeDiffusion([2, 2, 2], KLStage(autoencoder=linear_autoencoder(spread)), 65536, Zero())
    bound = model.double().elbo(batch, draws=48)
    over = bound.total - exact_nll(batch)
    error = over.std().item() / 400**0.5
    divergence = spread**2 - 1 - math.log(spread**2)
    assert error < 0.2
    assert over.mean().item() == pytest.approx(divergence, abs=3 * error)
    assert spread == 1.0 or over.mean().item() > 3 * error
    assert set(bound.terms) == {
        *("prior", "diffusion", "reconstruction"),
        *("first_stage_reconstruction", "latent_entropy", "log_volume"),
    }
    assert bound.dim.tolist() == [8.0] * 400


def test_the_bound_does_not_depend_on_the_latent_scale() -> None:
    """The same latents, in other units, with the exact denoiser of each."""
    batch = drawn_scans(100)
    totals = []
    for scale in (1.0, 9.0):
        stage = KLStage(autoencoder=linear_autoencoder())
        stage.double().scale.fill_(scale)
        seen = stage.observed(batch, batch.data, 65536, Streams(0, batch.index))
        denoiser = NetworkDenoiser(lambda z, *_: 0 * z, Preconditioned(torch.tensor(1 / scale)))
        place = (seen.space, seen.x, seen.observation, seen.data)
        found = elbo(denoiser, LinearGamma(-12.0, 12.0), *place, Streams(1, batch.index), 0, 40)
        totals.append(found.with_terms(**seen.terms).total)
    apart = totals[1] - totals[0]
    assert apart.mean().item() == pytest.approx(0, abs=3 * apart.std().item() / 10)
    assert apart.std().item() / 10 < 0.3  # 4.4 nats is what two latents would be apart by without their log-volume


def test_the_latent_scale_is_that_of_draws_of_the_posterior() -> None:
    """The latents of the linear model's own scans are N(0, 1)."""
    stage = KLStage(autoencoder=linear_autoencoder())
    batch = drawn_scans(2000)
    stage.double().fit((batch.take(torch.tensor([i])), batch.data[:1]) for i in range(len(batch)))
    torch.testing.assert_close(stage.shift.flatten(), torch.zeros(2).double(), rtol=0, atol=0.08)
    torch.testing.assert_close(stage.scale.flatten(), torch.ones(2).double(), rtol=0, atol=0.06)


def test_a_frozen_autoencoder_is_saved_with_the_model_and_not_trained() -> None:
    autoencoder = Autoencoder([8, 8, 8], channels=[8, 8], latent_channels=2)
    names = {f"network.first_stage.autoencoder.{name}" for name in autoencoder.state_dict()}
    model = tiny(KLStage(autoencoder=autoencoder), [8, 8, 8])
    assert names <= set(model.state_dict())
    assert not [name for name, _ in model.named_parameters() if "autoencoder" in name]
    assert not model.train().first_stage.autoencoder.training


def test_a_latent_is_known_where_all_voxels_near_it_are() -> None:
    stage = KLStage(autoencoder=Autoencoder([8, 8, 8], channels=[8, 8], latent_channels=2))
    voxels = torch.ones(1, 1, 12, 8, 8, dtype=torch.bool)
    voxels[0, 0, 0, 0, 0] = False
    known = stage.known(voxels)
    assert known.shape == (1, 2, 6, 4, 4)
    assert (~known[0, 0]).nonzero().amax(0).tolist() == [1, 1, 1]


def test_what_is_no_first_stage_is_refused(tmp_path: object) -> None:
    with pytest.raises(InputError, match="needs the path"):
        KLStage()
    with pytest.raises(InputError, match="is no model"):
        KLStage(str(tmp_path))
    with pytest.raises(InputError, match="at least two factors"):
        KLStage(autoencoder=Autoencoder([8, 8, 8], channels=[8, 8]), tile=3)
    with pytest.raises(InputError, match="multiples of 2"):
        VolumeDiffusion([8, 9, 8], KLStage(autoencoder=Autoencoder([8, 9, 8], channels=[8, 8])))
