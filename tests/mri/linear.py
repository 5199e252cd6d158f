"""A linear Gaussian autoencoder, whose likelihood and posterior are known."""

import math

import torch
from torch import Tensor, nn

from medmol_diffusion.mri import Autoencoder, VolumeBatch

LEVELS = 65536
WIDTH = 2 / (LEVELS - 1)
NOISE = 0.05


class LinearNetwork(nn.Module):
    """u in R^2 ~ N(0, I), v = W u + b + NOISE n in R^8 with orthogonal columns of W, so that the posterior is diagonal.

    Its encoder is the exact posterior, the standard deviation times ``spread``. It stands in for MONAI's network.
    """

    def __init__(self, spread: float = 1.0) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(3)
        basis, _ = torch.linalg.qr(torch.randn(8, 2, generator=draw, dtype=torch.float64))
        self.register_buffer("matrix", basis * torch.tensor([0.3, 0.1], dtype=torch.float64))
        self.register_buffer("offset", 0.1 * torch.randn(8, generator=draw, dtype=torch.float64))
        self.spread = spread

    @property
    def variance(self) -> Tensor:
        """[2] of the true posterior."""
        return 1 / (1 + self.matrix.square().sum(0) / NOISE**2)

    def encode(self, v: Tensor) -> tuple[Tensor, Tensor]:
        mean = (v.flatten(1) - self.offset) @ self.matrix * self.variance / NOISE**2
        sigma = self.spread * self.variance.sqrt().expand_as(mean)
        return mean.view(-1, 2, 1, 1, 1), sigma.reshape(-1, 2, 1, 1, 1)

    def decode(self, u: Tensor) -> Tensor:
        return (u.flatten(1) @ self.matrix.T + self.offset).view(-1, 1, 2, 2, 2)


def linear_autoencoder(spread: float = 1.0) -> Autoencoder:
    model = Autoencoder([2, 2, 2], LEVELS, channels=[8, 8], latent_channels=2, observation="gaussian")
    model.network = LinearNetwork(spread)
    model = model.double().eval()
    model.likelihood.log_scale.data.fill_(math.log(NOISE))
    return model


def drawn_scans(count: int) -> VolumeBatch:
    """Scans of the model, rounded to grey levels."""
    network, draw = LinearNetwork(), torch.Generator().manual_seed(4)
    u = torch.randn(count, 2, generator=draw, dtype=torch.float64)
    noise = NOISE * torch.randn(count, 8, generator=draw, dtype=torch.float64)
    v = u @ network.matrix.T + network.offset + noise
    data = (torch.round((v + 1) / WIDTH) * WIDTH - 1).view(-1, 1, 2, 2, 2)
    mask = torch.ones_like(data, dtype=torch.bool)
    return VolumeBatch(data, mask, torch.arange(count), [f"scan-{i}" for i in range(count)])


def exact_nll(batch: VolumeBatch) -> Tensor:
    """[B] -log p(v) of the grey levels, nats: bins this narrow have the density's mass."""
    network = LinearNetwork()
    covariance = network.matrix @ network.matrix.T + NOISE**2 * torch.eye(8, dtype=torch.float64)
    density = torch.distributions.MultivariateNormal(network.offset, covariance)
    return -density.log_prob(batch.data.flatten(1)) - 8 * math.log(WIDTH)
