"""A part of each scan made anew, the rest left as it is."""

from collections.abc import Callable

import torch
from torch import Tensor

from medmol_diffusion.core import Streams
from medmol_diffusion.mri.anomaly.exam import Exam

Make = Callable[[Exam, Tensor, Streams], Tensor]
"""(scans, their regions, streams) -> scans of which the regions are taken."""


def remade(exam: Exam, region: Tensor, streams: Streams, make: Make) -> Tensor:
    """The scans with regions, bool (B, 1, X, Y, Z), from ``make``, which sees only those that have one; every other
    voxel as it was, to the last bit."""
    rows = region.flatten(1).any(1).nonzero()[:, 0].cpu()
    if not len(rows):
        return exam.data
    part, inside = exam.take(rows), region[rows.to(region.device)]
    out = exam.data.clone()
    out[rows.to(out.device)] = torch.where(inside, make(part, inside, streams.take(rows)), part.data)
    return out
