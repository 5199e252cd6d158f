"""pca: the scan rebuilt of the principal components of healthy ones."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.method import Restored
from medmol_diffusion.mri.anomaly.registration import Template
from medmol_diffusion.mri.anomaly.restore.on_template import healthy_template, less
from medmol_diffusion.mri.anomaly.setting import Setting

RANK = 1e-9
"""Components of less than this share of the greatest variance are rounding."""


@dataclass(frozen=True)
class PCA:
    r"""$r = m + U U^T (v - m)$ on the template: m the mean of healthy scans, U their first principal components (as an
    anomaly baseline, Baur et al. 2021).

    The components are as few as explain ``share`` of the variance of the healthy scans, at least one.

    Attributes:
        share: in (0, 1]; 1 takes all components, n - 1 of n scans.
        registration: to the template, a name in REGISTRATIONS.
        template, mean, components: what has been learned, [X, Y, Z] and [K, X, Y, Z] on the template.

    Raises:
        InputError: a share outside (0, 1].
    """

    share: float = 0.9
    registration: str = "affine"
    template: Template | None = None
    mean: np.ndarray | None = None
    components: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise InputError(f"share = {self.share} of the variance must lie in (0, 1]")

    def fitted(self, setting: Setting, healthy: Sequence[Exam]) -> Self:
        """Raises InputError for fewer than two scans."""
        template, moved = healthy_template(healthy, self.registration)
        if len(moved) < 2:
            raise InputError(f"principal components need at least 2 healthy scans, not {len(moved)}: give more")
        mean = moved.mean(0, dtype=np.float64).astype(np.float32)
        centred = (moved - mean).reshape(len(moved), -1)
        # Of n scans of V voxels, n far below V: the components follow from the n x n products.
        products = np.zeros((len(moved), len(moved)))
        for part in np.array_split(centred, -(-centred.shape[1] // 2**20), axis=1):
            products += part.astype(np.float64) @ part.T.astype(np.float64)
        variances, turn = (found[..., ::-1] for found in np.linalg.eigh(products))
        there = variances > max(RANK * float(variances[0]), float(np.finfo(np.float32).tiny))
        variances, turn = variances[there], turn[:, there]
        explained = np.cumsum(variances) / variances.sum()
        count = 1 + int((explained < self.share - RANK).sum())
        scaled = (turn[:, :count] / np.sqrt(variances[:count])).T.astype(np.float32)
        components = (scaled @ centred).reshape(-1, *mean.shape)
        return replace(self, template=template, mean=mean, components=components)

    def __call__(self, setting: Setting, exam: Exam) -> Restored:
        if self.template is None or self.mean is None or self.components is None:
            raise InputError("principal components need healthy scans: call fit, or give --healthy")
        return Restored(less(self.template, exam, self.left)[0])

    def left(self, moved: np.ndarray) -> np.ndarray:
        """(1 - U U^T)(v - m) of a scan [X, Y, Z] on the template."""
        assert self.mean is not None
        assert self.components is not None
        centred = (moved - self.mean).astype(np.float64)
        return centred - np.tensordot(np.tensordot(self.components, centred, 3), self.components, 1)
