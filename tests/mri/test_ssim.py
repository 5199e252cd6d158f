import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import ssim


def by_scipy(x: np.ndarray, y: np.ndarray, scales: int) -> float:
    """MS-SSIM of Wang et al. from scipy's Gaussian filter, one scan."""
    weights = np.array([0.0448, 0.2856, 0.3001][:scales])
    value = 1.0
    for scale, weight in enumerate(weights / weights.sum()):
        if scale:
            x, y = (v.reshape(v.shape[0] // 2, 2, v.shape[1] // 2, 2, -1, 2).mean((1, 3, 5)) for v in (x, y))

        def window(v: np.ndarray) -> np.ndarray:
            return gaussian_filter(v, 1.5, radius=3)[3:-3, 3:-3, 3:-3]

        mean_x, mean_y = window(x), window(y)
        var_x, var_y = window(x * x) - mean_x**2, window(y * y) - mean_y**2
        structure = (2 * (window(x * y) - mean_x * mean_y) + 0.03**2) / (var_x + var_y + 0.03**2)
        luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
        value *= (structure * (luminance if scale == scales - 1 else 1)).mean() ** weight
    return value


@pytest.mark.parametrize("scales", [1, 2, 3])
def test_ms_ssim_is_one_for_equals_and_agrees_with_scipy(scales: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 28, 32, 36, generator=generator)
    y = (x + 0.2 * torch.randn(x.shape, generator=generator)).clamp(0, 1)
    torch.testing.assert_close(ssim.ms_ssim(x, x, scales), torch.ones(2))
    expected = [by_scipy(a.double().numpy(), b.double().numpy(), scales) for a, b in zip(x, y, strict=True)]
    np.testing.assert_allclose(ssim.ms_ssim(x, y, scales, data_range=1.0).numpy(), expected, rtol=1e-4)
    every = torch.ones(x.shape, dtype=torch.bool)
    torch.testing.assert_close(ssim.ms_ssim(x, y, scales, within=every), ssim.ms_ssim(x, y, scales))
    half = every & (
        torch.arange(36) < 18
    )  # whose windows see three voxels more at every scale, which halving rounds up
    near, other = y.clone(), y.clone()
    other[..., 20 + 3 * 2 ** (scales - 1) :] = 0.0
    near[..., :12] = 0.0
    assert torch.equal(*(ssim.ms_ssim(x, one, scales, within=half) for one in (y, other)))
    assert (ssim.ms_ssim(x, near, scales, within=half) < ssim.ms_ssim(x, y, scales, within=half)).all()
    far = (x + 0.6 * torch.randn(x.shape, generator=generator)).clamp(0, 1)
    assert (ssim.ms_ssim(x, far, scales) < ssim.ms_ssim(x, y, scales)).all()


def test_the_mean_over_pairs_is_that_of_each_by_itself() -> None:
    x = torch.rand(4, 16, 14, 15, generator=torch.Generator().manual_seed(0))
    pairs = [(i, j) for i in range(4) for j in range(i)]
    expected = np.mean([float(ssim.ms_ssim(x[i : i + 1], x[j : j + 1], scales=2)) for i, j in pairs])
    matrix = ssim.pairwise_ms_ssim(x, scales=2)
    assert ssim.mean_of_pairs(matrix, np.arange(4)) == pytest.approx(expected, abs=1e-6)
    same = ssim.pairwise_ms_ssim(x[:1].expand(3, -1, -1, -1), scales=2)
    assert ssim.mean_of_pairs(same, np.arange(3)) == pytest.approx(1, abs=1e-6)
    assert ssim.max_scales((32, 40, 32)) == 3
    assert ssim.max_scales((27, 40, 32)) == 2
    with pytest.raises(InputError, match="3 scales needs at least 28 voxels"):
        ssim.pairwise_ms_ssim(x, scales=3)
