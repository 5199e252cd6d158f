"""The 3-D U-Net that denoises: one block class, one skip a level, and the memory layout that convolutions like."""

import math
from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medmol_diffusion.errors import InputError

Module = TypeVar("Module", bound=nn.Module)


class NoiseEmbedding(nn.Module):
    r"""Features of the noise level: an MLP on $(\sin \omega_k \gamma, \cos \omega_k \gamma)$, (B,) -> (B, width).

    The frequencies $\omega_k$ grow geometrically from 0.05 to 5 radians per nat, so that one period spans the whole
    range of gamma = -log SNR (about -15 to 15) and the shortest still tells 0.2 nat apart.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        frequencies = torch.logspace(math.log10(0.05), math.log10(5.0), width // 4, dtype=torch.float64)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.frequencies: Tensor
        self.enter = nn.Linear(2 * (width // 4), width)
        self.leave = nn.Linear(width, width)

    def forward(self, gamma: Tensor) -> Tensor:
        # float64 angles: after `module.half()` or under autocast gamma would otherwise lose the digits that matter.
        angles = gamma.double()[:, None] * self.frequencies.double()
        features = torch.cat([angles.sin(), angles.cos()], dim=1)
        return self.leave(F.silu(self.enter(features.to(self.enter.weight.dtype))))


class Block(nn.Module):
    r"""Residual block $h + f(h)$ with $f$ = norm, SiLU, 3^3 conv, norm, scale-shift by the embedding, SiLU, 3^3 conv.

    (B, C, X, Y, Z) and the embedding (B, E) -> (B, C, X, Y, Z). The last convolution starts at zero, so every block
    starts as the identity (Dhariwal & Nichol 2021, appendix A).
    """

    def __init__(self, channels: int, embedding_dim: int, dropout: float) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(_groups(channels), channels)
        self.conv_in = nn.Conv3d(channels, channels, 3, padding=1)
        self.modulation = nn.Linear(embedding_dim, 2 * channels)
        self.norm_out = nn.GroupNorm(_groups(channels), channels, affine=False)  # the modulation is its affine map
        self.dropout = nn.Dropout(dropout)
        self.conv_out = _zero(nn.Conv3d(channels, channels, 3, padding=1))

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulation(embedding)[:, :, None, None, None].chunk(2, dim=1)
        f = self.conv_in(F.silu(self.norm_in(h)))
        f = torch.addcmul(shift, self.norm_out(f), 1 + scale)
        return h + self.conv_out(self.dropout(F.silu(f)))


class Attention(nn.Module):
    """Residual self-attention over all voxels of a level (heads of 32 channels); starts as the identity.

    (B, C, X, Y, Z) -> the same. Cost grows with (X Y Z)^2: ask for it at coarse levels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = max(1, channels // 32)
        self.norm = nn.GroupNorm(_groups(channels), channels)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.out = _zero(nn.Linear(channels, channels))

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        tokens = self.norm(h).permute(0, 2, 3, 4, 1).flatten(1, 3)
        heads = self.query_key_value(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(heads[0], heads[1], heads[2])
        out = self.out(mixed.transpose(1, 2).flatten(2))
        return h + out.unflatten(1, h.shape[2:]).permute(0, 4, 1, 2, 3)


class Stage(nn.ModuleList):
    """The blocks of one level in a row, each followed by attention where asked."""

    def __init__(self, channels: int, blocks: int, attention: bool, embedding_dim: int, dropout: float) -> None:
        super().__init__()
        for _ in range(blocks):
            self.append(Block(channels, embedding_dim, dropout))
            if attention:
                self.append(Attention(channels))

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        for block in self:
            h = block(h, embedding)
        return h


class UNet3D(nn.Module):
    r"""A U-Net on volumes of any size, conditioned on gamma = -log SNR and, if asked, on an embedding.

    Each level has `blocks` residual blocks on the way down and as many on the way up, the lowest has them in a row. A
    level is left by a 2^3 convolution of stride 2. It is entered again by adding a 1^3 convolution of the skip to the
    nearest-neighbour upsampling of a 1^3 convolution of the level below: what concatenation followed by a 1^3
    convolution computes, but with the wide part done at low resolution, so that every 3^3 convolution sees just the
    level's own channels. All of it stays in channels_last_3d, in which CPU and GPU convolutions are fastest; multiples
    of 32 channels pay most. The output convolution starts at zero, and so does the output.

    Sizes that are not a multiple of 2^(levels - 1) are padded by repeating the border, and the output is cropped.

    Args:
        channels_in: channels of the input, what is concatenated to the state included.
        channels_out: channels of the output.
        channels: channels of each level, finest first.
        blocks: residual blocks of each level, each way.
        attention: for each level, whether its blocks are followed by self-attention; None means nowhere.
        embedding_dim: size of the conditioning embedding; 0 means there is none.
        dropout: probability of dropout in each block.

    Raises:
        InputError: a list is empty or the lengths of `channels` and `attention` differ.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        channels: list[int] = [64, 128],  # noqa: B006 (a list is what a config can write; it is never changed)
        blocks: int = 2,
        attention: list[bool] | None = None,
        embedding_dim: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        attention = [False] * len(channels) if attention is None else attention
        if not channels or len(attention) != len(channels):
            raise InputError(
                f"UNet3D needs one attention flag per level, but channels has {len(channels)} levels "
                f"and attention {len(attention)}: make both lists equally long."
            )
        if min(channels) < 1 or blocks < 1:
            raise InputError(f"UNet3D needs at least one channel and one block a level, not {channels} and {blocks}.")
        self.multiple = 2 ** (len(channels) - 1)
        self.embedding_dim = embedding_dim
        self.channels_in, self.channels_out = channels_in, channels_out

        width = 4 * max(channels[0], 32)
        self.noise = NoiseEmbedding(width)
        self.condition = nn.Linear(embedding_dim, width, bias=False) if embedding_dim else None

        def stage(level: int, count: int) -> Stage:
            return Stage(channels[level], count, attention[level], width, dropout)

        pairs = list(pairwise(channels))
        self.stem = nn.Conv3d(channels_in, channels[0], 3, padding=1)
        self.down = nn.ModuleList(stage(level, blocks) for level in range(len(pairs)))
        self.reduce = nn.ModuleList(nn.Conv3d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.middle = stage(-1, 2 * blocks)
        self.expand = nn.ModuleList(nn.Conv3d(coarse, fine, 1, bias=False) for fine, coarse in pairs)
        self.skip = nn.ModuleList(nn.Conv3d(fine, fine, 1) for fine, _ in pairs)
        self.up = nn.ModuleList(stage(level, blocks) for level in range(len(pairs)))
        self.norm = nn.GroupNorm(_groups(channels[0]), channels[0])
        self.head = _zero(nn.Conv3d(channels[0], channels_out, 3, padding=1))

    def forward(self, x: Tensor, gamma: Tensor, embedding: Tensor | None = None) -> Tensor:
        """Denoise x (B, channels_in, X, Y, Z) at gamma (B,), given an embedding (B, embedding_dim) or nothing.

        No embedding is the zero embedding. Returns (B, channels_out, X, Y, Z).
        """
        size = x.shape[2:]
        condition = F.silu(self._embed(gamma, embedding))
        h = self.stem(_pad(x, self.multiple).contiguous(memory_format=torch.channels_last_3d))
        h = h.contiguous(memory_format=torch.channels_last_3d)  # one input channel fits both layouts: insist

        skips = []
        for stage, reduce in zip(self.down, self.reduce, strict=True):
            h = stage(h, condition)
            skips.append(h)
            h = reduce(h)
        h = self.middle(h, condition)
        for level in reversed(range(len(skips))):
            h = F.interpolate(self.expand[level](h), scale_factor=2.0, mode="nearest") + self.skip[level](skips[level])
            h = self.up[level](h, condition)

        out = self.head(F.silu(self.norm(h)))
        return out[:, :, : size[0], : size[1], : size[2]]

    def _embed(self, gamma: Tensor, embedding: Tensor | None) -> Tensor:
        features = self.noise(gamma)
        if embedding is None:
            return features
        if self.condition is None:
            raise InputError("UNet3D got an embedding but has embedding_dim = 0: set embedding_dim to its size.")
        return features + self.condition(embedding)


def _groups(channels: int) -> int:
    return math.gcd(channels, 8)


def _zero(module: Module) -> Module:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def _pad(x: Tensor, multiple: int) -> Tensor:
    z, y, x_ = ((-size) % multiple for size in reversed(x.shape[2:]))
    return F.pad(x, (0, z, 0, y, 0, x_), mode="replicate") if z or y or x_ else x
