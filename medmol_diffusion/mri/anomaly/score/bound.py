"""The code length of a scan under the model."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from medmol_diffusion.core import elbo
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.setting import Setting


@dataclass(frozen=True)
class Bound:
    """The bound on -log p(scan | healthy), in bits per counted voxel: prior, diffusion and reconstruction.

    All voxels of the scan's own grid count, whatever is looked at: a scan is coded whole. Low bits are no proof of
    health: what is smooth is short to code wherever it comes from (Nalisnick et al. 2019; Serrà et al. 2020). Where
    that matters wrap it in Deviation.

    Attributes:
        draws: calls of the network, their times stratified.

    Raises:
        InputError: no draw.
    """

    draws: int = 16

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise InputError(f"draws = {self.draws} of a bound must be at least 1")

    @torch.no_grad()
    def __call__(self, setting: Setting, exam: Exam, maps: Tensor) -> Tensor:
        model = setting.model
        seen = model.observed(exam.batch, setting.seed)
        seen = replace(seen, condition=setting.known(exam, setting.streams(exam)))
        found = elbo(
            model.denoiser,
            model.schedule,
            seen.space,
            seen.x,
            seen.observation,
            seen.data,
            seen.streams,
            draws=self.draws,
            condition=seen.condition,
        )
        return seen.complete(found).bits_per_dim
