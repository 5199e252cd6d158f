import subprocess
import sys

import pytest
import torch

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import HaarStage, VolumeDiffusion
from medmol_diffusion.mri.unet import UNet3D


def awake(dtype: torch.dtype = torch.float64, **options: object) -> UNet3D:
    """A small network whose zero-initialised weights have been drawn at random, so that nothing is hidden by zeros."""
    settings: dict = {"channels": [8, 16], "blocks": 1} | options
    network = UNet3D(2, 3, **settings).to(dtype)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return network


def noise(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_starts_at_zero(dtype: torch.dtype) -> None:
    network = UNet3D(2, 3, channels=[8, 16], attention=[False, True]).to(dtype)
    out = network(noise(2, 2, 8, 8, 8, dtype=dtype), torch.tensor([-5.0, 5.0], dtype=dtype))
    assert out.dtype == dtype
    assert out.shape == (2, 3, 8, 8, 8)
    assert not out.any()


@pytest.mark.parametrize("size", [(7, 9, 5), (1, 3, 2), (8, 12, 4)])
@pytest.mark.parametrize("channels", [[8], [8, 8], [8, 8, 16]])
def test_any_size_keeps_its_shape(size: tuple[int, int, int], channels: list[int]) -> None:
    out = awake(channels=channels)(noise(2, 2, *size), torch.zeros(2).double())
    assert out.shape == (2, 3, *size)
    assert out.isfinite().all()


@pytest.mark.parametrize(("outside", "kernel"), [(1, 3), (7, 3), (8, 1), (64, 1)])
def test_wide_inputs_and_outputs_are_mixed_voxel_by_voxel(outside: int, kernel: int) -> None:
    network = UNet3D(outside, outside, channels=[8, 16])
    assert network.stem.kernel_size == network.head.kernel_size == (kernel,) * 3
    assert network(torch.zeros(1, outside, 3, 4, 5), torch.zeros(1)).shape == (1, outside, 3, 4, 5)


def test_padding_repeats_the_border() -> None:
    network = awake()
    x = noise(1, 2, 6, 5, 8)
    padded = torch.cat([x, x[:, :, :, -1:]], dim=3)
    gamma = torch.zeros(1).double()
    torch.testing.assert_close(network(x, gamma), network(padded, gamma)[:, :, :, :5])


def test_every_parameter_gets_a_gradient() -> None:
    network = awake(attention=[True, False], embedding_dim=4)
    network(noise(2, 2, 4, 4, 4), torch.tensor([0.5, -2.0]).double(), noise(2, 4)).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_gamma_and_embedding_change_the_output_of_their_own_example_only() -> None:
    network = awake(embedding_dim=4, attention=[False, True])
    x, gamma, embedding = noise(2, 2, 4, 4, 4), torch.tensor([1.0, 1.0]).double(), noise(2, 4)
    base = network(x, gamma, embedding)
    for changed in (
        network(x, torch.tensor([1.0, 1.2]).double(), embedding),
        network(x, gamma, embedding + torch.tensor([[0.0], [1.0]]).double()),
    ):
        torch.testing.assert_close(changed[0], base[0])
        assert (changed[1] - base[1]).abs().max() > 1e-3
    torch.testing.assert_close(network(x, gamma), network(x, gamma, torch.zeros_like(embedding)))


def test_float32_agrees_with_float64() -> None:
    x, gamma = noise(1, 2, 6, 6, 6), torch.tensor([-3.0]).double()
    double = awake(attention=[False, True])(x, gamma)
    single = awake(torch.float32, attention=[False, True])(x.float(), gamma.float())
    assert (single - double).detach().norm() < 1e-4 * double.detach().norm()


def test_bfloat16_autocast_runs_close_to_float32() -> None:
    network = awake(torch.float32, attention=[False, True], embedding_dim=4, token_dim=3)
    x, gamma = noise(1, 2, 5, 4, 4, dtype=torch.float32), torch.zeros(1)
    conditions = noise(1, 4, dtype=torch.float32), noise(1, 2, 3, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        low = network(x, gamma, *conditions)
    full = network(x, gamma, *conditions)
    assert low.dtype == torch.bfloat16
    assert (low.float() - full).detach().norm() < 0.05 * full.detach().norm()


def test_noise_level_and_modulation_stay_in_float32_under_autocast() -> None:
    network = awake(torch.float32, embedding_dim=4)
    seen: list[torch.Tensor] = []
    for block in (network.down[0][0], network.middle[1]):
        block.modulation.register_forward_hook(lambda module, inputs, out: seen.append(out))
    x, gamma, embedding = noise(1, 2, 4, 4, 4).float(), torch.tensor([2.003]), noise(1, 4).bfloat16()
    network(x, gamma, embedding)
    with torch.autocast("cpu", torch.bfloat16):
        network(x, gamma, embedding)
    torch.testing.assert_close(seen[2:], seen[:2], rtol=0, atol=0)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(InputError, match=r"channels has 2 levels and attention 1"):
        UNet3D(1, 1, channels=[8, 8], attention=[True])
    with pytest.raises(InputError, match=r"channels has 2 levels and cross_attention 1"):
        UNet3D(1, 1, channels=[8, 8], token_dim=3, cross_attention=[True])
    with pytest.raises(InputError, match="token_dim = 0 but cross_attention"):
        UNet3D(1, 1, channels=[8, 8], cross_attention=[True, False])
    with pytest.raises(InputError, match="token_dim = 3 but cross_attention"):
        UNet3D(1, 1, channels=[8, 8], token_dim=3, cross_attention=[False, False])
    with pytest.raises(InputError, match="got tokens but has token_dim = 0"):
        awake()(noise(1, 2, 4, 4, 4), torch.zeros(1).double(), None, noise(1, 2, 3))
    with pytest.raises(InputError, match="embedding_dim = 0"):
        awake()(noise(1, 2, 4, 4, 4), torch.zeros(1).double(), noise(1, 4))


def test_a_single_voxel_is_not_normalised_by_itself() -> None:
    """At one voxel of 8 channels in 8 groups every norm would answer zero, or fail: refused where the size is known."""
    with pytest.raises(InputError, match=r"single voxel of \[2, 2, 2\] .* 8 channels .* 16 channels there"):
        VolumeDiffusion([4, 4, 4], HaarStage(1), network=UNet3D(16, 16, [8, 8], 1))
    with pytest.raises(InputError, match="single voxel"):
        VolumeDiffusion([8, 8, 8], HaarStage(1), network=UNet3D(19, 16, [8, 4], 1), window=[4, 4, 4])
    for shape, channels in (([4, 4, 4], [8, 16]), ([4, 4, 6], [8, 8]), ([4, 4, 4], [8])):
        network = VolumeDiffusion(shape, HaarStage(1), network=UNet3D(16, 16, channels, 1)).network.network
        size = [side // 2 for side in shape]
        assert network(noise(1, 16, *size).float(), torch.zeros(1)).shape == (1, 16, *size)


def test_the_training_path_needs_neither_monai_nor_einops() -> None:
    modules = ["unet", "attention", "first_stages.haar_stage", "model", "transforms", "data", "volume"]
    code = "import sys\n" + "".join(f"import medmol_diffusion.mri.{name}\n" for name in modules)
    code += "assert not {'monai', 'einops', 'rdkit'} & set(sys.modules), 'heavy import'"
    subprocess.run([sys.executable, "-c", code], check=True)
