"""How far a score lies from that of healthy scans, on either side."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.score.healthy import mean_and_std
from medmol_diffusion.mri.anomaly.setting import Setting

if TYPE_CHECKING:
    from medmol_diffusion.mri.anomaly.method import Score


@dataclass(frozen=True)
class Deviation:
    """|s - mean| / std of a score s that does not read the map, mean and standard deviation over healthy scans.

    Minus the logarithm of a Gaussian fitted to the healthy scores is half its square and a constant: the same order as
    a density test. Leave to it what is suspicious on both sides.

    Attributes:
        score: of the model alone (Bound, Curvature): while it learns there is no map yet.
        mean, std: of the healthy scores.
    """

    score: "Score"
    mean: float | None = None
    std: float | None = None

    @torch.no_grad()
    def fitted(self, setting: Setting, healthy: Sequence[Exam]) -> Self:
        """Raises InputError for fewer than two scans."""
        found = torch.cat([self.score(setting, exam, torch.zeros_like(exam.data)) for exam in healthy])
        mean, std = mean_and_std(found[:, None])
        return replace(self, mean=float(mean), std=float(std))

    def __call__(self, setting: Setting, exam: Exam, maps: Tensor) -> Tensor:
        if self.mean is None or self.std is None:
            raise InputError("a score's deviation needs healthy scans: call fit, or give --healthy")
        return (self.score(setting, exam, maps) - self.mean).abs() / self.std
