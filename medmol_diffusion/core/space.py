"""The linear subspace a state lives in.

A space is one object per batch and carries its mask. Every KL, prior density, squared error, probe and draw of noise
goes through it, so that a degree of freedom is counted once, everywhere.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor

from medmol_diffusion.core.noise import Randomness, Streams, standard_normal


class Space(ABC):
    """A linear subspace of R^(event shape), one per example of a batch; ``shape`` is that of a state, [B, ...]."""

    shape: tuple[int, ...]

    @abstractmethod
    def project(self, v: Tensor) -> Tensor:
        """Orthogonal projection of ``v`` [B, ...] onto the subspace."""

    @abstractmethod
    def noise(self, like: Tensor, generator: Randomness) -> Tensor:
        """eps ~ N(0, projection), of the shape, dtype and device of ``like`` [B, ...]."""

    @abstractmethod
    def dim(self) -> Tensor:
        """[B] degrees of freedom, float64."""

    def signs(self, like: Tensor, generator: Randomness) -> Tensor:
        """Projected random signs, of the shape, dtype and device of ``like`` [B, ...]: E[v v^T] is the projection."""
        return self.project(standard_normal(like, generator).sign())

    def localise(self, v: Tensor) -> Tensor:
        """A vector of the space in the orthonormal coordinates that have a place, as voxels and atoms do; ``v`` itself
        unless the states are coefficients of another basis."""
        return v

    def delocalise(self, v: Tensor) -> Tensor:
        """The inverse of ``localise``, which is its transpose."""
        return v

    def restrict(self, v: Tensor, part: Tensor) -> Tensor:
        """Orthogonal projection of ``v`` [B, ...] onto the vectors of the space that vanish where ``part`` is false.

        ``part`` is bool and of the shape of a localised state: what is known of a state of which some voxels or atoms
        are given.
        """
        return self.project(self.delocalise(self.localise(v) * part))

    def sum(self, v: Tensor) -> Tensor:
        """[B] sum of an element-wise quantity ``v`` [B, ...] over the elements that belong to the space."""
        return v.flatten(1).sum(1)

    def squared_norm(self, v: Tensor) -> Tensor:
        """[B] |v|^2 over the space."""
        return self.sum(v.square())


class Dense(Space):
    """All of R^shape: no padding, nothing removed. ``like`` is a state [B, ...]."""

    def __init__(self, like: Tensor) -> None:
        self.shape = tuple(like.shape)
        self.device = like.device

    def project(self, v: Tensor) -> Tensor:
        return v

    def noise(self, like: Tensor, generator: Randomness) -> Tensor:
        return standard_normal(like, generator)

    def dim(self) -> Tensor:
        return torch.full((self.shape[0],), float(prod(self.shape[1:])), dtype=torch.float64, device=self.device)


class Masked(Space):
    """Rows where ``mask`` is true: states [B, *mask.shape[1:], channels], zero elsewhere.

    Args:
        mask: [B, ...] bool.
        channels: the size of the last axis of a state.

    Raises:
        ValueError: the mask is not boolean, or an example has no row at all.
    """

    def __init__(self, mask: Tensor, channels: int) -> None:
        if mask.dtype != torch.bool:
            raise ValueError(f"a mask must be boolean, not {mask.dtype}")
        if not mask.flatten(1).any(1).all():
            raise ValueError("a mask leaves an example without a single element")
        self.mask, self.channels = mask, channels
        self.shape = (*mask.shape, channels)
        self.rows = mask.flatten(1).sum(1)
        # Kept on the host: drawing noise in a sampling loop must not wait for the device.
        self.counts, self.host_mask = self.rows.tolist(), mask.cpu()

    def project(self, v: Tensor) -> Tensor:
        return v * self.mask[..., None]

    def noise(self, like: Tensor, generator: Randomness) -> Tensor:
        return self.project(self._normal(like, generator))

    def signs(self, like: Tensor, generator: Randomness) -> Tensor:
        return self.project(self._normal(like, generator).sign())

    def _normal(self, like: Tensor, generator: Randomness) -> Tensor:
        """Standard normal before projection."""
        if isinstance(generator, Streams):
            # Each item draws for its own rows only, so that padding changes nothing.
            drawn = generator.normal([(n, self.channels) for n in self.counts], like.dtype)
            out = torch.zeros(like.shape, dtype=like.dtype)
            out[self.host_mask] = torch.cat(drawn)
            return out.to(like.device)
        return standard_normal(like, generator)

    def dim(self) -> Tensor:
        return self.rows.double() * self.channels

    def sum(self, v: Tensor) -> Tensor:
        return super().sum(v * self.mask[..., None])


class ZeroCentre(Masked):
    """Masked points [B, N, channels] whose centre of mass is zero: channels * (n - 1) degrees of freedom.

    Raises:
        ValueError: an example has fewer than two points, and so no degree of freedom.
    """

    def __init__(self, mask: Tensor, channels: int = 3) -> None:
        super().__init__(mask, channels)
        if (self.rows < 2).any():
            raise ValueError("a zero-centre space needs two points or more in every example")

    def project(self, v: Tensor) -> Tensor:
        v = super().project(v)
        centre = v.sum(1, keepdim=True) / self.rows.to(v)[:, None, None]
        return super().project(v - centre)

    def restrict(self, v: Tensor, part: Tensor) -> Tensor:
        """Some points given about their own centre: where that lies depends on the others, and is not known."""
        part = part & self.mask[..., None]
        kept = v * part
        centre = kept.sum(1, keepdim=True) / part.sum(1, keepdim=True).clamp(min=1)
        return (kept - centre) * part

    def dim(self) -> Tensor:
        return (self.rows.double() - 1) * self.channels


class Product(Space):
    """Named spaces side by side. Its states are flat, [B, D]; ``split`` and ``join`` go to the blocks and back."""

    def __init__(self, blocks: Mapping[str, Space]) -> None:
        self.blocks = dict(blocks)
        self.sizes = [prod(space.shape[1:]) for space in self.blocks.values()]
        batch = {space.shape[0] for space in self.blocks.values()}
        if len(batch) != 1:
            raise ValueError(f"the blocks of a product disagree on the batch size: {sorted(batch)}")
        self.shape = (batch.pop(), sum(self.sizes))

    def split(self, v: Tensor) -> dict[str, Tensor]:
        """[B, D] -> each block in its own shape, as views."""
        parts = v.split(self.sizes, dim=1)
        return {name: part.reshape(space.shape) for (name, space), part in zip(self.blocks.items(), parts, strict=True)}

    def join(self, parts: Mapping[str, Tensor]) -> Tensor:
        """The blocks, in their own shapes -> [B, D]."""
        return torch.cat([parts[name].flatten(1) for name in self.blocks], dim=1)

    def project(self, v: Tensor) -> Tensor:
        parts = self.split(v)
        return self.join({name: space.project(parts[name]) for name, space in self.blocks.items()})

    def noise(self, like: Tensor, generator: Randomness) -> Tensor:
        parts = self.split(like)
        return self.join({name: space.noise(parts[name], generator) for name, space in self.blocks.items()})

    def signs(self, like: Tensor, generator: Randomness) -> Tensor:
        parts = self.split(like)
        return self.join({name: space.signs(parts[name], generator) for name, space in self.blocks.items()})

    def restrict(self, v: Tensor, part: Tensor) -> Tensor:
        parts, kept = self.split(v), self.split(part)
        return self.join({name: space.restrict(parts[name], kept[name]) for name, space in self.blocks.items()})

    def dim(self) -> Tensor:
        return torch.stack([space.dim() for space in self.blocks.values()]).sum(0)

    def sum(self, v: Tensor) -> Tensor:
        parts = self.split(v)
        return torch.stack([space.sum(parts[name]) for name, space in self.blocks.items()]).sum(0)
