"""One number for a scan: how little it looks like a healthy one."""

from dataclasses import dataclass

import torch
from torch import Tensor

from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.setting import Setting


@dataclass(frozen=True)
class TopShare:
    """The mean of the highest ``share`` of the map inside; 1 for the mean of all of it."""

    share: float = 0.01

    def __call__(self, setting: Setting, exam: Exam, maps: Tensor) -> Tensor:
        return torch.stack([self.of(map_[inside]) for map_, inside in zip(maps, exam.inside, strict=True)])

    def of(self, values: Tensor) -> Tensor:
        """Of the values of one scan."""
        return values.topk(max(1, round(self.share * len(values)))).values.mean()


TOP_SHARE = TopShare()
"""The score of methods that do not say otherwise."""
