import pytest
import torch

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.first_stages.haar import Haar

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


@pytest.mark.parametrize("levels", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_decode_inverts_encode_and_inner_products_are_kept(levels: int, dtype: torch.dtype) -> None:
    haar = Haar(levels)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 2, 3, 16, 8, 24, generator=generator, dtype=dtype)
    u, v = haar.encode(x), haar.encode(y)
    f = haar.factor
    assert u.shape == (2, haar.channels(3), 16 // f, 8 // f, 24 // f)
    torch.testing.assert_close(haar.decode(u), x, rtol=0, atol=TOLERANCE[dtype])
    torch.testing.assert_close(haar.encode(haar.decode(u)), u, rtol=0, atol=TOLERANCE[dtype])
    scale = float(x.norm() * y.norm())
    assert abs(float((u * v).sum() - (x * y).sum())) < TOLERANCE[dtype] * scale


def test_the_jacobian_is_orthogonal_and_decode_is_its_transpose() -> None:
    haar = Haar(1)
    basis = torch.eye(64, dtype=torch.float64).reshape(64, 1, 4, 4, 4)
    encode = haar.encode(basis).reshape(64, 64)
    torch.testing.assert_close(encode @ encode.T, torch.eye(64, dtype=torch.float64), rtol=0, atol=1e-12)
    decode = haar.decode(torch.eye(64, dtype=torch.float64).reshape(64, 8, 2, 2, 2)).reshape(64, 64)
    torch.testing.assert_close(decode, encode.T, rtol=0, atol=1e-12)


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_channel_order_is_as_documented(levels: int) -> None:
    haar = Haar(levels)
    f = haar.factor
    constant = haar.encode(torch.full((1, 1, 8, 8, 8), 3.0, dtype=torch.float64))
    torch.testing.assert_close(constant[:, 0], torch.full_like(constant[:, 0], 3.0 * f**1.5))
    torch.testing.assert_close(constant[:, 1:], torch.zeros_like(constant[:, 1:]))

    # Alternating neighbours along Y: high-pass at the finest scale, hence k_y = 1 and k_x = k_z = 0.
    stripes = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(4)[None, None, None, :, None].expand(1, 1, 8, 8, 8)
    energy = haar.encode(stripes).square().sum(dim=(0, 2, 3, 4))
    assert energy.argmax() == f
    torch.testing.assert_close(energy[f], energy.sum())


def test_two_levels_are_one_level_twice() -> None:
    x = torch.randn(1, 1, 8, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    once = Haar(1).encode(Haar(1).encode(x))  # channel 8 k1 + k2: k1 fine, k2 coarse, each (x, y, z) bits
    order = [
        (((a_x + 2 * b_x) * 4) + a_y + 2 * b_y) * 4 + a_z + 2 * b_z
        for a_x in (0, 1)
        for a_y in (0, 1)
        for a_z in (0, 1)
        for b_x in (0, 1)
        for b_y in (0, 1)
        for b_z in (0, 1)
    ]
    torch.testing.assert_close(Haar(2).encode(x)[:, order], once)


def test_bad_sizes_are_named() -> None:
    with pytest.raises(InputError, match=r"8 x 10 x 8 voxels.*multiple of 4"):
        Haar(2).encode(torch.zeros(1, 1, 8, 10, 8))
    with pytest.raises(InputError, match="multiple of 64 channels, not 8"):
        Haar(2).decode(torch.zeros(1, 8, 2, 2, 2))
    with pytest.raises(InputError, match="levels >= 0"):
        Haar(-1)
