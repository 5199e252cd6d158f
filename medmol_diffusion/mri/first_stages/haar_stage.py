"""The exact first stage: cosine coefficients to diffuse, wavelet channels to look at."""

import math
from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor

from medmol_diffusion.core import Parameterization, Preconditioned, Space
from medmol_diffusion.core.noise import Randomness
from medmol_diffusion.core.observation import DiscretizedGaussian
from medmol_diffusion.mri.batch import VolumeBatch
from medmol_diffusion.mri.first_stages.first_stage import FirstStage, Seen
from medmol_diffusion.mri.first_stages.haar import Haar
from medmol_diffusion.mri.spectrum import CosineSpace, Spectrum

FLOOR = 0.05
"""Added to the energies before their logarithm is taken; whitened coefficients have a variance of 1."""


class HaarStage(FirstStage):
    r"""An orthonormal first stage, so that the likelihood of a scan is that of its state, exactly.

    A scan v becomes the state x = C(v - m): m is the guess, C the orthonormal cosine transform of the scan's own box,
    so that log|det| = 0, padding is not counted, and p(data | z_0) is a discretised Gaussian for every voxel. In this
    basis the second moments of scans are diagonal, or nearly. The network's output is read as the residual of the best
    linear denoiser, frequency by frequency: a network that outputs zero is the Wiener filter of the spectrum of v - m,
    and its bound is the code length of the Gaussian with that spectrum round the guess.

    The U-Net sees the wavelet-packet coefficients y of the whitened state and log(y^2 + FLOOR), and answers with an
    offset a and a gain b for each: the output is a + b y. Wavelet coefficients of images are close to Gaussian with a
    variance that changes from place to place, and for such data the best denoiser is a local gain (Portilla et al.
    2003); a U-Net of a few normalised channels would have to learn to multiply before it could say that.

    Args:
        levels: of the wavelet packet, 1 to 3 as a rule; 0 works on the voxels themselves.
    """

    baseline_name = "Gaussian of the training scans' mean and spectrum"

    def __init__(self, levels: int = 2) -> None:
        super().__init__()
        self.haar = Haar(levels)
        self.spectrum = Spectrum()
        self.factor = self.haar.factor
        self.channels_in = self.channels_out = 2 * self.haar.channels(1)

    def fit(self, scans: Iterable[tuple[VolumeBatch, Tensor]]) -> None:
        self.spectrum.fit(self._state(batch, guess) for batch, guess in scans)

    def space(self, mask: Tensor) -> CosineSpace:
        return CosineSpace(mask)

    def encode(self, batch: VolumeBatch, guess: Tensor, randomness: Randomness) -> tuple[CosineSpace, Tensor]:
        return self._state(batch, guess)

    def _state(self, batch: VolumeBatch, guess: Tensor) -> tuple[CosineSpace, Tensor]:
        space = CosineSpace(batch.mask)
        return space, space.encode(batch.data.to(guess) - guess)

    def decode(self, x: Tensor, space: Space, guess: Tensor) -> Tensor:
        """The guess itself outside what is counted."""
        assert isinstance(space, CosineSpace)
        return space.decode(x) + guess

    def parameterization(self) -> Parameterization:
        return Preconditioned(self.spectrum)

    def features(self, z: Tensor, space: Space) -> Tensor:
        assert isinstance(space, CosineSpace)
        y = self.haar.encode(space.decode(z))
        return torch.cat([y, (y.square() + FLOOR).log()], 1)

    def output(self, answer: Tensor, features: Tensor, space: Space) -> Tensor:
        assert isinstance(space, CosineSpace)
        offset, gain = answer.chunk(2, 1)
        return space.encode(self.haar.decode(offset + gain * features[:, : gain.shape[1]]))

    def observed(self, batch: VolumeBatch, guess: Tensor, levels: int, randomness: Randomness) -> Seen:
        space, x = self._state(batch, guess)
        observation = DiscretizedGaussian(levels, partial(self.decode, space=space, guess=guess))
        voxels = batch.mask if batch.wanted is None else batch.wanted
        return Seen(space, x, observation, (batch.data, voxels), {"log_volume": torch.zeros_like(space.dim())})

    def baseline(self, batch: VolumeBatch, guess: Tensor, levels: int) -> Tensor:
        r"""[B] nats of the Gaussian with the guess for a mean and the spectrum of the training scans.

        Data on bin centres have no density, so they are spread evenly over their bins, of width w, before it is taken:
        $\sum_k \tfrac12 [(x_k^2 + w^2/12) / \lambda_k + \log 2 \pi \lambda_k] - \log w$ with
        $\lambda_k = s_k^2 + w^2/12$ is its mean over the spreading, and an upper bound on the code length of the grey
        levels.
        """
        space, x = self._state(batch, guess)
        width = 2 / (levels - 1)
        spread = width**2 / 12
        variance = self.spectrum(space).double().square() + spread
        nats = 0.5 * ((x.double().square() + spread) / variance + (2 * math.pi * variance).log()) - math.log(width)
        return space.sum(nats)
