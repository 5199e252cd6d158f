"""harmonise: denoised, and blended with the scan on the way."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from medmol_diffusion.core import diffuse
from medmol_diffusion.core.schedule import per_example
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.method import Restored
from medmol_diffusion.mri.anomaly.restore.smoothing import Smoothing
from medmol_diffusion.mri.anomaly.setting import Setting

TINY = 1e-6
"""A difference that is none, of intensities in [-1, 1]."""


@dataclass(frozen=True)
class Harmonise:
    r"""Noised to ``gamma`` and denoised; at the levels of ``blends`` the scan comes back where both are
    alike (THOR, Bercea et al. 2024, Diffusion models with implicit guidance for medical anomaly detection).

    At such a level $\hat x$ is read off z and made a scan r. With v the scan and $m = \min(1, G |v - r| / c)$, G a blur
    and c a percentile of $G |v - r|$ inside, the blend $m r + (1 - m) v$ is noised again to that level, with the noise
    that the scan was noised with at first. The versions r are ``earlier``, so that the map is a harmonic mean. Scans
    live in [-1, 1] and so do blends.

    Attributes:
        gamma: where it starts; 0.92 is t = 350 of 1000.
        blends: falling levels below; 0.42, -1.31 and -3.5 are t = 300, 150 and 50.
        steps: of the sampler, from ``gamma`` to the data, shared out over the stretches between.
        sampler: a name in core.STEPPERS.
        blur: standard deviation of G in voxels.
        percentile: whose value is c, in percent.

    Raises:
        InputError: levels that do not fall.
    """

    gamma: float = 0.92
    blends: tuple[float, ...] = (0.42, -1.31, -3.5)
    steps: int = 25
    sampler: str = "ancestral"
    blur: float = 1.0
    percentile: float = 95.0

    def __post_init__(self) -> None:
        if any(low >= high for high, low in pairwise((self.gamma, *self.blends))):
            raise InputError(f"blends = {self.blends} must fall, from below gamma = {self.gamma} towards the data")

    def __call__(self, setting: Setting, exam: Exam) -> Restored:
        streams = setting.streams(exam)
        state = setting.state(exam, streams)
        eps = state.space.noise(state.x, streams)
        end = float(setting.model.schedule.gamma_0)
        levels = [self.gamma, *(level for level in self.blends if level > end), end]
        z = diffuse(state.x, eps, self._level(levels[0], eps))
        versions: list[Tensor] = []
        for high, low in pairwise(levels):
            if versions:
                blended = replace(exam, batch=replace(exam.batch, data=self.blended(exam, versions[-1])))
                x = setting.encoded(blended, state.known, streams).x
                z = diffuse(x, eps, self._level(high, eps))
            steps = max(1, round(self.steps * (high - low) / (levels[0] - end)))
            gammas = torch.linspace(high, low, steps + 1, dtype=torch.float64)
            solver = setting.solver(gammas, self.sampler, state.known)
            versions.append(setting.scans(solver.denoise(state.space, z, streams, state.known), state))
        return Restored(versions[-1], tuple(versions[:-1]))

    def blended(self, exam: Exam, restored: Tensor) -> Tensor:
        """m r + (1 - m) v."""
        apart = Smoothing(self.blur).blur((exam.data - restored).abs() * exam.inside)
        parts = zip(apart.cpu().numpy(), exam.inside.cpu().numpy(), strict=True)
        top = [max(float(np.percentile(a[inside], self.percentile)), TINY) for a, inside in parts]
        scale = per_example(torch.tensor(top), apart)
        return torch.lerp(exam.data, restored, (apart / scale).clamp(max=1))

    def _level(self, gamma: float, like: Tensor) -> Tensor:
        return torch.full((len(like),), gamma, dtype=torch.float64, device=like.device)
