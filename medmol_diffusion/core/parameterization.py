"""How a network's output is read: the estimates of x and eps that follow from it.

Errors are formed in the network's own output and scaled afterwards, so that nothing divides by alpha near pure noise or
by sigma near the data. All but the logits are linear: with the target p x + q eps, z = alpha x + sigma eps and
d = alpha q - sigma p, x_hat = (q z - sigma output) / d, eps_hat = (alpha output - p z) / d, x - x_hat = -(sigma / d)
error, eps - eps_hat = (alpha / d) error.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from medmol_diffusion.core.schedule import alpha, per_example, sigma
from medmol_diffusion.core.shapes import PerExample, Scale, State
from medmol_diffusion.core.space import Product, Space


class Parameterization(ABC):
    """How the network's output is read: which combination of x and eps it estimates.

    Tensors are states [B, ...] and gamma is [B], float64; ``space`` names the blocks of a product state.

    Attributes:
        needs_signal: x_hat divides by alpha, so that it does not exist at zero SNR (gamma = inf).
    """

    needs_signal: bool = False

    def scale_input(self, z: State, gamma: PerExample, space: Space) -> State:
        """z as the network should see it."""
        return z

    def linear(self, output: State, z: State, gamma: PerExample, space: Space) -> tuple[State, "Parameterization"]:
        """The same estimates as (output', parameterization'), x_hat and eps_hat being affine in output'."""
        return output, self

    @abstractmethod
    def x(self, output: State, z: State, gamma: PerExample, space: Space) -> State:
        """x_hat from the output."""

    @abstractmethod
    def eps(self, output: State, z: State, gamma: PerExample, space: Space) -> State:
        """eps_hat from the output."""

    @abstractmethod
    def target(self, x: State, eps: State, gamma: PerExample, space: Space) -> State:
        """What the output should be: p x + q eps."""

    def error(self, output: State, x: State, eps: State, gamma: PerExample, space: Space) -> State:
        """target - output, in the output's own units."""
        return self.target(x, eps, gamma, space) - output

    @abstractmethod
    def eps_scale(self, like: State, gamma: PerExample, space: Space) -> Scale:
        """c = alpha / d, broadcastable against a state, with eps - eps_hat = c * error."""

    @abstractmethod
    def x_scale(self, like: State, gamma: PerExample, space: Space) -> Scale:
        """-sigma / d = -e^(gamma/2) eps_scale, with x - x_hat = x_scale * error; each is finite where it should be, so
        neither is formed from the other."""


class Eps(Parameterization):
    """The output is eps_hat (Ho et al. 2020); x_hat = (z - sigma eps_hat) / alpha."""

    needs_signal = True

    def x(self, output: State, z: State, gamma: PerExample, space: Space) -> State:
        return (z - per_example(sigma(gamma), z) * output) / per_example(alpha(gamma), z)

    def eps(self, output: State, z: State, gamma: PerExample, space: Space) -> State:
        return output

    def target(self, x: State, eps: State, gamma: PerExample, space: Space) -> State:
        return eps

    def eps_scale(self, like: State, gamma: PerExample, space: Space) -> Scale:
        return per_example(torch.ones_like(gamma), like)

    def x_scale(self, like: State, gamma: PerExample, space: Space) -> Scale:
        return -per_example(torch.exp(gamma / 2), like)


class Score(Parameterization):
    """The output is the score, grad log p(z) = -eps_hat / sigma (Song et al. 2021)."""

    needs_signal = True

    def x(self, output: State, z: State, gamma: PerExample, space: Space) -> State:
        return (z + per_example(sigma(gamma).square(), z) * output) / per_example(alpha(gamma), z)

    def eps(self, output: State, z: State, gamma: PerExample, space: Space) -> State:
        return -per_example(sigma(gamma), z) * output

    def target(self, x: State, eps: State, gamma: PerExample, space: Space) -> State:
        return -eps / per_example(sigma(gamma), eps)

    def eps_scale(self, like: State, gamma: PerExample, space: Space) -> Scale:
        return -per_example(sigma(gamma), like)

    def x_scale(self, like: State, gamma: PerExample, space: Space) -> Scale:
        return per_example(sigma(gamma) * torch.exp(gamma / 2), like)


class X(Parameterization):
    """The output is x_hat; eps_hat = (z - alpha x_hat) / sigma."""

    def x(self, output: State, z: State, gamma: PerExample, space: Space) -> State:
        return output

    def eps(self, output: State, z: State, gamma: PerExample, space: Space) -> State:
        return (z - per_example(alpha(gamma), z) * self.x(output, z, gamma, space)) / per_example(sigma(gamma), z)

    def target(self, x: State, eps: State, gamma: PerExample, space: Space) -> State:
        return x

    def eps_scale(self, like: State, gamma: PerExample, space: Space) -> Scale:
        return -per_example(torch.exp(-gamma / 2), like)

    def x_scale(self, like: State, gamma: PerExample, space: Space) -> Scale:
        return per_example(torch.ones_like(gamma), like)


class Logits(X):
    """The output is the logits of a category; x_hat = scale * softmax(output), the mean of a scaled one-hot state.

    The error is that of x_hat, and the target log(x / scale): -inf for the categories that x is not, and no number at
    all for an x that is no mean of one-hot states.

    Args:
        scale: the value of the hot element.
    """

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def x(self, output: State, z: State, gamma: PerExample, space: Space) -> State:
        return self.scale * torch.softmax(output, dim=-1)

    def target(self, x: State, eps: State, gamma: PerExample, space: Space) -> State:
        return torch.log(x / self.scale)

    def error(self, output: State, x: State, eps: State, gamma: PerExample, space: Space) -> State:
        return x - self.x(output, x, gamma, space)

    def linear(self, output: State, z: State, gamma: PerExample, space: Space) -> tuple[State, Parameterization]:
        return self.x(output, z, gamma, space), X()


class V(Parameterization):
    """The output is v_hat = alpha eps_hat - sigma x_hat (Salimans & Ho 2022, appendix D)."""

    def x(self, output: State, z: State, gamma: PerExample, space: Space) -> State:
        return per_example(alpha(gamma), z) * z - per_example(sigma(gamma), z) * output

    def eps(self, output: State, z: State, gamma: PerExample, space: Space) -> State:
        return per_example(sigma(gamma), z) * z + per_example(alpha(gamma), z) * output

    def target(self, x: State, eps: State, gamma: PerExample, space: Space) -> State:
        return per_example(alpha(gamma), x) * eps - per_example(sigma(gamma), x) * x

    def eps_scale(self, like: State, gamma: PerExample, space: Space) -> Scale:
        return per_example(alpha(gamma), like)

    def x_scale(self, like: State, gamma: PerExample, space: Space) -> Scale:
        return -per_example(sigma(gamma), like)


class FlowVelocity(Parameterization):
    """The output is the velocity u_hat = eps_hat - x_hat of a rectified flow (Liu et al. 2023; Lipman et al. 2023).

    The network sees z / (alpha + sigma) = (1 - t) x + t eps, the state of the straight path at t = sigma /
    (alpha + sigma), whose velocity d/dt is eps - x: x_hat = (z - sigma u_hat) / (alpha + sigma).
    """

    def _norm(self, like: Tensor, gamma: Tensor) -> Tensor:
        return per_example(alpha(gamma) + sigma(gamma), like)

    def scale_input(self, z: State, gamma: PerExample, space: Space) -> State:
        return z / self._norm(z, gamma)

    def x(self, output: State, z: State, gamma: PerExample, space: Space) -> State:
        return (z - per_example(sigma(gamma), z) * output) / self._norm(z, gamma)

    def eps(self, output: State, z: State, gamma: PerExample, space: Space) -> State:
        return (z + per_example(alpha(gamma), z) * output) / self._norm(z, gamma)

    def target(self, x: State, eps: State, gamma: PerExample, space: Space) -> State:
        return eps - x

    def eps_scale(self, like: State, gamma: PerExample, space: Space) -> Scale:
        return per_example(alpha(gamma), like) / self._norm(like, gamma)

    def x_scale(self, like: State, gamma: PerExample, space: Space) -> Scale:
        return -per_example(sigma(gamma), like) / self._norm(like, gamma)


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

    def scale_input(self, z: State, gamma: PerExample, space: Space) -> State:
        return z * self._terms(z, gamma, space)[3] if self.scale else z

    def x(self, output: State, z: State, gamma: PerExample, space: Space) -> State:
        a, b, s, r = self._terms(z, gamma, space)
        return a * (s * r).square() * z + s * b * r * output

    def eps(self, output: State, z: State, gamma: PerExample, space: Space) -> State:
        a, b, s, r = self._terms(z, gamma, space)
        return b * r.square() * z - a * s * r * output

    def target(self, x: State, eps: State, gamma: PerExample, space: Space) -> State:
        a, b, s, r = self._terms(x, gamma, space)
        return (b * x / s - a * s * eps) * r

    def eps_scale(self, like: State, gamma: PerExample, space: Space) -> Scale:
        a, _, s, r = self._terms(like, gamma, space)
        return -a * s * r

    def x_scale(self, like: State, gamma: PerExample, space: Space) -> Scale:
        _, b, s, r = self._terms(like, gamma, space)
        return b * s * r


class PerBlock(Parameterization):
    """One parameterization for each block of a Product space.

    Args:
        blocks: the parameterization of every block, by name.
    """

    def __init__(self, blocks: Mapping[str, Parameterization]) -> None:
        self.blocks = dict(blocks)
        self.needs_signal = any(part.needs_signal for part in self.blocks.values())

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

    def scale_input(self, z: State, gamma: PerExample, space: Space) -> State:
        return self._map("scale_input", (z,), gamma, space)

    def linear(self, output: State, z: State, gamma: PerExample, space: Space) -> tuple[State, Parameterization]:
        assert isinstance(space, Product)
        outputs, states = space.split(output), space.split(z)
        parts = {
            name: part.linear(outputs[name], states[name], gamma, space.blocks[name])
            for name, part in self.blocks.items()
        }
        affine = PerBlock({name: reading for name, (_, reading) in parts.items()})
        return space.join({name: out for name, (out, _) in parts.items()}), affine

    def x(self, output: State, z: State, gamma: PerExample, space: Space) -> State:
        return self._map("x", (output, z), gamma, space)

    def eps(self, output: State, z: State, gamma: PerExample, space: Space) -> State:
        return self._map("eps", (output, z), gamma, space)

    def target(self, x: State, eps: State, gamma: PerExample, space: Space) -> State:
        return self._map("target", (x, eps), gamma, space)

    def error(self, output: State, x: State, eps: State, gamma: PerExample, space: Space) -> State:
        return self._map("error", (output, x, eps), gamma, space)

    def eps_scale(self, like: State, gamma: PerExample, space: Space) -> Scale:
        return self._map("eps_scale", (like,), gamma, space)

    def x_scale(self, like: State, gamma: PerExample, space: Space) -> Scale:
        return self._map("x_scale", (like,), gamma, space)
