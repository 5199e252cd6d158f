"""Simplex noise: smooth random fields of many scales, on voxels."""

from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
import torch
from torch import Tensor

from medmol_diffusion.core import Streams

PERIOD = 256
"""Cells of the lattice after which its gradients repeat."""
GRADIENTS = np.array([g for g in product((-1.0, 0.0, 1.0), repeat=3) if g.count(0.0) == 1])
"""[12, 3] from the centre of a cube to the middles of its edges (Perlin 2002, Improving noise)."""
REACH = 0.5
"""Squared distance from a corner at which its contribution ends. Gustavson's listing has 0.6, where the field jumps at
the faces of its simplices; 0.5, their height squared, is the largest without a jump."""


@dataclass(frozen=True)
class Simplex:
    r"""Fractal simplex noise (Perlin 2001; Wyatt et al. 2022): $\sum_o p^o n_o(2^o i / w)$ over octaves o = 0, 1, ...
    of simplex noise n_o, brought to mean 0 and standard deviation 1 over the grid.

    Every octave has gradients of its own and a place of its own in the lattice, drawn evenly, so that no voxel is
    special: simplex noise is zero at every corner of its lattice.

    Attributes:
        octaves: how many.
        wavelength: w, of the first, in voxels; each has half the wavelength of the one before.
        persistence: p, the amplitude of an octave over that of the one before.
    """

    octaves: int = 6
    wavelength: float = 64.0
    persistence: float = 0.8

    def __call__(self, shape: tuple[int, int, int], streams: Streams) -> Tensor:
        """(B, 1, X, Y, Z) float32, one field for each stream."""
        keys = streams.normals([self.octaves * PERIOD] * len(streams), 1, torch.float64)
        places = streams.normals([self.octaves * 3] * len(streams), 1, torch.float64)
        fields = [
            self.field(shape, key.view(self.octaves, PERIOD).numpy(), place.view(self.octaves, 3).numpy())
            for key, place in zip(keys, places, strict=True)
        ]
        return torch.from_numpy(np.stack(fields)[:, None]).float()

    def field(self, shape: tuple[int, int, int], keys: np.ndarray, places: np.ndarray) -> np.ndarray:
        """[X, Y, Z] of the numbers that one scan draws: ``keys`` [octaves, PERIOD], whose order is the permutation, and
        ``places`` [octaves, 3]; both normal."""
        total = np.zeros(shape)
        y, z = np.meshgrid(*[np.arange(n, dtype=np.float64) for n in shape[1:]], indexing="ij")
        for octave, (key, place) in enumerate(zip(keys, places, strict=True)):
            permutation = key.argsort()
            for x, slab in enumerate(total):  # a slab at a time stays in the processor's cache
                # Many cells wide, a normal distribution is even within a cell.
                voxels = np.stack([np.full_like(y, x), y, z])
                points = voxels * (2**octave / self.wavelength) + 32 * place.reshape(3, 1, 1)
                slab += self.persistence**octave * simplex_noise(points, permutation)
        return (total - total.mean()) / total.std()


def simplex_noise(points: np.ndarray, permutation: np.ndarray) -> np.ndarray:
    r"""[...] 3-D simplex noise at points [3, ...], in units of a cell.

    The lattice of cubes is squeezed along the diagonal, $v = i - (i_x + i_y + i_z) / 6$, and each cube falls into six
    simplices. With d_k the way from corner k of the point's simplex and g_k the gradient there,
    $n = \sum_k \max(0, 1/2 - |d_k|^2)^4 \, g_k \cdot d_k$ (Perlin 2001; Gustavson 2005). The field and its first three
    derivatives are continuous.

    Args:
        points: in any units of float64.
        permutation: [PERIOD] of 0, 1, ..., PERIOD - 1, which hashes a corner to a gradient.
    """
    cell = np.floor(points + points.sum(0) / 3).astype(np.int64)
    first = points - (cell - cell.sum(0) / 6)
    # The corners of the simplex are reached by steps along the axes in the order of the coordinates, largest first.
    rank = _rank(first)
    wrapped = np.concatenate([permutation, permutation])
    noise = np.zeros(points.shape[1:])
    for k in range(4):
        step = rank < k
        d = first - step + k / 6
        fall = np.square(np.maximum(0.0, REACH - np.square(d).sum(0)))
        x, y, z = (cell + step) % PERIOD
        gradients = GRADIENTS[wrapped[x + wrapped[y + wrapped[z]]] % len(GRADIENTS)]
        noise += fall * fall * np.einsum("...a,a...->...", gradients, d)
    return noise


def _rank(v: np.ndarray) -> np.ndarray:
    """[3, ...] for each coordinate how many of the others are larger, the earlier axis first among equals."""
    rank = np.zeros(v.shape, dtype=np.int8)
    for a, b in permutations(range(3), 2):
        rank[a] += (v[b] >= v[a]) if b < a else (v[b] > v[a])
    return rank
