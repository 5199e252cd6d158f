"""healthy_mean: the mean of healthy heads, for voxelwise z-scores."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.method import Restored
from medmol_diffusion.mri.anomaly.registration import Template, pull
from medmol_diffusion.mri.anomaly.restore.on_template import as_scans, healthy_template, less
from medmol_diffusion.mri.anomaly.setting import Setting

SHRINKAGE = 4
"""The variance of a voxel leans on that of the whole head as if so many more scans had it there: with few scans its own
is anything."""


@dataclass(frozen=True)
class HealthyMean:
    r"""The mean m of healthy scans on their template, with the weight 1 / s: under l1 the map is |z| = |v - m| / s, the
    z-score of every voxel; under ``bright`` its positive part.

    $s^2 = (\sum_n (v_n - m)^2 + 4 \bar s^2) / (n + 3)$, with $\bar s^2$ the mean sample variance over the template's
    head, and s at least the width of a grey level.

    Attributes:
        registration: to the template, a name in REGISTRATIONS.
        template, mean, std: what has been learned, [X, Y, Z] on the template.
    """

    registration: str = "affine"
    template: Template | None = None
    mean: np.ndarray | None = None
    std: np.ndarray | None = None

    def fitted(self, setting: Setting, healthy: Sequence[Exam]) -> Self:
        """Raises InputError for fewer than two scans."""
        template, moved = healthy_template(healthy, self.registration)
        if len(moved) < 2:
            raise InputError(f"z-scores need at least 2 healthy scans, not {len(moved)}: give more")
        mean = moved.mean(0, dtype=np.float64)
        squares = np.square(moved - mean).sum(0)
        everywhere = squares[template.head].mean() / (len(moved) - 1)
        variance = (squares + SHRINKAGE * everywhere) / (len(moved) - 1 + SHRINKAGE)
        std = np.sqrt(variance).clip(min=2 / (setting.model.grid.levels - 1))
        return replace(self, template=template, mean=mean.astype(np.float32), std=std.astype(np.float32))

    def __call__(self, setting: Setting, exam: Exam) -> Restored:
        if self.template is None or self.mean is None or self.std is None:
            raise InputError("the voxelwise z-score needs healthy scans: call fit, or give --healthy")
        mean, weight = self.mean, 1 / self.std
        restored, backs = less(self.template, exam, lambda moved: moved - mean)
        return Restored(restored, weight=as_scans([pull(weight, back, 0.0) for back in backs], exam))
