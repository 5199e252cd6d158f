"""Features of a network, or of wavelets, that only one of the two has."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.residual.padding import padded_alike
from medmol_diffusion.mri.anomaly.setting import Setting
from medmol_diffusion.mri.perceptual import BandAmplitudes

Features = Callable[[Tensor], Sequence[Tensor]]
"""Scans (B, 1, X, Y, Z) in [-1, 1] -> the layers of a network, (B, C, x, y, z) each."""


def band_amplitudes(v: Tensor) -> list[Tensor]:
    """Local amplitudes of wavelet bands, which need no weights (mri.perceptual)."""
    return BandAmplitudes().to(v).layers(v)


@dataclass(frozen=True)
class Perceptual:
    r"""$\sum_l \frac1{C_l} \sum_c |f_{lc}(v) - f_{lc}(r)| / L$ of L layers, each interpolated to the voxels (Johnson et
    al. 2016, with L1; as a residual, Shvetsova et al. 2021 and Bercea et al. 2023).

    Attributes:
        features: of a network, frozen and in eval mode; the amplitudes of wavelet bands when left out.
    """

    features: Features = band_amplitudes

    @torch.no_grad()
    def __call__(self, setting: Setting, exam: Exam, restored: Tensor) -> Tensor:
        layers = zip(self.features(exam.data), self.features(padded_alike(exam, restored)), strict=True)
        apart = [(ours - theirs).abs().mean(1, keepdim=True) for ours, theirs in layers]
        size = exam.data.shape[2:]
        return torch.stack([F.interpolate(d, size=size, mode="trilinear") for d in apart]).mean(0)
