"""What a network predicts, and the estimates of x and eps that follow from it.

A Denoiser maps (z, gamma) to a Prediction. Errors are formed in the network's own output and scaled afterwards, so that
nothing divides by alpha near pure noise or by sigma near the data.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from medmol_diffusion.core.schedule import alpha, per_example, sigma
from medmol_diffusion.core.space import Product, Space


class Parameterization(ABC):
    """How the network's output is read: which combination of x and eps it estimates.

    Tensors are states [B, ...] and gamma is [B], float64; ``space`` names the blocks of a product state.
    """

    def scale_input(self, z: Tensor, gamma: Tensor, space: Space) -> Tensor:
        """z as the network should see it."""
        return z

    @abstractmethod
    def x(self, output: Tensor, z: Tensor, gamma: Tensor, space: Space) -> Tensor:
        """x_hat from the output."""

    @abstractmethod
    def eps(self, output: Tensor, z: Tensor, gamma: Tensor, space: Space) -> Tensor:
        """eps_hat from the output."""

    @abstractmethod
    def error(self, output: Tensor, x: Tensor, eps: Tensor, gamma: Tensor, space: Space) -> Tensor:
        """target - output, in the output's own units."""

    @abstractmethod
    def eps_scale(self, like: Tensor, gamma: Tensor, space: Space) -> Tensor:
        """c, broadcastable against a state, with eps - eps_hat = c * error."""


class Eps(Parameterization):
    """The output is eps_hat (Ho et al. 2020); x_hat = (z - sigma eps_hat) / alpha."""

    def x(self, output: Tensor, z: Tensor, gamma: Tensor, space: Space) -> Tensor:
        return (z - per_example(sigma(gamma), z) * output) / per_example(alpha(gamma), z)

    def eps(self, output: Tensor, z: Tensor, gamma: Tensor, space: Space) -> Tensor:
        return output

    def error(self, output: Tensor, x: Tensor, eps: Tensor, gamma: Tensor, space: Space) -> Tensor:
        return eps - output

    def eps_scale(self, like: Tensor, gamma: Tensor, space: Space) -> Tensor:
        return per_example(torch.ones_like(gamma), like)


class X(Parameterization):
    """The output is x_hat; eps_hat = (z - alpha x_hat) / sigma."""

    def x(self, output: Tensor, z: Tensor, gamma: Tensor, space: Space) -> Tensor:
        return output

    def eps(self, output: Tensor, z: Tensor, gamma: Tensor, space: Space) -> Tensor:
        return (z - per_example(alpha(gamma), z) * self.x(output, z, gamma, space)) / per_example(sigma(gamma), z)

    def error(self, output: Tensor, x: Tensor, eps: Tensor, gamma: Tensor, space: Space) -> Tensor:
        return x - self.x(output, x, gamma, space)

    def eps_scale(self, like: Tensor, gamma: Tensor, space: Space) -> Tensor:
        return -per_example(torch.exp(-gamma / 2), like)


class Logits(X):
    """The output is the logits of a category; x_hat = scale * softmax(output), the mean of a scaled one-hot state.

    Args:
        scale: the value of the hot element.
    """

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def x(self, output: Tensor, z: Tensor, gamma: Tensor, space: Space) -> Tensor:
        return self.scale * torch.softmax(output, dim=-1)


class V(Parameterization):
    """The output is v_hat = alpha eps_hat - sigma x_hat (Salimans & Ho 2022, appendix D)."""

    def x(self, output: Tensor, z: Tensor, gamma: Tensor, space: Space) -> Tensor:
        return per_example(alpha(gamma), z) * z - per_example(sigma(gamma), z) * output

    def eps(self, output: Tensor, z: Tensor, gamma: Tensor, space: Space) -> Tensor:
        return per_example(sigma(gamma), z) * z + per_example(alpha(gamma), z) * output

    def error(self, output: Tensor, x: Tensor, eps: Tensor, gamma: Tensor, space: Space) -> Tensor:
        return per_example(alpha(gamma), x) * eps - per_example(sigma(gamma), x) * x - output

    def eps_scale(self, like: Tensor, gamma: Tensor, space: Space) -> Tensor:
        return per_example(alpha(gamma), like)


class Preconditioned(Parameterization):
    """The output is F, the unit-variance residual of the best linear denoiser (Karras et al. 2022, eq. 7, in this
    frame).

    With s the data's standard deviation and D = alpha^2 s^2 + sigma^2: the network sees z / sqrt D,
    x_hat = (alpha s^2 / D) z + (s sigma / sqrt D) F, and F's target is (sigma x / s - alpha s eps) / sqrt D.

    Args:
        data_std: broadcastable against a state [B, ...]: a scalar, one value per channel; or a function of the space.
        scale: whether the network sees z / sqrt D or z itself.
    """

    def __init__(self, data_std: Tensor | Callable[[Space], Tensor], scale: bool = True) -> None:
        self.data_std, self.scale = data_std, scale

    def _terms(self, like: Tensor, gamma: Tensor, space: Space) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        std = self.data_std if isinstance(self.data_std, Tensor) else self.data_std(space)
        a, b, s = per_example(alpha(gamma), like), per_example(sigma(gamma), like), std.to(like)
        return a, b, s, torch.rsqrt((a * s).square() + b.square())

    def scale_input(self, z: Tensor, gamma: Tensor, space: Space) -> Tensor:
        return z * self._terms(z, gamma, space)[3] if self.scale else z

    def x(self, output: Tensor, z: Tensor, gamma: Tensor, space: Space) -> Tensor:
        a, b, s, r = self._terms(z, gamma, space)
        return a * (s * r).square() * z + s * b * r * output

    def eps(self, output: Tensor, z: Tensor, gamma: Tensor, space: Space) -> Tensor:
        a, b, s, r = self._terms(z, gamma, space)
        return b * r.square() * z - a * s * r * output

    def error(self, output: Tensor, x: Tensor, eps: Tensor, gamma: Tensor, space: Space) -> Tensor:
        a, b, s, r = self._terms(x, gamma, space)
        return (b * x / s - a * s * eps) * r - output

    def eps_scale(self, like: Tensor, gamma: Tensor, space: Space) -> Tensor:
        a, _, s, r = self._terms(like, gamma, space)
        return -a * s * r


class PerBlock(Parameterization):
    """One parameterization for each block of a Product space.

    Args:
        blocks: the parameterization of every block, by name.
    """

    def __init__(self, blocks: Mapping[str, Parameterization]) -> None:
        self.blocks = dict(blocks)

    def _map(self, method: str, states: tuple[Tensor, ...], gamma: Tensor, space: Space) -> Tensor:
        if not isinstance(space, Product):
            raise TypeError(f"PerBlock reads the states of a Product space, not of {type(space).__name__}")
        split = [space.split(state) for state in states]
        out = {}
        for name, part in self.blocks.items():
            shape = space.blocks[name].shape
            value = getattr(part, method)(*(s[name] for s in split), gamma, space.blocks[name])
            out[name] = value.expand(shape)
        return space.join(out)

    def scale_input(self, z: Tensor, gamma: Tensor, space: Space) -> Tensor:
        return self._map("scale_input", (z,), gamma, space)

    def x(self, output: Tensor, z: Tensor, gamma: Tensor, space: Space) -> Tensor:
        return self._map("x", (output, z), gamma, space)

    def eps(self, output: Tensor, z: Tensor, gamma: Tensor, space: Space) -> Tensor:
        return self._map("eps", (output, z), gamma, space)

    def error(self, output: Tensor, x: Tensor, eps: Tensor, gamma: Tensor, space: Space) -> Tensor:
        return self._map("error", (output, x, eps), gamma, space)

    def eps_scale(self, like: Tensor, gamma: Tensor, space: Space) -> Tensor:
        return self._map("eps_scale", (like,), gamma, space)


@dataclass(frozen=True)
class Prediction:
    """What a denoiser says of z at noise level gamma; every estimate is projected onto the space.

    Attributes:
        output: the network's output, [B, ...].
        z: the noisy state, [B, ...].
        gamma: [B] float64.
        parameterization: how the output is read.
        space: where the state lives.
        x_variance: Var[x | z] per element, where the denoiser knows it; the reverse step and the discrete bound use it.
    """

    output: Tensor
    z: Tensor
    gamma: Tensor
    parameterization: Parameterization
    space: Space
    x_variance: Tensor | None = None

    @cached_property
    def x(self) -> Tensor:
        """x_hat = E[x | z]."""
        return self.space.project(self.parameterization.x(self.output, self.z, self.gamma, self.space))

    @cached_property
    def eps(self) -> Tensor:
        """eps_hat = E[eps | z]."""
        return self.space.project(self.parameterization.eps(self.output, self.z, self.gamma, self.space))

    @property
    def v(self) -> Tensor:
        """alpha eps_hat - sigma x_hat."""
        return per_example(alpha(self.gamma), self.z) * self.eps - per_example(sigma(self.gamma), self.z) * self.x

    @property
    def score(self) -> Tensor:
        """grad log p(z) = -eps_hat / sigma."""
        return -self.eps / per_example(sigma(self.gamma), self.z)

    def error(self, x: Tensor, eps: Tensor) -> Tensor:
        """target - output, in the output's own units."""
        return self.parameterization.error(self.output, x, eps, self.gamma, self.space)

    def eps_scale(self) -> Tensor:
        """c with eps - eps_hat = c * error before projection."""
        return self.parameterization.eps_scale(self.z, self.gamma, self.space)

    def eps_error(self, x: Tensor, eps: Tensor) -> Tensor:
        """eps - eps_hat, on the space."""
        return self.space.project(self.eps_scale() * self.error(x, eps))


class Denoiser(nn.Module, ABC):
    """denoiser(z, gamma, space, condition) -> Prediction. Guidance wraps a Denoiser and is one."""

    @abstractmethod
    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: Any = None) -> Prediction:
        """Args: z [B, ...], gamma [B] float64, the space of z, and whatever the network is conditioned on."""


class NetworkDenoiser(Denoiser):
    """A network and the reading of its output.

    Args:
        network: network(z, gamma, space, condition) -> output of z's shape.
        parameterization: what that output is.
    """

    def __init__(self, network: nn.Module, parameterization: Parameterization) -> None:
        super().__init__()
        self.network, self.parameterization = network, parameterization

    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: Any = None) -> Prediction:
        output = self.network(self.parameterization.scale_input(z, gamma, space), gamma, space, condition)
        return Prediction(output, z, gamma, self.parameterization, space)
