"""The Haar first stage: voxels to wavelet-packet channels and back, exactly."""

import torch
from torch import Tensor, nn

from medmol_diffusion.errors import InputError


class Haar(nn.Module):
    r"""Orthonormal 3-D Haar wavelet-packet transform, `levels` levels deep.

    Every block of f x f x f voxels (f = 2^levels) becomes 8^levels channels of one voxel, $y = Q x$ with
    $Q = H_f \otimes H_f \otimes H_f$, $H_f = h^{\otimes \text{levels}}$ and
    $h = \tfrac{1}{\sqrt 2} \begin{pmatrix} 1 & 1 \\ 1 & -1 \end{pmatrix}$.
    Q is orthogonal: inner products, Gaussian noise and densities are the same on both sides, and the log-determinant
    is 0 (Mallat, A Wavelet Tour of Signal Processing, section 8.1).

    Channel order: channel c of the input becomes channels c 8^levels + k, where k = (k_x f + k_y) f + k_z and bit j of
    k_x is 1 where the signal is high-pass at scale 2^(j+1) along X. k = 0 is the low-pass, f^(3/2) times the
    block's mean. `levels = 0` is the identity.

    Attributes:
        factor: f = 2^levels, of which every size must be a multiple.
    """

    def __init__(self, levels: int = 2) -> None:
        super().__init__()
        if levels < 0:
            raise InputError(f"Haar needs levels >= 0, not {levels}.")
        self.levels = levels
        self.factor = 2**levels
        step = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64) / 2**0.5
        axis = torch.ones(1, 1, dtype=torch.float64)
        for _ in range(levels):
            axis = torch.kron(axis, step)
        self.register_buffer("matrix", torch.kron(torch.kron(axis, axis), axis), persistent=False)
        self.matrix: Tensor

    def channels(self, channels: int) -> int:
        """Number of channels that `channels` channels become."""
        return channels * 8**self.levels

    def encode(self, x: Tensor) -> Tensor:
        """(B, C, X, Y, Z) -> (B, C 8^levels, X/f, Y/f, Z/f), in channels_last_3d.

        Raises:
            InputError: a size is not a multiple of f.
        """
        if self.levels == 0:
            return x
        f = self.factor
        if any(size % f for size in x.shape[2:]):
            raise InputError(
                f"A scan of {_times(x.shape[2:])} voxels cannot go through {self.levels} Haar levels: "
                f"crop or pad every size to a multiple of {f}."
            )
        blocks = x.unflatten(4, (-1, f)).unflatten(3, (-1, f)).unflatten(2, (-1, f))  # B C X f Y f Z f
        blocks = blocks.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(5)  # B X Y Z C f^3
        return (blocks @ self.matrix.to(x.dtype).T).flatten(4).permute(0, 4, 1, 2, 3)

    def decode(self, y: Tensor) -> Tensor:
        """(B, C 8^levels, X, Y, Z) -> (B, C, X f, Y f, Z f): the inverse of `encode`, which is its transpose.

        Raises:
            InputError: the number of channels is not a multiple of 8^levels.
        """
        if self.levels == 0:
            return y
        f = self.factor
        if y.shape[1] % f**3:
            raise InputError(f"{self.levels} Haar levels decode a multiple of {f**3} channels, not {y.shape[1]}.")
        blocks = y.permute(0, 2, 3, 4, 1).unflatten(4, (-1, f**3)) @ self.matrix.to(y.dtype)  # B X Y Z C f^3
        blocks = blocks.unflatten(5, (f, f, f)).permute(0, 4, 1, 5, 2, 6, 3, 7)  # B C X f Y f Z f
        return blocks.flatten(6, 7).flatten(4, 5).flatten(2, 3)


def _times(sizes: torch.Size) -> str:
    return " x ".join(str(size) for size in sizes)
