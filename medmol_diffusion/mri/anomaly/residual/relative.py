"""Relative: residuals in units of what healthy voxels like them are missed by."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from scipy.ndimage import gaussian_gradient_magnitude
from torch import Tensor

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.residual.distance import l1
from medmol_diffusion.mri.anomaly.setting import Setting

FEW = 10
"""Voxels whose weight the mean of all has in every cell: a cell of less is not believed."""
FLOOR = 1e-6
"""The least expected residual, of intensities in [-1, 1]."""


@dataclass(frozen=True)
class Expected:
    """What a residual is expected to be.

    Attributes:
        edges: the inner bounds of the cells of r and of |grad r|, [bins - 1] each.
        means: [bins, bins] of healthy residuals in each cell.
    """

    edges: tuple[np.ndarray, np.ndarray]
    means: np.ndarray

    def __call__(self, values: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Of voxels with these r and |grad r|."""
        r, slope = (np.digitize(one, edges) for one, edges in zip(values, self.edges, strict=True))
        return self.means[r, slope]


@dataclass(frozen=True)
class Relative:
    r"""$a / E[a \mid r, |\nabla r|]$: how many times what healthy voxels as bright, beside as steep an edge, are missed
    by.

    No model restores a healthy scan exactly: a (a residual) is large along edges and in bright tissue, whatever lies
    there, so that a threshold on a alone finds those first. The expectation is over the voxels of healthy scans, by
    the cell of a table of quantiles of the healthy version r and of its gradient (by derivatives of a Gaussian of one
    voxel). No registration, and a few scans are enough: a cell holds thousands of voxels. Dividing a residual by its
    expected size is the usual way to make errors of unequal variance comparable (studentised residuals).

    Attributes:
        residual: a.
        bins: quantiles of each of the two.
        expected: what has been learnt; None before ``compared``.

    Raises:
        InputError: fewer than one bin, or it is asked before it has seen healthy scans.
    """

    residual: Callable[[Setting, Exam, Tensor], Tensor] = l1
    bins: int = 8
    expected: Expected | None = None

    def __post_init__(self) -> None:
        if self.bins < 1:
            raise InputError(f"bins = {self.bins}: residuals are compared in at least one cell")

    @torch.no_grad()
    def compared(self, setting: Setting, healthy: Iterable[tuple[Exam, Tensor]]) -> Self:
        """The residual, having seen healthy scans and their healthy versions.

        Raises:
            InputError: none of their voxels is looked at.
        """
        columns = []
        for exam, restored in healthy:
            inside = exam.inside.cpu().numpy()
            found = self.residual(setting, exam, restored).cpu().numpy()
            columns.append([one[inside] for one in (*_seen(restored), found)])
        r, slope, found = (np.concatenate(one) for one in zip(*columns, strict=True))
        if not len(found):
            raise InputError("no voxel of the healthy scans is looked at: residuals have nothing to be compared with")
        shares = np.linspace(0, 1, self.bins + 1)[1:-1]
        edges = (np.quantile(r, shares), np.quantile(slope, shares))
        cells = np.digitize(r, edges[0]) * self.bins + np.digitize(slope, edges[1])
        sums = np.bincount(cells, found.astype(np.float64), self.bins**2)
        counts = np.bincount(cells, minlength=self.bins**2)
        means = (sums + FEW * found.mean(dtype=np.float64)) / (counts + FEW)
        return replace(self, expected=Expected(edges, np.maximum(means, FLOOR).reshape(self.bins, self.bins)))

    def __call__(self, setting: Setting, exam: Exam, restored: Tensor) -> Tensor:
        if self.expected is None:
            raise InputError("relative residuals need healthy scans: call fit, or give --healthy")
        found = self.residual(setting, exam, restored)
        return found / torch.from_numpy(self.expected(_seen(restored))).to(found)


def _seen(restored: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Healthy versions and the size of their gradients."""
    scans = restored.cpu().numpy()
    return scans, np.stack([gaussian_gradient_magnitude(scan, (0, 1, 1, 1)) for scan in scans])
