"""A network that also says how sure it is: the learned reverse variance (Nichol & Dhariwal 2021, section 3.1)."""

from typing import Any

import torch
from torch import nn

from medmol_diffusion.core.denoiser import Denoiser, Prediction
from medmol_diffusion.core.parameterization import Parameterization
from medmol_diffusion.core.schedule import alpha, per_example, sigma
from medmol_diffusion.core.shapes import PerExample, Scale, State
from medmol_diffusion.core.space import Product, Space, ZeroCentre


class VarianceDenoiser(Denoiser):
    """A network of twice the channels: one half is read as the mean, the other as C = Var[x | z_t] per element.

    C = sigmoid(output) C_max, C_max = s^2 sigma^2 / (alpha^2 s^2 + sigma^2) = Var[x | z_t] of white Gaussian data. The
    reverse variance of a step to gamma_s is r times beta_tilde, r = 1 + (e^-gamma_s - e^-gamma_t) C (Ancestral,
    transition_kl). C = 0 is the lower bound of Nichol & Dhariwal, beta_tilde; C = C_max with s = 1 is their upper one,
    beta, whatever gamma_s is. They interpolate between the logarithms of the two: the same to first order in a short
    step, but another C for every step length. The best r is linear in Var[x | z_t], so that one C serves every number
    of steps.

    For data that are not Gaussian C_max holds on average over z, not for every z: take s no smaller than the data's
    standard deviation.

    Args:
        network: network(z, gamma, space, condition) -> (output, logit of C / C_max), side by side along ``dim``.
        parameterization: what the output is.
        data_std: s, of the elements of the state.
        dim: the axis of the channels.

    Raises:
        ValueError: data_std is not positive; on a call, the halves are not of z's shape, or the space has a
            zero-centre block, whose elements have no variance each of its own.
    """

    def __init__(
        self, network: nn.Module, parameterization: Parameterization, data_std: float = 1.0, dim: int = -1
    ) -> None:
        super().__init__()
        if not data_std > 0:
            raise ValueError(f"data_std = {data_std} must be positive")
        self.network, self.parameterization = network, parameterization
        self.data_std, self.dim = data_std, dim

    @property
    def needs_signal(self) -> bool:
        return self.parameterization.needs_signal

    def forward(self, z: State, gamma: PerExample, space: Space, condition: Any = None) -> Prediction:
        if _zero_centre(space):
            raise ValueError("a variance for every element has no meaning on a zero-centre space: use a fixed variance")
        both = self.network(self.parameterization.scale_input(z, gamma, space), gamma, space, condition)
        output, logit = both.chunk(2, self.dim)
        if not output.shape == logit.shape == z.shape:
            raise ValueError(
                f"the network gives {list(both.shape)}: a VarianceDenoiser needs twice {list(z.shape)} along {self.dim}"
            )
        return Prediction(output, z, gamma, self.parameterization, space, self.bound(gamma, z) * torch.sigmoid(logit))

    def bound(self, gamma: PerExample, like: State) -> Scale:
        """C_max, broadcastable against a state."""
        s2, b2 = self.data_std**2, sigma(gamma).square()
        return per_example(s2 * b2 / (alpha(gamma).square() * s2 + b2), like)


def _zero_centre(space: Space) -> bool:
    if isinstance(space, Product):
        return any(_zero_centre(block) for block in space.blocks.values())
    return isinstance(space, ZeroCentre)
