"""p(data | z_0): how the data arise from the state at the data end, in nats.

The only place, beside each domain's own named terms, where the bound of a scan and of a molecule differ.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from medmol_diffusion.core import space as spaces
from medmol_diffusion.core.schedule import alpha, per_example, sigma
from medmol_diffusion.core.shapes import PerExample, Scale, State, Times
from medmol_diffusion.core.space import Space


def log_gaussian_mass(lower: Times, upper: Times) -> Times:
    """log(Phi(upper) - Phi(lower)) for lower < upper, accurate in both tails."""
    # By symmetry the interval is moved to the left half-line, where log Phi loses no digit.
    flip = lower + upper > 0
    low, high = torch.where(flip, -upper, lower), torch.where(flip, -lower, upper)
    log_high: Tensor = torch.special.log_ndtr(high)
    return log_high + torch.log(-torch.expm1(torch.special.log_ndtr(low) - log_high))


class Observation(ABC):
    """A likelihood of the data given z_0 ~ q(z_0 | x).

    ``needs_denoiser`` says whether the likelihood is centred on x_hat(z_0); otherwise it is read off z_0 itself.
    """

    needs_denoiser: bool = False

    @abstractmethod
    def nll(
        self,
        data: Any,
        z: State,
        gamma: PerExample,
        space: Space,
        x_hat: State | None = None,
        x_variance: Scale | None = None,
    ) -> PerExample:
        """[B] -log p(data | z_0), nats.

        Args:
            data: what is observed; its form is the observation's own.
            z: z_0, a state of ``space``.
            gamma: [B] gamma_0.
            space: where z_0 lives.
            x_hat: E[x | z_0], where ``needs_denoiser``.
            x_variance: Var[x | z_0] per element, where the denoiser knows it.
        """


class Gaussian(Observation):
    """N(x; x_hat(z_0), e^gamma_0) on the space's own degrees of freedom; the data are the clean state x itself.

    The constant is dim (gamma_0 + log 2 pi) / 2. Where Var[x | z_0] is known, it takes the place of e^gamma_0.
    """

    needs_denoiser = True

    def nll(
        self,
        data: Tensor,
        z: State,
        gamma: PerExample,
        space: Space,
        x_hat: State | None = None,
        x_variance: Scale | None = None,
    ) -> PerExample:
        if x_hat is None:
            raise TypeError("the Gaussian observation is centred on x_hat: pass it")
        if x_variance is not None:
            return space.sum(0.5 * ((data - x_hat).square() / x_variance + torch.log(2 * math.pi * x_variance)))
        scaled = (data - x_hat) * per_example(torch.exp(-gamma / 2), z)
        return 0.5 * space.squared_norm(scaled) + space.dim() * 0.5 * (gamma + math.log(2 * math.pi))


class DiscretizedGaussian(Observation):
    """Each value is one of ``levels`` bin centres on [-1, 1]; its probability is the mass of N(z_0 / alpha_0,
    e^gamma_0) in its bin.

    The first and the last bin are open to the outside, so the masses sum to one.

    Args:
        levels: the number of bins; the bin width is 2 / (levels - 1).
        decode: from a state to the data's own coordinates, an orthonormal map (the inverse wavelet transform of a
            scan).
    """

    def __init__(self, levels: int = 256, decode: Callable[[Tensor], Tensor] | None = None) -> None:
        self.levels, self.decode = levels, decode

    def nll(
        self,
        data: tuple[Tensor, Tensor],
        z: State,
        gamma: PerExample,
        space: Space,
        x_hat: State | None = None,
        x_variance: Scale | None = None,
    ) -> PerExample:
        """``data`` is (values [B, ...] on the bin centres, mask of the same shape: the values that are counted)."""
        values, mask = data
        mean = z / per_example(alpha(gamma), z)
        mean = (mean if self.decode is None else self.decode(mean)).double()
        inverse_std = per_example(torch.exp(-gamma / 2), mean)
        half = 1 / (self.levels - 1)
        centre = values.double()
        lower = torch.where(centre <= -1 + half, -torch.inf, (centre - half - mean) * inverse_std)
        upper = torch.where(centre >= 1 - half, torch.inf, (centre + half - mean) * inverse_std)
        return -(log_gaussian_mass(lower, upper) * mask).flatten(1).sum(1)


class Categorical(Observation):
    """Labels seen through a one-hot state scaled by 1 / ``scale``.

    log p(k | z) is proportional to the mass of N(scale z_k, scale sigma_0) in [1/2, 3/2], normalised over k
    (Hoogeboom et al. 2022, appendix B). It reads z_0 itself.
    """

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def log_prob(self, z: State, gamma: PerExample) -> Tensor:
        """[B, ..., K] log-probability of every label."""
        mean, std = z.double() * self.scale, per_example(sigma(gamma), z.double()) * self.scale
        return torch.log_softmax(log_gaussian_mass((0.5 - mean) / std, (1.5 - mean) / std), dim=-1)

    def nll(
        self,
        data: Tensor,
        z: State,
        gamma: PerExample,
        space: Space,
        x_hat: State | None = None,
        x_variance: Scale | None = None,
    ) -> PerExample:
        """``data`` [B, ...] int64 labels; only the rows of ``space`` (Masked or Dense) count."""
        chosen = self.log_prob(z, gamma).gather(-1, data[..., None]).squeeze(-1)
        return -_sum_rows(chosen, space)


class Ordinal(Observation):
    """Integers seen through a state scaled by 1 / ``scale``: the mass of N(scale z, scale sigma_0) in [q - 1/2, q +
    1/2].

    The cells of all integers cover the line, so the masses sum to one. It reads z_0 itself.
    """

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = scale

    def log_prob(self, value: Tensor, z: State, gamma: PerExample) -> Tensor:
        """log-probability of the integers ``value``, broadcast against z."""
        mean, std = z.double() * self.scale, per_example(sigma(gamma), z.double()) * self.scale
        return log_gaussian_mass((value - 0.5 - mean) / std, (value + 0.5 - mean) / std)

    def nll(
        self,
        data: Tensor,
        z: State,
        gamma: PerExample,
        space: Space,
        x_hat: State | None = None,
        x_variance: Scale | None = None,
    ) -> PerExample:
        """``data`` [B, ...] integers of the shape of z without its last axis of one."""
        return -_sum_rows(self.log_prob(data[..., None], z, gamma).squeeze(-1), space)


class Product(Observation):
    """Independent observations of the blocks of a product space, by name; ``data`` maps each name to its own form."""

    def __init__(self, blocks: Mapping[str, Observation]) -> None:
        self.blocks = dict(blocks)
        self.needs_denoiser = any(block.needs_denoiser for block in self.blocks.values())

    def named_nll(
        self,
        data: Mapping[str, Any],
        z: State,
        gamma: PerExample,
        space: Space,
        x_hat: State | None = None,
        x_variance: Scale | None = None,
    ) -> dict[str, Tensor]:
        """The [B] nats of every block."""
        if not isinstance(space, spaces.Product):
            raise TypeError(f"a Product observation needs a Product space, not {type(space).__name__}")
        state, mean = space.split(z), {} if x_hat is None else space.split(x_hat)
        variance = {} if x_variance is None else space.split(x_variance)
        return {
            name: block.nll(data[name], state[name], gamma, space.blocks[name], mean.get(name), variance.get(name))
            for name, block in self.blocks.items()
        }

    def nll(
        self,
        data: Mapping[str, Any],
        z: State,
        gamma: PerExample,
        space: Space,
        x_hat: State | None = None,
        x_variance: Scale | None = None,
    ) -> PerExample:
        return torch.stack(list(self.named_nll(data, z, gamma, space, x_hat, x_variance).values())).sum(0)


def _sum_rows(values: Tensor, space: Space) -> Tensor:
    """Sum [B, ...] over the rows that belong to the space."""
    mask = getattr(space, "mask", None)
    return (values if mask is None else values * mask).flatten(1).sum(1)
