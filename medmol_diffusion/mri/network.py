"""The network of a volume diffusion: between the core's cosine coefficients and the U-Net's wavelet channels."""

from typing import Any

import torch
from torch import Tensor, nn

from medmol_diffusion.mri.first_stage import Haar
from medmol_diffusion.mri.spectrum import CosineSpace


class VolumeNetwork(nn.Module):
    """A U-Net behind the core's network signature: cosine coefficients in and out, wavelet channels inside.

    The U-Net sees the wavelet coefficients y of the whitened scan and log(y^2 + FLOOR), and answers with an offset a
    and a gain b for each: the output is a + b y. Wavelet coefficients of images are close to Gaussian with a variance
    that changes from place to place, and for such data the best denoiser is a local gain (Portilla et al. 2003); a
    U-Net of a few normalised channels would have to learn to multiply before it could say that.

    Args:
        network: from 2 x 8^levels channels to as many.
        first_stage: the wavelet packet.
    """

    FLOOR = 0.05

    def __init__(self, network: nn.Module, first_stage: Haar) -> None:
        super().__init__()
        self.network, self.first_stage = network, first_stage

    def forward(self, z: Tensor, gamma: Tensor, space: CosineSpace, condition: Any = None) -> Tensor:
        y = self.first_stage.encode(space.decode(z))
        energy = (y.square() + self.FLOOR).log()
        offset, gain = self.network(torch.cat([y, energy], 1), gamma, condition).chunk(2, 1)
        return space.encode(self.first_stage.decode(offset + gain * y))
