"""The cosine spectrum of scans: the basis in which noise and data are both diagonal, or nearly."""

from collections.abc import Iterable
from functools import cached_property, lru_cache

import torch
from scipy.fft import dct
from scipy.ndimage import distance_transform_edt
from torch import Tensor, nn

from medmol_diffusion.core import Masked, Space

BINS = 20
"""Bins of each axis' frequencies, equally wide in the square root of the frequency: narrow where spectra are steep."""


class CosineSpace(Masked):
    r"""Cosine coefficients of scans, each in the orthonormal basis of its own box of counted voxels.

    With $n_a$ voxels along axis a, the coefficient of (k_x, k_y, k_z), 0 <= k_a < n_a, is
    $\sum_v v \prod_a c_{k_a} \cos(\pi (i_a + 1/2) k_a / n_a)$, $c_0^2 = 1/n_a$, $c_k^2 = 2/n_a$ (DCT-II). The map is
    orthonormal on the box: noise, norms and densities are those of the voxels, and what lies outside is not there.

    States are [B, X, Y, Z, 1], zero where k_a >= n_a.

    Args:
        mask: bool [B, 1, X, Y, Z], the counted voxels, a box in every scan.

    Raises:
        ValueError: the counted voxels of a scan do not fill a box.
    """

    def __init__(self, mask: Tensor) -> None:
        sides = [mask[:, 0].any(3).any(2), mask[:, 0].any(3).any(1), mask[:, 0].any(2).any(1)]
        counts = torch.stack([side.sum(1) for side in sides], 1)
        if not torch.equal(counts.prod(1), mask.flatten(1).sum(1)):
            raise ValueError("the counted voxels of a scan must fill a box")
        places = [torch.arange(side.shape[1], device=mask.device) for side in sides]
        low = [place < count[:, None] for place, count in zip(places, counts.T, strict=True)]
        super().__init__(low[0][:, :, None, None] & low[1][:, None, :, None] & low[2][:, None, None, :], 1)
        self.bases = [_bases(side) for side in sides]
        self.frequencies = [place / count[:, None] for place, count in zip(places, counts.T, strict=True)]

    def encode(self, v: Tensor) -> Tensor:
        """Voxels [B, 1, X, Y, Z] -> coefficients [B, X, Y, Z, 1]; what lies outside the boxes is lost."""
        x, y, z = (basis.to(v) for basis in self.bases)
        v = torch.einsum("bki,bcixy->bckxy", x, v)
        v = torch.einsum("bki,bcxiy->bcxky", y, v)
        return torch.einsum("bki,bcxyi->bcxyk", z, v)[:, 0, ..., None]

    def decode(self, w: Tensor) -> Tensor:
        """Coefficients [B, X, Y, Z, 1] -> voxels [B, 1, X, Y, Z], zero outside the boxes: the transpose of encode."""
        x, y, z = (basis.to(w) for basis in self.bases)
        v = torch.einsum("bki,bkxy->bixy", x, w[..., 0])
        v = torch.einsum("bki,bxky->bxiy", y, v)
        return torch.einsum("bki,bxyk->bxyi", z, v)[:, None]

    def localise(self, v: Tensor) -> Tensor:
        return self.decode(v)

    @cached_property
    def bins(self) -> Tensor:
        """[B, X, Y, Z] the bin of every coefficient's frequency in a Spectrum."""
        x, y, z = ((f.sqrt() * BINS).long().clamp(max=BINS - 1) for f in self.frequencies)
        return (x[:, :, None, None] * BINS + y[:, None, :, None]) * BINS + z[:, None, None, :]

    def delocalise(self, v: Tensor) -> Tensor:
        return self.encode(v)


class Spectrum(nn.Module):
    """Standard deviation of the cosine coefficients of a set of scans, by frequency.

    A coefficient's frequency along an axis is k / n, in [0, 1): the same place for boxes of all sizes.
    """

    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("std", torch.ones(BINS, BINS, BINS))

    def fit(self, states: Iterable[tuple[CosineSpace, Tensor]]) -> None:
        """Measure it on states [1, X, Y, Z, 1]; bins in which none falls take their neighbour's."""
        total, count = torch.zeros(2, BINS**3, dtype=torch.float64)
        for space, x in states:
            inside = space.mask.cpu()
            bins = space.bins.cpu()[inside]
            total.index_add_(0, bins, x.cpu().double()[..., 0][inside].square())
            count.index_add_(0, bins, torch.ones(len(bins), dtype=torch.float64))
        std = (total / count.clamp(min=1)).sqrt().clamp(min=1e-3).view_as(self.std)
        nearest = distance_transform_edt(
            (count == 0).view_as(self.std).numpy(), return_distances=False, return_indices=True
        )
        self.std.copy_(std[tuple(torch.from_numpy(nearest))])

    def forward(self, space: Space) -> Tensor:
        """[B, X, Y, Z, 1] the standard deviation of every coefficient."""
        assert isinstance(space, CosineSpace)
        return self.std.flatten()[space.bins][..., None]


def _bases(side: Tensor) -> Tensor:
    """[B, n, n] the cosine matrix of the places that ``side`` [B, n] counts, zero elsewhere."""
    out = torch.zeros(*side.shape, side.shape[1])
    for matrix, counted in zip(out, side.cpu(), strict=True):
        n = int(counted.sum())
        matrix[:n, counted] = _cosines(n).to(out)
    return out.to(side.device)


@lru_cache(maxsize=1024)
def _cosines(n: int) -> Tensor:
    """[n, n] rows of the orthonormal DCT-II, float64."""
    return torch.from_numpy(dct(torch.eye(n, dtype=torch.float64).numpy(), axis=0, norm="ortho"))
