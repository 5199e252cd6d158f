"""Every way to read a network's output tells the same story of x, eps and z, and gives the same bound."""

import pytest
import torch
from torch import Tensor

from medmol_diffusion.core import (
    Denoiser,
    Dense,
    Eps,
    GaussianDenoiser,
    LinearGamma,
    Logits,
    Parameterization,
    PerBlock,
    Preconditioned,
    Prediction,
    Space,
    Streams,
    V,
    X,
    ZeroCentre,
    alpha,
    diffuse,
    elbo,
    sigma,
)
from medmol_diffusion.core.observation import Gaussian
from tests.core.oracle import molecule_space

PARAMETERIZATIONS: dict[str, Parameterization] = {
    "eps": Eps(),
    "x": X(),
    "v": V(),
    "preconditioned": Preconditioned(torch.tensor(0.7)),
    "per_channel": Preconditioned(torch.tensor([0.1, 0.7, 3.0])),
    "logits": Logits(0.25),
}
parameterizations = pytest.mark.parametrize(
    "parameterization", PARAMETERIZATIONS.values(), ids=PARAMETERIZATIONS.keys()
)
GAMMA = torch.tensor([-12.0, -3.0, 0.0, 2.0, 9.0], dtype=torch.float64)


def states(count: int = 3, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(5, 4, 3, generator=generator, dtype=dtype) for _ in range(count)]


def per_item(value: Tensor) -> Tensor:
    return value[:, None, None]


@parameterizations
def test_x_and_eps_recombine_to_z_whatever_the_output(parameterization: Parameterization) -> None:
    output, z = states(2)
    found = Prediction(output, z, GAMMA, parameterization, Dense(z))
    torch.testing.assert_close(
        per_item(alpha(GAMMA)) * found.x + per_item(sigma(GAMMA)) * found.eps, z, rtol=1e-10, atol=1e-10
    )
    torch.testing.assert_close(per_item(alpha(GAMMA)) * z - per_item(sigma(GAMMA)) * found.v, found.x)
    torch.testing.assert_close(found.score, (per_item(alpha(GAMMA)) * found.x - z) / per_item(sigma(GAMMA)) ** 2)


@parameterizations
def test_no_error_means_the_exact_x_and_eps(parameterization: Parameterization) -> None:
    x, eps, logits = states()
    space = Dense(x)
    if isinstance(parameterization, Logits):
        output, x = logits, 0.25 * torch.softmax(logits, -1)
    else:
        output = parameterization.error(torch.zeros_like(x), x, eps, GAMMA, space)  # target - 0
    found = Prediction(output, diffuse(x, eps, GAMMA), GAMMA, parameterization, space)
    assert found.error(x, eps).abs().max() < 1e-14
    torch.testing.assert_close(found.x, x, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.eps, eps, rtol=1e-9, atol=1e-9)


@parameterizations
def test_eps_error_is_eps_minus_eps_hat(parameterization: Parameterization) -> None:
    x, eps, output = states()
    found = Prediction(output, diffuse(x, eps, GAMMA), GAMMA, parameterization, Dense(x))
    torch.testing.assert_close(found.eps_error(x, eps), eps - found.eps, rtol=1e-9, atol=1e-9)


@parameterizations
@pytest.mark.parametrize("level", [-15.0, 15.0])
def test_errors_keep_their_digits_in_float32_at_the_ends(parameterization: Parameterization, level: float) -> None:
    gamma = torch.full((5,), level, dtype=torch.float64)
    errors = []
    for dtype in (torch.float32, torch.float64):
        x, eps, output = (v.to(dtype) for v in states(dtype=torch.float32))
        found = Prediction(output, diffuse(x, eps, gamma), gamma, parameterization, Dense(x))
        errors.append(found.eps_error(x, eps))
        assert errors[-1].dtype == dtype
        assert torch.isfinite(found.x).all()
        assert torch.isfinite(found.eps).all()
    torch.testing.assert_close(errors[0].double(), errors[1], rtol=1e-5, atol=1e-5 * errors[1].abs().max().item())


def test_blocks_are_read_each_in_their_own_way() -> None:
    mask = torch.arange(4) < torch.tensor([4, 2])[:, None]
    space = molecule_space(mask, 3)
    generator = torch.Generator().manual_seed(0)
    output, x, eps = (torch.randn(space.shape, generator=generator, dtype=torch.float64) for _ in range(3))
    x, eps, gamma = space.project(x), space.project(eps), GAMMA[:2]
    z = diffuse(x, eps, gamma)
    parts = {"positions": V(), "features": Logits(0.25)}
    found = Prediction(output, z, gamma, PerBlock(parts), space)
    torch.testing.assert_close(found.eps_error(x, eps), eps - found.eps, rtol=1e-9, atol=1e-9)
    for name, part in parts.items():
        block = space.blocks[name]
        alone = Prediction(space.split(output)[name], space.split(z)[name], gamma, part, block)
        torch.testing.assert_close(space.split(found.x)[name], alone.x)
        torch.testing.assert_close(space.split(found.eps_scale())[name], alone.eps_scale().expand(block.shape))
    with pytest.raises(TypeError, match="Product space, not of Dense"):
        PerBlock(parts).x(output, z, gamma, Dense(z))


class Seen(Denoiser):
    """An oracle whose estimates are handed on as the output of another parameterization."""

    def __init__(self, oracle: Denoiser, parameterization: Parameterization) -> None:
        super().__init__()
        self.oracle, self.parameterization = oracle, parameterization

    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: object = None) -> Prediction:
        told = self.oracle(z, gamma, space)
        output = self.parameterization.error(torch.zeros_like(z), told.x, told.eps, gamma, space)
        return Prediction(output, z, gamma, self.parameterization, space)


@pytest.mark.parametrize("transitions", [0, 40])
@pytest.mark.parametrize("zero_centre", [False, True])
@pytest.mark.parametrize("name", ["x", "v", "preconditioned", "per_channel"])
def test_the_bound_is_the_same_through_every_parameterization(name: str, zero_centre: bool, transitions: int) -> None:
    x = states(1)[0]
    mask = torch.ones(5, 4, dtype=torch.bool)
    space: Space = ZeroCentre(mask) if zero_centre else Dense(x)
    x = space.project(x)
    oracle = GaussianDenoiser(torch.full((12,), 0.8, dtype=torch.float64))
    terms = [
        elbo(
            Seen(oracle, PARAMETERIZATIONS[kind]), LinearGamma(-10.0, 8.0), space, x, Gaussian(), x,
            Streams(0, torch.arange(5)), transitions, draws=3,
        ).terms
        for kind in ("eps", name)
    ]  # fmt: skip
    for term, value in terms[0].items():
        torch.testing.assert_close(terms[1][term], value, rtol=1e-8, atol=1e-8)
