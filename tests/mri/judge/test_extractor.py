"""The shipped features against what they are made of, and a user's own."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.judge.extractor import HaarFeatures, ScriptedFeatures, Spread


def scans(count: int, *shape: int) -> torch.Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_features_are_fixed_and_declared() -> None:
    extractor = HaarFeatures()
    assert extractor.hash == HaarFeatures().hash
    assert len(extractor.hash) == 64
    x = scans(3, 9, 16, 11)
    features = extractor(x)
    assert features.shape == (3, 107)
    torch.testing.assert_close(extractor(x[1:2]), features[1:2], atol=1e-5, rtol=0)
    constant = extractor(torch.full((1, 8, 8, 8), 0.25))[0]
    torch.testing.assert_close(constant[42:], torch.full((65,), 0.25))  # the low-pass and the cells keep the mean
    torch.testing.assert_close(constant[:21], torch.full((21,), float(np.log(1e-6) / 10)), atol=1e-4, rtol=0)
    torch.testing.assert_close(constant[21:42], torch.zeros(21), atol=1e-4, rtol=0)


def test_bands_share_out_the_energy_of_every_block_and_cells_are_means() -> None:
    x = scans(2, 16, 8, 24)
    features = HaarFeatures()(x).numpy()
    blocks = x.numpy().reshape(2, 8, 2, 4, 2, 12, 2).transpose(0, 1, 3, 5, 2, 4, 6).reshape(2, -1, 8)
    detail = np.square(blocks).sum(2) - blocks.sum(2) ** 2 / 8  # by Parseval, of the seven high-pass bands together
    found = (np.exp(10 * features[:, :7]) - 1e-6).sum(1)
    np.testing.assert_allclose(found, detail.mean(1), rtol=1e-4)
    cells = x.numpy().reshape(2, 4, 4, 4, 2, 4, 6).mean((2, 4, 6)).reshape(2, 64)
    np.testing.assert_allclose(features[:, 43:], cells, atol=1e-5)


def test_sparsity_is_that_of_a_gaussian_for_noise_and_less_for_a_few_edges() -> None:
    noise = torch.randn(1, 64, 64, 64, generator=torch.Generator().manual_seed(0))
    sparsity = HaarFeatures()(noise)[0, 21:42]
    torch.testing.assert_close(sparsity, torch.full((21,), float(np.log(2 / np.pi) / 2)), atol=0.03, rtol=0)
    edge = torch.full((1, 64, 64, 64), -1.0)
    edge[:, 27:, :, :] = 1.0  # an edge inside a block at each level
    found = HaarFeatures()(edge)[0, 21:42].view(3, 7)
    shares = torch.tensor([1 / 32, 1 / 16, 1 / 8])  # of the blocks, those that hold it: ln of the root of the share
    torch.testing.assert_close(found.amin(1), shares.log() / 2, atol=0.02, rtol=0)


def test_a_feature_that_hardly_varies_does_not_outweigh_the_others() -> None:
    rng = np.random.default_rng(0)
    real = rng.standard_normal((500, 2)) * [1, 1e-9] + [3, 7]
    spread = Spread(real)
    np.testing.assert_allclose(spread(real).mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(spread(real).std(0), [1, 0], atol=0.02)
    assert np.isfinite(Spread(np.ones((4, 3)))(np.ones((2, 3)))).all()


class Means(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((3, 4)).flatten(1)


class OneNumber(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((1, 2, 3, 4))


class Undefined(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.mean((3, 4)).flatten(1) - 2).sqrt()


def saved(module: torch.nn.Module, path: Path) -> Path:
    torch.jit.trace(module, scans(1, 5, 6, 7)[:, None]).save(str(path))
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_users_torchscript_is_taken_as_it_is(tmp_path: Path) -> None:
    file = saved(Means(), tmp_path / "means.pt")
    own = ScriptedFeatures(file)
    x = scans(2, 5, 6, 7)
    torch.testing.assert_close(own(x), x.mean((2, 3)))
    assert own.hash == hashlib.sha256(file.read_bytes()).hexdigest()
    assert not own.in_spreads
    for module, fault in ((OneNumber(), r"\(N, d\)"), (Undefined(), "NaN")):
        with pytest.raises(InputError, match=fault):
            ScriptedFeatures(saved(module, tmp_path / "bad.pt"))(x)
    (tmp_path / "text.pt").write_text("no module")
    with pytest.raises(InputError, match=r"text\.pt cannot be loaded as TorchScript"):
        ScriptedFeatures(tmp_path / "text.pt")
