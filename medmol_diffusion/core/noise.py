"""Random numbers as arguments: one stream a batch, or one stream an item."""

import torch
from torch import Tensor

# Odd 64-bit constants that spread neighbouring (seed, index) pairs over the generator's seeds.
_SEED_MIX, _INDEX_MIX = 0x9E3779B97F4A7C15, 0xD1B54A32D192ED03
_GOLDEN_RATIO = 0.6180339887498949
# torch makes normals on the CPU from blocks of so many uniforms, and makes a last, smaller block anew.
_BLOCK = 16


class Streams:
    """One CPU random stream per item, fixed by (seed, index in the data set).

    What is drawn for an item then depends neither on the batch it sits in, nor on padding, nor on the number of ranks,
    nor on the device.

    Args:
        seed: the run's seed.
        index: [B] the items' places in the whole set.
    """

    def __init__(self, seed: int, index: Tensor) -> None:
        self.seed = seed
        self.index = index.cpu()
        keys = [((seed + 1) * _SEED_MIX + i * _INDEX_MIX) % 2**63 for i in self.index.tolist()]
        self.generators = [torch.Generator().manual_seed(key) for key in keys]

    def take(self, rows: Tensor) -> "Streams":
        """The streams of some of the items, shared: what they draw is not drawn again."""
        part = Streams(self.seed, self.index[:0])
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
        drawn = [torch.randn(s, generator=g, dtype=dtype) for s, g in zip(blocks, self.generators, strict=True)]
        return [numbers[:, :size] for numbers, size in zip(drawn, sizes, strict=True)]

    def uniform(self) -> Tensor:
        """[B] one uniform per item, float64."""
        return torch.stack([torch.rand((), generator=g, dtype=torch.float64) for g in self.generators])


Randomness = torch.Generator | Streams


def standard_normal(like: Tensor, generator: Randomness) -> Tensor:
    """eps ~ N(0, I) of the shape, dtype and device of ``like`` [B, ...]."""
    if isinstance(generator, Streams):
        drawn = generator.normals([like[0].numel()] * len(like), 1, like.dtype)
        return torch.cat(drawn).reshape(like.shape).to(like.device)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=generator.device).to(like.device)


def uniforms(batch: int, count: int, generator: Randomness) -> Tensor:
    """[B, count] independent uniforms, float64."""
    if isinstance(generator, Streams):
        return torch.stack([generator.uniform() for _ in range(count)], -1)
    return torch.rand(batch, count, generator=generator, dtype=torch.float64, device=generator.device)


def stratified_uniforms(batch: int, draws: int, generator: Randomness) -> Tensor:
    """[draws, B] uniforms, each marginally U(0, 1), spread evenly over the draws of an item and over the items.

    u[k, i] = (k + v[k, i]) / draws. Inside a stratum v is a randomly shifted lattice over the items: i / B dealt out
    in random order for a batch generator; frac(golden ratio * index) for item streams, so that the figure does not
    depend on the batch.
    """
    if isinstance(generator, Streams):
        shift = torch.rand(draws, 1, generator=torch.Generator().manual_seed(generator.seed), dtype=torch.float64)
        inner = (_GOLDEN_RATIO * generator.index.double() + shift) % 1
    else:
        device = generator.device
        shift = torch.rand(draws, 1, generator=generator, dtype=torch.float64, device=device)
        order = torch.argsort(torch.rand(draws, batch, generator=generator, device=device), dim=1)
        inner = (order.double() + shift) / batch
    return (torch.arange(draws, dtype=torch.float64, device=inner.device)[:, None] + inner) / draws
