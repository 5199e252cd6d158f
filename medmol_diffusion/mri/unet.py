"""The 3-D U-Net that denoises: one block class, one skip a level, and the memory layout that convolutions like."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.attention import Tokens
from medmol_diffusion.mri.block import Block
from medmol_diffusion.mri.layer import GROUPS, Conv3d, GroupNorm, without_autocast, zero
from medmol_diffusion.mri.noise_embedding import NoiseEmbedding


class UNet3D(nn.Module):
    r"""A U-Net on volumes of any size, conditioned on gamma = -log SNR and on what is asked for.

    Each level has `blocks` residual blocks on the way down and as many on the way up, the lowest has them in a row. A
    level is left by a 2^3 convolution of stride 2. It is entered again by adding a 1^3 convolution of the skip to the
    nearest-neighbour upsampling of a 1^3 convolution of the level below: what concatenation followed by a 1^3
    convolution computes, but with the wide part done at low resolution, so that every 3^3 convolution sees just the
    level's own channels. All of it stays in channels_last_3d, in which CPU and GPU convolutions are fastest; multiples
    of 32 channels pay most. The first and the last convolution are 3^3, or 1^3 where the input or the output is as
    wide as the finest level or wider, as wavelet channels are: there a 3^3 would cost as much as a block and say little
    that the blocks do not. The last starts at zero, and so does the output.

    Conditions: images are concatenated to the state and are channels of the input like any other; an embedding is
    added to that of the noise level; a sequence of tokens is attended to by every voxel. Without embedding and tokens
    the network is unconditional. Cross-attention adds nothing to an example whose tokens are all masked; training with
    several processes should mask them rather than leave them out, so that every weight has its gradient.

    Sizes that are not a multiple of 2^(levels - 1) are padded by repeating the border, and the output is cropped.

    Args:
        channels_in: channels of the input, what is concatenated to the state included.
        channels_out: channels of the output.
        channels: channels of each level, finest first.
        blocks: residual blocks of each level, each way.
        attention: for each level, whether its blocks are followed by self-attention; None means nowhere.
        embedding_dim: size of the conditioning embedding; 0 means there is none.
        dropout: probability of dropout in each block.
        token_dim: size of each token; 0 means there are none.
        cross_attention: for each level, whether its blocks attend to the tokens; None means the coarsest, with tokens.
        checkpointing: keep only the input of each block for the backward pass and compute the rest again: the same
            gradients, about a fifth more operations, a fraction of the memory.

    Raises:
        InputError: a list is empty or not one entry a level; tokens that no level attends to, or the reverse.
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
        token_dim: int = 0,
        cross_attention: list[bool] | None = None,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        levels = len(channels)
        attention = [False] * levels if attention is None else attention
        if cross_attention is None:
            cross_attention = [token_dim > 0 and level == levels - 1 for level in range(levels)]
        for name, flags in (("attention", attention), ("cross_attention", cross_attention)):
            if not channels or len(flags) != levels:
                raise InputError(
                    f"UNet3D needs one {name} flag per level, but channels has {levels} levels "
                    f"and {name} {len(flags)}: make both lists equally long."
                )
        if min(channels) < 1 or blocks < 1:
            raise InputError(f"UNet3D needs at least one channel and one block a level, not {channels} and {blocks}.")
        if any(cross_attention) != (token_dim > 0):
            raise InputError(
                f"UNet3D has token_dim = {token_dim} but cross_attention = {cross_attention}: "
                "set token_dim to the size of the tokens and at least one level to true, or neither."
            )
        self.multiple = 2 ** (levels - 1)
        self.embedding_dim, self.token_dim, self.checkpointing = embedding_dim, token_dim, checkpointing
        self.channels_in, self.channels_out, self.coarsest = channels_in, channels_out, channels[-1]

        width = 4 * max(channels[0], 32)
        self.noise = NoiseEmbedding(width)
        self.condition = nn.Linear(embedding_dim, width, bias=False) if embedding_dim else None

        def stage(level: int, count: int) -> nn.ModuleList:
            tokens = token_dim if cross_attention[level] else 0
            return nn.ModuleList(Block(channels[level], width, dropout, attention[level], tokens) for _ in range(count))

        pairs = list(pairwise(channels))
        self.stem = _end(channels_in, channels[0], wide=channels_in >= channels[0])
        self.down = nn.ModuleList(stage(level, blocks) for level in range(len(pairs)))
        self.reduce = nn.ModuleList(Conv3d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.middle = stage(-1, 2 * blocks)
        self.expand = nn.ModuleList(Conv3d(coarse, fine, 1, bias=False) for fine, coarse in pairs)
        self.skip = nn.ModuleList(Conv3d(fine, fine, 1) for fine, _ in pairs)
        self.up = nn.ModuleList(stage(level, blocks) for level in range(len(pairs)))
        self.norm = GroupNorm(channels[0])
        self.head = zero(_end(channels[0], channels_out, wide=channels_out >= channels[0]))

    def check_channels(self, channels_in: int, channels_out: int, embedding_dim: int) -> None:
        """Raises InputError where a model needs other ones."""
        for name, has, needs in (
            ("channels_in", self.channels_in, channels_in),
            ("channels_out", self.channels_out, channels_out),
            ("embedding_dim", self.embedding_dim, embedding_dim),
        ):
            if has != needs:
                raise InputError(f"the network has {name} {has}: set it to {needs} for this model")

    def check_size(self, size: Sequence[int]) -> None:
        """Raises InputError for inputs of so many voxels along each axis whose coarsest level is one voxel with one
        channel a group: a value that is normalised by itself is always zero."""
        if max(size) <= self.multiple and self.coarsest == math.gcd(self.coarsest, GROUPS):
            raise InputError(
                f"UNet3D makes a single voxel of {list(size)} at its coarsest level, where each of {self.coarsest} "
                f"channels is normalised by itself and comes out as zero: give fewer levels, or {2 * GROUPS} channels "
                "there"
            )

    def forward(
        self,
        x: Tensor,
        gamma: Tensor,
        embedding: Tensor | None = None,
        tokens: Tensor | None = None,
        token_mask: Tensor | None = None,
    ) -> Tensor:
        """Denoise x (B, channels_in, X, Y, Z) at gamma (B,), under the conditions that are given.

        The embedding is (B, embedding_dim), none is the zero embedding; tokens are (B, L, token_dim), and token_mask
        (B, L) bool is true where there is one. Returns (B, channels_out, X, Y, Z).
        """
        size = x.shape[2:]
        condition, context = self._embed(gamma, embedding), self._tokens(tokens, token_mask)
        h = self.stem(_pad(x, self.multiple).contiguous(memory_format=torch.channels_last_3d))

        skips = []
        for stage, reduce in zip(self.down, self.reduce, strict=True):
            h = self._run(stage, h, condition, context)
            skips.append(h)
            h = reduce(h)
        h = self._run(self.middle, h, condition, context)
        for level in reversed(range(len(skips))):
            h = F.interpolate(self.expand[level](h), scale_factor=2.0, mode="nearest") + self.skip[level](skips[level])
            h = self._run(self.up[level], h, condition, context)

        out = self.head(F.silu(self.norm(h)))
        return out[:, :, : size[0], : size[1], : size[2]]

    def _run(self, stage: nn.Module, h: Tensor, condition: Tensor, context: Tokens | None) -> Tensor:
        for block in stage.children():
            if self.checkpointing and torch.is_grad_enabled():
                h = checkpoint(block, h, condition, context, use_reentrant=False)
            else:
                h = block(h, condition, context)
        return h

    def _embed(self, gamma: Tensor, embedding: Tensor | None) -> Tensor:
        # Not in bf16 under autocast: three digits would be left to tell noise levels apart by.
        with without_autocast(gamma.device):
            features = self.noise(gamma)
            if embedding is not None:
                if self.condition is None:
                    raise InputError(
                        "UNet3D got an embedding but has embedding_dim = 0: set embedding_dim to its size."
                    )
                features = features + self.condition(embedding.to(self.condition.weight.dtype))
            return F.silu(features)

    def _tokens(self, tokens: Tensor | None, mask: Tensor | None) -> Tokens | None:
        if tokens is None:
            return None
        if not self.token_dim:
            raise InputError("UNet3D got tokens but has token_dim = 0: set token_dim to their size.")
        return Tokens.of(tokens, mask)


def _end(channels_in: int, channels_out: int, wide: bool) -> Conv3d:
    return Conv3d(channels_in, channels_out, 1) if wide else Conv3d(channels_in, channels_out, 3, padding=1)


def _pad(x: Tensor, multiple: int) -> Tensor:
    z, y, x_ = ((-size) % multiple for size in reversed(x.shape[2:]))
    return F.pad(x, (0, z, 0, y, 0, x_), mode="replicate") if z or y or x_ else x
