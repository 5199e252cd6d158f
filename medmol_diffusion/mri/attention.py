"""Attention of voxels: to each other, and to a sequence of embeddings."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medmol_diffusion.mri.layer import GroupNorm, zero


class Tokens(NamedTuple):
    """A batch of sequences of embeddings, such as the words of reports."""

    values: Tensor
    """(B, L, D), zeros where there is only padding."""
    seen: Tensor
    """(B, 1, 1, L) bool, which of them are looked at; all of them where an example has none, to no effect."""
    any: Tensor
    """(B, 1, 1) bool, whether an example has any."""

    @staticmethod
    def of(values: Tensor, mask: Tensor | None) -> "Tokens":
        """Of embeddings (B, L, D) and which of them are there, (B, L) bool or None for all; padding holds anything."""
        mask = values.new_ones(values.shape[:2], dtype=torch.bool) if mask is None else mask
        some = mask.any(dim=1)
        # A softmax over nothing is 0/0: an example without tokens looks at its padding, and what it sees is dropped.
        seen = mask | ~some[:, None]
        return Tokens(values.masked_fill(~mask[:, :, None], 0.0), seen[:, None, None], some[:, None, None])


class Attention(nn.Module):
    r"""Residual self-attention over all voxels of a level: $h + W_o \operatorname{softmax}(q k^T / \sqrt{d}) v$.

    (B, C, X, Y, Z) -> the same, in heads of d = 32 channels where 32 divides C. Starts as the identity. Its time grows
    with (X Y Z)^2, its memory with X Y Z: ask for it at coarse levels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = _heads(channels)
        self.norm = GroupNorm(channels)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.out = zero(nn.Linear(channels, channels))

    def forward(self, h: Tensor) -> Tensor:
        heads = self.query_key_value(_voxels(self.norm(h))).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(heads[0], heads[1], heads[2])
        return h + _volume(self.out(mixed.transpose(1, 2).flatten(2)), h)


class CrossAttention(nn.Module):
    r"""Residual attention of every voxel to a sequence of embeddings: queries from voxels, keys and values from tokens.

    (B, C, X, Y, Z) and the tokens -> the same shape. Starts as the identity, and adds exactly nothing to an example
    without tokens: the last map has no bias. Tokens have no order but what their embeddings say. Source: Rombach et
    al. 2022, section 3.3.
    """

    def __init__(self, channels: int, token_dim: int) -> None:
        super().__init__()
        self.heads = _heads(channels)
        self.norm = GroupNorm(channels)
        self.norm_tokens = nn.LayerNorm(token_dim)  # encoders differ in scale
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(token_dim, 2 * channels)
        self.out = zero(nn.Linear(channels, channels, bias=False))

    def forward(self, h: Tensor, tokens: Tokens) -> Tensor:
        query = self.query(_voxels(self.norm(h))).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        values = self.norm_tokens(tokens.values.to(self.norm_tokens.weight.dtype))
        key, value = self.key_value(values).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=tokens.seen)
        out = self.out(mixed.transpose(1, 2).flatten(2)).masked_fill(~tokens.any, 0.0)
        return h + _volume(out, h)


def _heads(channels: int) -> int:
    return math.gcd(channels, max(1, channels // 32))


def _voxels(h: Tensor) -> Tensor:
    """(B, C, X, Y, Z) -> (B, X Y Z, C), a view in channels_last_3d."""
    return h.permute(0, 2, 3, 4, 1).flatten(1, 3)


def _volume(voxels: Tensor, like: Tensor) -> Tensor:
    return voxels.unflatten(1, like.shape[2:]).permute(0, 4, 1, 2, 3)
