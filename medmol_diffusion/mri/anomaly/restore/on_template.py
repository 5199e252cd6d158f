"""Healthy scans as arrays on a template, for stages that learn a voxel at a time."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.registration import Template


def healthy_template(healthy: Sequence[Exam], registration: str) -> tuple[Template, np.ndarray]:
    """The template of healthy scans, and the scans on it [n, X, Y, Z]."""
    pairs = [pair for exam in healthy for pair in arrays(exam)]
    return Template.of([scan for scan, _ in pairs], [head for _, head in pairs], registration)


def arrays(exam: Exam) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(scan, where to look) of each scan, [X, Y, Z]."""
    return zip(exam.data[:, 0].cpu().numpy(), exam.inside[:, 0].cpu().numpy(), strict=True)


def less(
    template: Template, exam: Exam, abnormal: Callable[[np.ndarray], np.ndarray]
) -> tuple[Tensor, list[np.ndarray]]:
    """(scans less what is abnormal of them on the template, the matrices from each scan's voxels to the template's)."""
    found = [template.restore(scan, head, abnormal) for scan, head in arrays(exam)]
    return as_scans([restored for restored, _ in found], exam), [back for _, back in found]


def as_scans(images: Sequence[np.ndarray], exam: Exam) -> Tensor:
    """(B, 1, X, Y, Z) of arrays [X, Y, Z], where the exam's scans are."""
    return torch.from_numpy(np.stack(images))[:, None].to(exam.data)
