"""The one block of the U-Net: convolutions, the noise level, and attention where asked."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medmol_diffusion.mri.attention import Attention, CrossAttention, Tokens
from medmol_diffusion.mri.layer import Conv3d, GroupNorm, without_autocast, zero


class Block(nn.Module):
    r"""Residual block $h + f(h)$ with $f$ = norm, SiLU, 3^3 conv, norm, scale-shift by the embedding, SiLU, 3^3 conv.

    (B, C, X, Y, Z) and the embedding (B, E) -> (B, C, X, Y, Z). Self-attention follows, and attention to tokens. The
    last convolution starts at zero and so does the end of each attention: every block starts as the identity (Dhariwal
    & Nichol 2021, appendix A).

    Args:
        channels: C.
        embedding_dim: E.
        dropout: probability of dropout before the last convolution.
        attention: whether voxels attend to each other.
        token_dim: size of the tokens that voxels attend to; 0 means that they do not.
    """

    def __init__(self, channels: int, embedding_dim: int, dropout: float, attention: bool, token_dim: int) -> None:
        super().__init__()
        self.norm_in = GroupNorm(channels)
        self.conv_in = Conv3d(channels, channels, 3, padding=1)
        self.modulation = nn.Linear(embedding_dim, 2 * channels)
        self.norm_out = GroupNorm(channels, affine=False)  # the modulation is its affine map
        self.dropout = nn.Dropout(dropout)
        self.conv_out = zero(Conv3d(channels, channels, 3, padding=1))
        self.attention = Attention(channels) if attention else None
        self.cross_attention = CrossAttention(channels, token_dim) if token_dim else None

    def forward(self, h: Tensor, embedding: Tensor, tokens: Tokens | None) -> Tensor:
        # Under autocast too the gain is made in the weights' precision, and rounded once, with the activations.
        with without_autocast(h.device):
            scale, shift = self.modulation(embedding)[:, :, None, None, None].chunk(2, dim=1)
            gain = 1 + scale
        f = self.norm_out(self.conv_in(F.silu(self.norm_in(h))))
        f = F.silu(torch.addcmul(shift.to(f.dtype), f, gain.to(f.dtype)))
        h = h + self.conv_out(self.dropout(f))
        if self.attention is not None:
            h = self.attention(h)
        if self.cross_attention is not None and tokens is not None:
            h = self.cross_attention(h, tokens)
        return h
