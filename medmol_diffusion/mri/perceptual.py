"""A perceptual distance without a trained network: amplitudes of wavelet bands, which blur takes away."""

import torch.nn.functional as F
from torch import Tensor, nn

from medmol_diffusion.mri.first_stages.haar import Haar

LEVELS = 3
FLOOR = 1e-3
"""Added to energies, of scans in [-1, 1]: what is weaker than three percent of the range is not told apart."""


class BandAmplitudes(nn.Module):
    r"""Mean distance between local amplitudes $a = \sqrt{\langle b^2 \rangle + 10^{-3}}$ of the 7 high-pass Haar bands
    b of 3 levels, $\langle \cdot \rangle$ the mean over 3^3 coefficients, repeated at the border.

    A fixed network of three layers, filters, squares and pooling, in the place of a trained one, which would have to be
    downloaded: amplitudes say how much detail there is, not where exactly, so a plausible texture out of phase costs
    little and a blurred one much. They are not the features of `medmol score`, whose distances so stay fair to models
    that are trained on these.
    """

    def __init__(self) -> None:
        super().__init__()
        self.haar = Haar(1)

    def forward(self, made: Tensor, real: Tensor) -> Tensor:
        """[B] of scans (B, 1, X, Y, Z), any sizes: padded by their border."""
        distance = made.new_zeros(len(made))
        for _ in range(LEVELS):
            (made, ours), (real, theirs) = self._bands(made), self._bands(real)
            distance = distance + (ours - theirs).abs().flatten(1).mean(1) / LEVELS
        return distance

    def layers(self, scans: Tensor) -> list[Tensor]:
        """Amplitudes (B, 7, X / 2^l, Y / 2^l, Z / 2^l), rounded up, of levels l = 1, 2, 3 of scans (B, 1, X, Y, Z)."""
        found = []
        for _ in range(LEVELS):
            scans, amplitudes = self._bands(scans)
            found.append(amplitudes)
        return found

    def _bands(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(block means, amplitudes of the high-pass bands)."""
        z, y, x_ = (size % 2 for size in reversed(x.shape[2:]))
        bands = self.haar.encode(F.pad(x, (0, z, 0, y, 0, x_), mode="replicate"))
        energy = F.avg_pool3d(F.pad(bands[:, 1:].square(), (1,) * 6, mode="replicate"), 3, stride=1)
        return bands[:, :1] / 8**0.5, (energy + FLOOR).sqrt()
