"""harmonise: blends with the scan on the way down, with one noise."""

import pytest
import torch
from torch import Tensor

from medmol_diffusion.core.schedule import alpha, sigma
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly import METHODS, Setting
from medmol_diffusion.mri.anomaly.method import harmonic_mean
from medmol_diffusion.mri.anomaly.restore.harmonise import Harmonise
from medmol_diffusion.mri.anomaly.restore.smoothing import Smoothing
from tests.mri.anomaly.exact import MEAN, STD, Exact, certain, drawn, gaussian, in_blob, scans


def test_a_planted_blob_is_removed_and_the_rest_stays() -> None:
    """Intensities below 0 stay below 0: MEAN is one."""
    setting, sick = certain(), scans(2, blob=0.8)
    found = Harmonise()(setting, sick)
    blob = in_blob(sick.data)
    assert len(found.earlier) == 3
    for version in (found.scans, *found.earlier):
        assert (version[blob] - MEAN).abs().max() < 0.15
        assert (version[~blob] - sick.data[~blob]).abs().max() < 8 * STD
    answer = METHODS["harmonise"](setting, sick)
    assert answer.maps[blob].mean() > 5 * answer.maps[~blob].mean()


def test_the_blend_is_the_scan_where_both_are_alike_and_the_restored_one_where_they_are_not() -> None:
    sick = scans(2, blob=0.8)
    torch.testing.assert_close(Harmonise().blended(sick, sick.data), sick.data, rtol=0, atol=0)
    restored = torch.where(in_blob(sick.data), MEAN, sick.data)
    blend = Harmonise(percentile=90.0).blended(sick, restored)
    apart = Smoothing(1.0).blur((sick.data - restored).abs())
    for v, r, a, b in zip(sick.data, restored, apart, blend, strict=True):
        m = (a / torch.quantile(a, 0.9)).clamp(max=1)
        torch.testing.assert_close(b, m * r + (1 - m) * v)
    assert (m == 1).sum() == pytest.approx(51, abs=2)


def test_every_blend_is_noised_with_the_noise_of_the_beginning() -> None:
    oracle = gaussian()
    seen: list[tuple[float, Tensor]] = []
    oracle.register_forward_hook(lambda module, given, out: seen.append((float(given[1][0]), given[0].movedim(-1, 1))))
    whole, restore = drawn(oracle), Harmonise(0.92, (0.42, -1.31), steps=10, sampler="ddim")
    found = restore(Setting(Exact(oracle)), whole)

    def noise(z: Tensor, gamma: float, data: Tensor) -> Tensor:
        a, s = (f(torch.tensor(gamma, dtype=torch.float64)) for f in (alpha, sigma))
        return (z - a * (data - MEAN)) / s

    eps = noise(seen[0][1], 0.92, whole.data)
    assert eps.std() == pytest.approx(1, abs=0.1)
    for level, version in zip((0.42, -1.31), found.earlier, strict=True):
        _, z = [z for gamma, z in seen if gamma == pytest.approx(level)]  # read off at the end of a stretch, then begun
        torch.testing.assert_close(noise(z, level, restore.blended(whole, version)), eps, atol=1e-6, rtol=0)


def test_the_map_is_the_harmonic_mean_over_the_versions() -> None:
    setting, sick = certain(), scans(1, blob=0.8)
    method = METHODS["harmonise"]
    found = method.restore(setting, sick)
    maps = [(sick.data - version).abs() for version in (found.scans, *found.earlier)]
    torch.testing.assert_close(method(setting, sick).maps, method.postprocess(sick, harmonic_mean(maps)))


def test_levels_have_to_fall() -> None:
    with pytest.raises(InputError, match="must fall"):
        Harmonise(0.3)
    with pytest.raises(InputError, match="must fall"):
        Harmonise(blends=(-1.31, 0.42))
