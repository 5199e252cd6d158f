"""The network of a volume diffusion: between the states of a first stage and the channels of a U-Net."""

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor, nn

from medmol_diffusion.core import Space
from medmol_diffusion.mri.first_stages.first_stage import FirstStage
from medmol_diffusion.mri.first_stages.haar import Haar
from medmol_diffusion.mri.known import Known
from medmol_diffusion.mri.windows import Network, Windows, positions


class ImageChannels(nn.Module):
    """Given images as channels of a U-Net: wavelet-packet coefficients, each brought to mean 0 and variance 1.

    Args:
        images: K of them.
        factor: 2^levels, how many voxels wide a voxel of the U-Net is; K factor^3 channels come out.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, images: int, factor: int) -> None:
        super().__init__()
        self.haar = Haar(factor.bit_length() - 1)
        self.channels = self.haar.channels(images)
        self.register_buffer("mean", torch.zeros(self.channels, 1, 1, 1))
        self.register_buffer("std", torch.ones(self.channels, 1, 1, 1))

    def fit(self, images: Iterable[Tensor]) -> None:
        """Measure mean and variance of every channel on images [1, K, X, Y, Z]; a constant one keeps the variance 1."""
        count, total, squares = 0, torch.zeros(2, self.channels, dtype=torch.float64), None
        sums, squares = total
        for image in images:
            y = self.haar.encode(image.cpu())[0].flatten(1).double()
            sums += y.sum(1)
            squares += y.square().sum(1)
            count += y.shape[1]
        mean = sums / max(1, count)
        variance = squares / max(1, count) - mean.square()
        std = torch.where(variance > 1e-8, variance.clamp(min=1e-8).sqrt(), 1.0)
        self.mean.copy_(mean.view_as(self.mean))
        self.std.copy_(std.view_as(self.std))

    def forward(self, images: Tensor) -> Tensor:
        """[B, K, X, Y, Z] -> [B, K f^3, X/f, Y/f, Z/f]."""
        return (self.haar.encode(images.to(self.mean)) - self.mean) / self.std


class VolumeNetwork(nn.Module):
    """A U-Net behind the core's network signature: states of a first stage in and out.

    The channels of given images are joined to those of the state; covariates are the U-Net's embedding, and a sequence
    of embeddings its tokens.

    Args:
        network: from first_stage.channels_in + images factor^3 channels to first_stage.channels_out.
        first_stage: between states and channels.
        images: how many images are given.
        windows: in which the U-Net sees the grid; the whole at once when left out.
        positions: whether it is told, as three more channels, where each place lies.
    """

    def __init__(
        self,
        network: nn.Module,
        first_stage: FirstStage,
        images: int = 0,
        windows: Windows | None = None,
        positions: bool = False,
    ) -> None:
        super().__init__()
        self.network, self.first_stage, self.windows, self.positions = network, first_stage, windows, positions
        self.images = ImageChannels(images, first_stage.factor) if images else None

    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: Known | None = None) -> Tensor:
        features = self.first_stage.features(z, space)
        parts = [features]
        if self.images is not None:
            if condition is None or condition.images is None:
                raise TypeError("the network reads given images: pass them in the condition")
            parts.append(self.images(condition.images))
        asked: dict[str, Tensor | None] = {}
        if condition is not None and condition.numbers is not None:
            asked["embedding"] = condition.numbers
        if condition is not None and condition.tokens is not None:
            asked |= {"tokens": condition.tokens, "token_mask": condition.token_mask}
        if self.positions:
            parts.append(positions(features.shape[2:], features).expand(len(z), -1, -1, -1, -1))
        answer = self._answer(torch.cat(parts, 1), partial(self.network, gamma=gamma, **asked), condition)
        return self.first_stage.output(answer, features, space)

    def _answer(self, x: Tensor, network: Network, condition: Known | None) -> Tensor:
        if self.windows is None:
            return network(x)
        if condition is None or condition.window is None:
            return self.windows.slide(network, x)
        return self.windows.one(network, x, condition.window)
