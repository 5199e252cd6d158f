"""The linear subspace a state lives in.

A space is one object per batch and carries its mask. Every KL, prior density, squared error, probe and draw of noise
goes through it, so that a degree of freedom is counted once, everywhere.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from math import prod

import torch
from torch import Tensor

from medmol_diffusion.core.noise import Randomness, Streams, standard_normal
from medmol_diffusion.core.shapes import Joined, Mask, PerExample, Places, State, Vectors


class Space(ABC):
    """A linear subspace of R^(event shape), one per example of a batch; ``shape`` is that of a state, [B, ...]."""

    shape: tuple[int, ...]

    @abstractmethod
    def project(self, v: Vectors) -> Vectors:
        """Orthogonal projection of ``v`` [B, ...], or of several such [count, B, ...], onto the subspace."""

    @abstractmethod
    def dim(self) -> PerExample:
        """[B] degrees of freedom, float64."""

    @property
    def numbers(self) -> list[int]:
        """[B] how many numbers of a state are every example's own: all but its padding."""
        return [prod(self.shape[1:])] * self.shape[0]

    def fill(self, numbers: list[Tensor]) -> Tensor:
        """Every example's own numbers, [count, numbers[i]] each -> ``count`` states beside them, [count, B, ...]."""
        return torch.stack(numbers, 1).reshape(-1, *self.shape)

    def noise(self, like: State, generator: Randomness) -> State:
        """eps ~ N(0, projection), of the shape, dtype and device of ``like`` [B, ...]."""
        return self.project(self._normals(like, generator, 1)[0])

    def noises(self, like: State, generator: Randomness, count: int) -> Sequence[Tensor]:
        """What ``count`` calls of ``noise`` give, number for number; from streams at little more than the cost of one.

        With streams an example draws for its own numbers only, so that neither padding nor the batch changes them.
        """
        if isinstance(generator, Streams):
            return self.project(self._normals(like, generator, count)).unbind()
        return [self.noise(like, generator) for _ in range(count)]

    def signs(self, like: State, generator: Randomness) -> State:
        """Projected random signs, of the shape, dtype and device of ``like`` [B, ...]: E[v v^T] is the projection."""
        return self.project(self._normals(like, generator, 1)[0].sign())

    def _normals(self, like: Tensor, generator: Randomness, count: int) -> Tensor:
        """[count, B, ...] standard normals before projection."""
        if isinstance(generator, Streams):
            return self.fill(generator.normals(self.numbers, count, like.dtype)).to(like.device)
        return standard_normal(like.expand(count, *like.shape), generator)

    def localise(self, v: State) -> State:
        """A vector of the space in the orthonormal coordinates that have a place, as voxels and atoms do; ``v`` itself
        unless the states are coefficients of another basis."""
        return v

    def delocalise(self, v: State) -> State:
        """The inverse of ``localise``, which is its transpose."""
        return v

    def restrict(self, v: State, part: Places) -> State:
        """Orthogonal projection of ``v`` [B, ...] onto the vectors of the space that vanish where ``part`` is false.

        ``part`` is bool and of the shape of a localised state: what is known of a state of which some voxels or atoms
        are given.
        """
        return self.project(self.delocalise(self.localise(v) * part))

    def sum(self, v: State) -> PerExample:
        """[B] sum of an element-wise quantity ``v`` [B, ...] over the elements that belong to the space."""
        return v.flatten(1).sum(1)

    def squared_norm(self, v: State) -> PerExample:
        """[B] |v|^2 over the space."""
        return self.sum(v.square())


class Dense(Space):
    """All of R^shape: no padding, nothing removed. ``like`` is a state [B, ...]."""

    def __init__(self, like: State) -> None:
        self.shape = tuple(like.shape)
        self.device = like.device

    def project(self, v: Vectors) -> Vectors:
        return v

    def dim(self) -> PerExample:
        return torch.full((self.shape[0],), float(prod(self.shape[1:])), dtype=torch.float64, device=self.device)


class Masked(Space):
    """Rows where ``mask`` is true: states [B, *mask.shape[1:], channels], zero elsewhere.

    Args:
        mask: [B, ...] bool.
        channels: the size of the last axis of a state.
        empty: whether an example may have no row at all: a block of which everything is given.

    Raises:
        ValueError: the mask is not boolean, or an example has no row at all.
    """

    def __init__(self, mask: Mask, channels: int, empty: bool = False) -> None:
        if mask.dtype != torch.bool:
            raise ValueError(f"a mask must be boolean, not {mask.dtype}")
        if not empty and not mask.flatten(1).any(1).all():
            raise ValueError("a mask leaves an example without a single element")
        self.mask, self.channels = mask, channels
        self.shape = (*mask.shape, channels)
        self.rows = mask.flatten(1).sum(1)
        # Kept on the host: drawing noise in a sampling loop must not wait for the device.
        self.counts, self.host_mask = self.rows.tolist(), mask.cpu()
        self.full = min(self.counts) == prod(mask.shape[1:])

    @property
    def numbers(self) -> list[int]:
        return [rows * self.channels for rows in self.counts]

    def project(self, v: Vectors) -> Vectors:
        return v if self.full else v * self.mask[..., None]

    def fill(self, numbers: list[Tensor]) -> Tensor:
        if self.full:
            return super().fill(numbers)
        own = torch.cat(numbers, 1)
        mask = self.mask if self.mask.device == own.device else self.host_mask
        return own.new_zeros(len(own), *self.shape).masked_scatter_(mask[..., None], own)

    def dim(self) -> PerExample:
        return self.rows.double() * self.channels

    def sum(self, v: State) -> PerExample:
        return super().sum(v * self.mask[..., None])


class ZeroCentre(Masked):
    """Masked points [B, N, channels] whose centre of mass is zero: channels * (n - 1) degrees of freedom.

    Raises:
        ValueError: an example has fewer than two points, and so no degree of freedom.
    """

    def __init__(self, mask: Mask, channels: int = 3) -> None:
        super().__init__(mask, channels)
        if (self.rows < 2).any():
            raise ValueError("a zero-centre space needs two points or more in every example")

    def project(self, v: Vectors) -> Vectors:
        v = super().project(v)
        centre = v.sum(-2, keepdim=True) / self.rows.to(v)[:, None, None]
        return super().project(v - centre)

    def restrict(self, v: State, part: Places) -> State:
        """Some points given about their own centre: where that lies depends on the others, and is not known."""
        part = part & self.mask[..., None]
        kept = v * part
        centre = kept.sum(1, keepdim=True) / part.sum(1, keepdim=True).clamp(min=1)
        return (kept - centre) * part

    def dim(self) -> PerExample:
        return (self.rows.double() - 1) * self.channels


class Anchored(ZeroCentre):
    """What is left of a zero-centre space when some points are given about their own centre (ZeroCentre.restrict).

    Given points move as one body, the others freely: channels * (n - max(k, 1)) degrees of freedom with k given.

    Args:
        mask: bool [B, N], the points.
        anchors: bool [B, N], the given ones among them.

    Raises:
        ValueError: all points of an example are given, and nothing is left.
    """

    def __init__(self, mask: Mask, anchors: Mask, channels: int = 3) -> None:
        super().__init__(mask, channels)
        self.anchors = anchors & mask
        self.held = self.anchors.sum(1)
        if (self.held == self.rows).any():
            raise ValueError("all points of an example are given: leave one or more to be generated")

    def project(self, v: Vectors) -> Vectors:
        v = super().project(v)
        held = self.anchors[..., None]
        body = (v * held).sum(-2, keepdim=True) / self.held.clamp(min=1).to(v)[:, None, None]
        return torch.where(held, body, v)

    def dim(self) -> PerExample:
        return (self.rows - self.held.clamp(min=1)).double() * self.channels


class Product(Space):
    """Named spaces side by side. Its states are flat, [B, D]; ``split`` and ``join`` go to the blocks and back."""

    def __init__(self, blocks: Mapping[str, Space]) -> None:
        self.blocks = dict(blocks)
        self.sizes = [prod(space.shape[1:]) for space in self.blocks.values()]
        batch = {space.shape[0] for space in self.blocks.values()}
        if len(batch) != 1:
            raise ValueError(f"the blocks of a product disagree on the batch size: {sorted(batch)}")
        self.shape = (batch.pop(), sum(self.sizes))
        self._numbers = [space.numbers for space in self.blocks.values()]

    def split(self, v: Joined) -> dict[str, Tensor]:
        """[..., B, D] -> each block in its own shape, as views."""
        parts = zip(self.blocks.items(), torch.split(v, self.sizes, dim=-1), strict=True)
        return {name: part.reshape(*v.shape[:-1], *space.shape[1:]) for (name, space), part in parts}

    def join(self, parts: Mapping[str, Tensor]) -> Joined:
        """The blocks, in their own shapes -> [..., B, D]."""
        return torch.cat([parts[name].flatten(1 - len(space.shape)) for name, space in self.blocks.items()], dim=-1)

    def project(self, v: Vectors) -> Vectors:
        parts = self.split(v)
        return self.join({name: space.project(parts[name]) for name, space in self.blocks.items()})

    @property
    def numbers(self) -> list[int]:
        return [sum(own) for own in zip(*self._numbers, strict=True)]

    def fill(self, numbers: list[Tensor]) -> Tensor:
        sizes = zip(*self._numbers, strict=True)
        examples = [torch.split(own, list(parts), 1) for own, parts in zip(numbers, sizes, strict=True)]
        blocks = zip(self.blocks.items(), zip(*examples, strict=True), strict=True)
        return self.join({name: space.fill(list(own)) for (name, space), own in blocks})

    def restrict(self, v: State, part: Places) -> State:
        parts, kept = self.split(v), self.split(part)
        return self.join({name: space.restrict(parts[name], kept[name]) for name, space in self.blocks.items()})

    def dim(self) -> PerExample:
        return torch.stack([space.dim() for space in self.blocks.values()]).sum(0)

    def sum(self, v: State) -> PerExample:
        parts = self.split(v)
        return torch.stack([space.sum(parts[name]) for name, space in self.blocks.items()]).sum(0)
