"""Reconstructions from many noise levels, judged together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.residual import l2, structure
from medmol_diffusion.mri.anomaly.score.healthy import mean_and_std
from medmol_diffusion.mri.anomaly.setting import Setting

if TYPE_CHECKING:
    from medmol_diffusion.mri.anomaly.method import Residual, Restore


@dataclass(frozen=True)
class MultiStart:
    r"""$\frac1{K} \sum_k (e_k - m_k) / s_k$ over all pairs k of a reconstruction and a metric (ddpm-ood, Graham et al.
    2023).

    e_k is the mean over the voxels that are looked at of a residual between the scan and a reconstruction of it, m_k
    and s_k its mean and standard deviation over healthy scans: levels at which reconstructions miss by much count as
    much as those at which they miss by little. The paper starts at many t, with PLMS, and takes MSE and LPIPS.

    Attributes:
        restores: one for each start, Partial(gamma, ..., repeats=1) for example.
        metrics: residuals, whose mean is the metric.
        mean, std: [K], of the healthy scans.

    Raises:
        InputError: no restore, or no metric.
    """

    restores: "tuple[Restore, ...]"
    metrics: "tuple[Residual, ...]" = (l2, structure)
    mean: Tensor | None = None
    std: Tensor | None = None

    def __post_init__(self) -> None:
        if not self.restores or not self.metrics:
            raise InputError("a score of many starts needs at least one restore and one metric")

    def fitted(self, setting: Setting, healthy: Sequence[Exam]) -> Self:
        """Raises InputError for fewer than two scans."""
        mean, std = mean_and_std(torch.cat([self.errors(setting, exam) for exam in healthy]))
        return replace(self, mean=mean, std=std)

    @torch.no_grad()
    def errors(self, setting: Setting, exam: Exam) -> Tensor:
        """[B, K] e_k."""
        count, found = exam.inside.flatten(1).sum(1), []
        for restore in self.restores:
            restored = restore(setting, exam).scans
            for metric in self.metrics:
                found.append((metric(setting, exam, restored) * exam.inside).double().flatten(1).sum(1) / count)
        return torch.stack(found, 1)

    def __call__(self, setting: Setting, exam: Exam, maps: Tensor) -> Tensor:
        if self.mean is None or self.std is None:
            raise InputError("a score of many starts needs healthy scans: call fit, or give --healthy")
        return ((self.errors(setting, exam) - self.mean) / self.std).mean(1)
