"""What the resolution gamma_0 costs."""

import math

import numpy as np
import pytest
import torch

from medmol_diffusion.core import Dense
from medmol_diffusion.core.observation import DiscretizedGaussian
from medmol_diffusion.core.schedule import alpha, sigma

WIDTH = 2 / 255


@pytest.mark.parametrize(
    ("gamma_0", "price"), [(-13.3, 0.43), (2 * math.log(WIDTH / 2), 0.02), (-10.0, 0.003)], ids=["-13.3", "w/2", "-10"]
)
def test_the_price_of_a_resolution_on_flat_data_is_as_documented(gamma_0: float, price: float) -> None:
    """Grey levels evenly spread, a model that takes them for a flat density: its bound codes z_0, whose entropy given x
    is 1/2 log(2 pi e sigma_0^2 / alpha_0^2), at log w less than a level; then the level given z_0. What is left is
    the price, docs/theory/likelihood.md."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    eps, weights = torch.from_numpy(nodes)[:, None], torch.from_numpy(weights / weights.sum())
    gamma = torch.full((len(eps),), gamma_0, dtype=torch.float64)
    x = torch.full_like(eps, WIDTH / 2)  # a bin centre in the middle of 256
    z = alpha(gamma)[:, None] * x + sigma(gamma)[:, None] * eps
    nll = DiscretizedGaussian(256).nll((x, torch.ones_like(x, dtype=torch.bool)), z, gamma, Dense(z))
    coded = (weights * nll).sum().item() + math.log(WIDTH) - 0.5 * (math.log(2 * math.pi * math.e) + gamma_0)
    assert coded == pytest.approx(price, rel=0.15)
