"""inpaint: what a first map marks is masked and made anew."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np
import torch
from scipy.ndimage import binary_dilation
from torch import Tensor

from medmol_diffusion.core import Streams
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.method import Method, Restored
from medmol_diffusion.mri.anomaly.restore.partial import Partial
from medmol_diffusion.mri.anomaly.restore.patched import Patched
from medmol_diffusion.mri.anomaly.restore.region import remade
from medmol_diffusion.mri.anomaly.setting import Setting
from medmol_diffusion.mri.tasks.inpainting import Inpainting

TINY = 1e-6
"""A map that is 0, of intensities in [-1, 1]."""
PARTIAL = Method(Partial(gamma=-0.65))
"""The first map of a model of scans alone; -0.65 is t = 200 of 1000."""
PATCHED = Method(Patched())
"""That of a model of Inpainting."""


@dataclass(frozen=True)
class Inpaint:
    r"""A first map a above q, the quantile of healthy scans' own first maps, makes a mask; it is dilated, and what it
    holds is drawn anew from the rest (AutoDDPM, Bercea et al. 2023, Mask, stitch, and re-sample). Voxels outside of the
    mask stay as they are, and a scan without any comes back as it was.

    The map is weighted by the likelihood $\min(1, a / q)$: 1 in the mask, less in what was dilated. The paper divides
    by a percentile of the scan itself, by which every scan has lesions.

    A model of Inpainting draws from p(region | rest), from pure noise. One of scans alone holds the rest by RePaint: as
    the paper has it, the first map's own restored scan is stitched into the region and noised to t = 50 first.
    What the first restored scan kept of a lesion it mostly keeps; from pure noise (``gamma`` None; Pinaya et al. 2022)
    nothing of it is left, nor of the anatomy that was there.

    Attributes:
        first: the method of the first map; partial at t = 200, or patched with a model of Inpainting, when left out.
        quantile: of the healthy voxels' first maps.
        dilation: voxels by which the mask grows.
        gamma: the noise level where RePaint starts; -3.5 is t = 50 of 1000. None starts from pure noise.
        steps: of the sampler; RePaint calls the network steps * resamples times.
        sampler: a name in core.STEPPERS.
        resamples, jump: of RePaint: how often every stretch of ``jump`` steps is run.
        threshold: q; None before ``fitted``.

    Raises:
        InputError: a quantile outside (0, 1), or it is asked before it has seen healthy scans.
    """

    first: Method | None = None
    quantile: float = 0.975
    dilation: int = 1
    gamma: float | None = -3.5
    steps: int = 25
    sampler: str = "ancestral"
    resamples: int = 5
    jump: int = 5
    threshold: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.quantile < 1:
            raise InputError(f"quantile = {self.quantile} must lie in (0, 1): it is one of healthy voxels")

    def fitted(self, setting: Setting, healthy: Sequence[Exam]) -> Self:
        first = self._first(setting).fitted(setting, healthy)
        values = [first(setting, exam).maps[exam.inside].cpu().numpy() for exam in healthy]
        threshold = max(float(np.quantile(np.concatenate(values), self.quantile)), TINY)
        return replace(self, first=first, threshold=threshold)

    def __call__(self, setting: Setting, exam: Exam) -> Restored:
        if self.threshold is None:
            raise InputError("inpaint needs healthy scans: call fit, or give --healthy")
        first = self._first(setting)(setting, exam)
        likely = first.maps / self.threshold
        region = self.grown((likely > 1) & exam.inside) & exam.batch.mask
        make = self._of_the_rest if isinstance(setting.model.task, Inpainting) else self._repainted
        stitched = replace(exam.batch, data=torch.where(region, first.restored, exam.data))
        scans = remade(replace(exam, batch=stitched), region, setting.streams(exam), partial(make, setting))
        return Restored(scans, weight=likely.clamp(max=1))

    def grown(self, region: Tensor) -> Tensor:
        """Regions (B, 1, X, Y, Z), dilated."""
        if not self.dilation:
            return region
        grown = [binary_dilation(one, iterations=self.dilation) for one in region[:, 0].cpu().numpy()]
        return torch.from_numpy(np.stack(grown)[:, None]).to(region.device)

    def _first(self, setting: Setting) -> Method:
        if self.first is not None:
            return self.first
        return PATCHED if isinstance(setting.model.task, Inpainting) else PARTIAL

    def _of_the_rest(self, setting: Setting, exam: Exam, region: Tensor, streams: Streams) -> Tensor:
        state = setting.concealed(exam, region, streams)
        solver = setting.solver(setting.from_noise(self.steps), self.sampler, state.known)
        return setting.scans(solver.sample(state.space, state.x, streams, state.known), state)

    def _repainted(self, setting: Setting, exam: Exam, region: Tensor, streams: Streams) -> Tensor:
        state = setting.state(exam, streams)
        if self.gamma is None:
            gammas, start = setting.from_noise(self.steps), None
        else:
            gammas, start = setting.gammas(self.gamma, self.steps), state.x
        solver = setting.solver(gammas, self.sampler, state.known)
        kept = setting.model.first_stage.known(~region)
        made = solver.inpaint(state.space, state.x, kept, streams, self.resamples, self.jump, state.known, start)
        return setting.scans(made, state)
