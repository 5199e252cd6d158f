"""Simplex noise: its lattice, its statistics, and scans noised with it."""

import numpy as np
import pytest
import torch

from medmol_diffusion.core import Dense, Streams
from medmol_diffusion.core.schedule import alpha, sigma
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly import Setting
from medmol_diffusion.mri.anomaly.restore.partial import Partial
from medmol_diffusion.mri.anomaly.setting import State
from medmol_diffusion.mri.anomaly.simplex import GRADIENTS, PERIOD, Simplex, simplex_noise
from medmol_diffusion.mri.known import Known
from tests.mri.anomaly.exact import MEAN, Exact, drawn, gaussian
from tests.mri.anomaly.test_method import SHAPE, exam, white

PERMUTATION = np.random.default_rng(0).permutation(PERIOD)


def streams(count: int, seed: int = 0) -> Streams:
    return Streams(seed, torch.arange(count))


def test_at_a_corner_of_the_lattice_the_noise_is_zero_and_its_slope_a_gradient() -> None:
    """d/dv (1/2 - |d|^2)^4 g . d = g / 16 at d = 0; the other corners are farther than they reach."""
    places = np.random.default_rng(1).integers(-40, 300, (3, 200))
    corners = places - places.sum(0) / 6
    np.testing.assert_allclose(simplex_noise(corners, PERMUTATION), 0, atol=1e-12)
    step = 1e-4
    ways = np.eye(3)[:, :, None] * step
    slopes = [simplex_noise(corners + way, PERMUTATION) - simplex_noise(corners - way, PERMUTATION) for way in ways]
    found = np.stack(slopes, -1) / (2 * step) * 16
    assert np.abs(found[:, None] - GRADIENTS).sum(-1).min(1).max() < 1e-5
    assert len(np.unique(found.round(), axis=0)) == 12


def test_the_noise_has_no_jump_where_simplices_meet() -> None:
    along = np.linspace(0, 5, 100_001)
    line = np.stack([along, 0.37 * along + 0.1, 0.71 * along + 0.3])
    noise = simplex_noise(line, PERMUTATION)
    assert np.abs(np.diff(noise)).max() / noise.std() < 1e-3  # the line is 5e-5 cells a step
    assert np.abs(np.diff(noise, 3)).max() / noise.std() < 1e-9


def test_a_field_has_mean_0_and_std_1_and_comes_again_from_its_seed_and_index_alone() -> None:
    fields = Simplex()((12, 10, 14), streams(3))
    assert fields.shape == (3, 1, 12, 10, 14)
    torch.testing.assert_close(fields.mean((1, 2, 3, 4)), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(fields.std((1, 2, 3, 4), correction=0), torch.ones(3))
    alone = Simplex()((12, 10, 14), Streams(0, torch.tensor([1])))
    torch.testing.assert_close(alone[0], fields[1], rtol=0, atol=0)
    other = Simplex()((12, 10, 14), streams(1, seed=1))
    assert (other - fields[:1]).abs().max() > 0.1
    assert np.corrcoef(fields.flatten(1).numpy())[0, 1] < 0.9


def test_no_voxel_is_special_to_the_lattice() -> None:
    """Simplex noise is zero at the corners of its lattice, of which every voxel would be one at this wavelength, or
    none."""
    fields = Simplex(octaves=1, wavelength=2.0)((6, 6, 6), streams(300))
    spread = fields.std(0)
    assert spread.min() > 0.8
    assert spread.max() < 1.2


def test_half_the_wavelength_is_twice_the_frequency() -> None:
    def frequency(noise: Simplex) -> float:
        power = torch.fft.fftn(noise((24, 24, 24), streams(4))[:, 0], dim=(1, 2, 3)).abs().square().mean(0)
        axis = torch.fft.fftfreq(24)
        squares = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
        return float(((power * squares).sum() / power.sum()).sqrt())

    long, short = (frequency(Simplex(octaves=1, wavelength=w)) for w in (8.0, 4.0))
    assert short / long == pytest.approx(2, rel=0.15)
    assert frequency(Simplex(octaves=2, wavelength=8.0)) < short
    assert frequency(Simplex(octaves=2, wavelength=8.0)) > long


def test_octaves_add_up_with_their_persistence() -> None:
    draw = np.random.default_rng(0)
    keys, places, shape = draw.normal(size=(2, PERIOD)), draw.normal(size=(2, 3)), (8, 8, 8)
    first = Simplex(1, 8.0)
    second = Simplex(1, 4.0)
    both = Simplex(2, 8.0, 0.8).field(shape, keys, places)
    parts = np.stack([first.field(shape, keys[:1], places[:1]), second.field(shape, keys[1:], places[1:])])
    weights, left, *_ = np.linalg.lstsq(parts.reshape(2, -1).T, both.ravel(), rcond=None)
    assert left.max() < 1e-20
    assert weights[1] / weights[0] == pytest.approx(0.8, rel=0.35)  # each part alone has been brought to std 1


def test_a_scan_noised_by_simplex_comes_back_along_the_flow() -> None:
    """Exact Gaussian flow from z = alpha x + sigma eps to x_hat is linear: x_hat = k z, k = sqrt(l / Var) as sigma_0
    goes to 0."""
    oracle = gaussian()
    scans, setting, gamma = drawn(oracle), Setting(Exact(oracle)), -0.09
    noise = Simplex(wavelength=8.0)
    found = Partial(gamma, 400, "heun", 1, noise)(setting, scans).scans
    eps = noise((8, 8, 8), setting.streams(scans)).double()
    a, s = (f(torch.tensor(gamma, dtype=torch.float64)) for f in (alpha, sigma))
    spread = oracle.eigenvalues.view(1, 1, *SHAPE)
    z = a * (scans.data - MEAN) + s * eps
    exact = (MEAN + (spread / (a**2 * spread + s**2)).sqrt() * z).clamp(-1, 1)
    torch.testing.assert_close(found, exact, atol=0.01, rtol=0)


def test_of_wavelets_the_noise_is_that_of_the_voxels() -> None:
    setting, scans = white(), exam(2)
    state = setting.state(scans, setting.streams(scans))
    eps = Partial(noise=Simplex())._eps(state, scans, setting.streams(scans))
    fields = Simplex()((8, 8, 8), setting.streams(scans))
    torch.testing.assert_close(state.space.localise(eps), fields, atol=1e-5, rtol=0)


def test_latents_take_no_noise_of_voxels() -> None:
    scans, x = exam(2), torch.zeros(2, 3, 2, 2, 2)
    state = State(Dense(x), x, Known(scans.data))
    with pytest.raises(InputError, match="choose the method partial"):
        Partial(noise=Simplex())._eps(state, scans, streams(2))
