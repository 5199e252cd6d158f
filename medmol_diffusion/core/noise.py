"""Random numbers as arguments: one stream a batch, or one stream an item."""

import torch
from torch import Tensor

from medmol_diffusion.core.shapes import Draws, Index, PerExample, Scalar, State, Uniforms

# Odd 64-bit constants that spread neighbouring (seed, index) pairs over the generator's seeds.
_SEED_MIX, _INDEX_MIX = 0x9E3779B97F4A7C15, 0xD1B54A32D192ED03
_GOLDEN_RATIO = 0.6180339887498949
# torch makes normals on the CPU from blocks of so many uniforms, and makes a last, smaller block anew.
_BLOCK = 16


class Streams:
    """One random stream per item, fixed by (seed, index in the data set).

    What is drawn for an item then depends neither on the batch it sits in, nor on padding, nor on the number of ranks.
    On the CPU, where the streams are unless a ``device`` is named, it is the same on every machine.

    Args:
        seed: the run's seed.
        index: [B] the items' places in the whole set.
        total: how many items the whole set has, where all of them are drawn for at once: a training batch, of which
            these are one rank's share. Times are then spread over them exactly (stratified_uniforms). An index from
            ``total`` on is that of an item that does not count.
        device: where the streams are.
    """

    def __init__(self, seed: int, index: Index, total: int | None = None, device: torch.device | str = "cpu") -> None:
        self.seed, self.total, self.device = seed, total, torch.device(device)
        self.index = index.cpu()
        keys = [((seed + 1) * _SEED_MIX + i * _INDEX_MIX) % 2**63 for i in self.index.tolist()]
        self.generators = [torch.Generator(self.device).manual_seed(key) for key in keys]

    def take(self, rows: Index) -> "Streams":
        """The streams of some of the items, shared: what they draw is not drawn again."""
        part = Streams(self.seed, self.index[:0], self.total, self.device)
        part.index = self.index[rows]
        part.generators = [self.generators[row] for row in rows.tolist()]
        return part

    def __len__(self) -> int:
        return len(self.generators)

    def normals(self, sizes: list[int], count: int, dtype: torch.dtype) -> list[Tensor]:
        """[count, size] standard normals for every item, ``count`` draws of as many numbers as the item has.

        A generator is asked for whole blocks of 16 numbers, which are the same in one call or in several: what an item
        draws does not depend on how far ahead it is drawn.
        """
        blocks = [(count, -(-size // _BLOCK) * _BLOCK) for size in sizes]
        pairs = zip(blocks, self.generators, strict=True)
        drawn = [torch.randn(block, generator=g, dtype=dtype, device=self.device) for block, g in pairs]
        return [numbers[:, :size] for numbers, size in zip(drawn, sizes, strict=True)]

    def uniforms(self, count: int) -> Uniforms:
        """[B, count] uniforms, float64: what so many calls of ``uniform`` give."""
        drawn = [torch.rand(count, generator=g, dtype=torch.float64, device=self.device) for g in self.generators]
        return torch.stack(drawn)

    def uniform(self) -> PerExample:
        """[B] one uniform per item, float64."""
        return self.uniforms(1)[:, 0]

    def mean(self, values: PerExample) -> Scalar:
        """The mean of ``values`` [B] over the whole batch: of a share of it, over those of all ranks."""
        if self.total is None or self.total <= len(self):
            return values.mean()
        held = values[(self.index < self.total).to(values.device)].sum()
        torch.distributed.all_reduce(held)
        return held / self.total


Randomness = torch.Generator | Streams


def standard_normal(like: State, generator: Randomness) -> State:
    """eps ~ N(0, I) of the shape, dtype and device of ``like`` [B, ...]."""
    if isinstance(generator, Streams):
        drawn = generator.normals([like[0].numel()] * len(like), 1, like.dtype)
        return torch.cat(drawn).reshape(like.shape).to(like.device)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=generator.device).to(like.device)


def uniforms(batch: int, count: int, generator: Randomness) -> Uniforms:
    """[B, count] independent uniforms, float64."""
    if isinstance(generator, Streams):
        return generator.uniforms(count)
    return torch.rand(batch, count, generator=generator, dtype=torch.float64, device=generator.device)


def stratified_uniforms(batch: int, draws: int, generator: Randomness) -> Draws:
    """[draws, B] uniforms, each marginally U(0, 1), spread evenly over the draws of an item and over the items.

    u[k, i] = (k + v[k, i]) / draws. Inside a stratum v is a randomly shifted lattice over the items: i / B dealt out
    in random order for a batch generator, and for the streams of a whole batch of B (Streams.total); frac(golden ratio
    * index) for other streams, so that the figure does not depend on the batch.
    """
    if isinstance(generator, Streams) and generator.total is None:
        shift = torch.rand(draws, 1, generator=torch.Generator().manual_seed(generator.seed), dtype=torch.float64)
        inner = (_GOLDEN_RATIO * generator.index.double() + shift) % 1
    elif isinstance(generator, Streams):
        assert generator.total is not None
        own = torch.Generator().manual_seed(generator.seed)
        inner = _dealt_lattice(generator.total, draws, own)[:, generator.index % generator.total]
    else:
        inner = _dealt_lattice(batch, draws, generator)
    return (torch.arange(draws, dtype=torch.float64, device=inner.device)[:, None] + inner) / draws


def _dealt_lattice(count: int, draws: int, generator: torch.Generator) -> Tensor:
    """[draws, count] a randomly shifted lattice i / count in random order."""
    device = generator.device
    shift = torch.rand(draws, 1, generator=generator, dtype=torch.float64, device=device)
    order = torch.argsort(torch.rand(draws, count, generator=generator, device=device), dim=1)
    return (order.double() + shift) / count
