r"""Memorisation: how near generated scans are to scans of the training set, and which are copies.

The declared distance of two scans is the root mean square difference of their thumbnails, block means on the judge's
grid of at most 24 voxels a side, in units of half the intensity range (-1 to 1). It forgives noise and fine detail, but
neither a turn nor a move of more than a block.

A distance alone says little: heads are more alike in some parts of the set than in others. So each is put in relation
to its surroundings, $a_j = d(x_j, t^*) / d(t^*, t')$: from the generated scan to its nearest training scan t*, over
from there to the nearest other training scan t'. $a_j > 1$ is authentic (Alaa et al. 2022, section 4.3), $a_j$ below
COPY a copy. Samples of the training distribution itself have $a_j > 1$ about half of the time; real scans that were not
trained on say how often exactly, and how many of them are taken for copies.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.distance import cdist

from medmol_diffusion.errors import InputError

SIDE = 24
"""Voxels of a thumbnail along its longest axis, at most."""
COPY = 0.5
"""What is nearer to its training scan than half as near as that one's own neighbour is a copy."""
_BLOCK = 64  # rows of distances made at once


def thumbnail(data: np.ndarray) -> np.ndarray:
    """(X, Y, Z) in [-1, 1] -> block means, flat float32, over the square root of their number: distances are RMS."""
    block = -(-max(data.shape) // SIDE)
    small = F.avg_pool3d(torch.from_numpy(np.ascontiguousarray(data))[None], block, ceil_mode=True).flatten()
    return (small / len(small) ** 0.5).numpy()


@dataclass(frozen=True)
class Nearest:
    """For every scan of a set: its nearest training scan.

    Attributes:
        place: (n,) which it is.
        distance: (n,) the root mean square difference.
        authenticity: (n,) the a_j of this module; infinite where two training scans are the same and this one is not.
    """

    place: np.ndarray
    distance: np.ndarray
    authenticity: np.ndarray

    @property
    def copies(self) -> np.ndarray:
        """bool (n,)"""
        return self.authenticity < COPY

    def order(self) -> list[int]:
        """The places of the scans, the least authentic first."""
        return np.argsort(self.authenticity, kind="stable").tolist()

    def only(self, some: np.ndarray) -> "Nearest":
        """The scans that a mask (n,) leaves."""
        return Nearest(self.place[some], self.distance[some], self.authenticity[some])

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return {name: getattr(self, name).tolist() for name in ("place", "distance", "authenticity", "copies")}


def nearest(thumbnails: np.ndarray, training: np.ndarray) -> Nearest:
    """The nearest of the training thumbnails (m, k) to each of (n, k).

    Raises:
        InputError: fewer than two training scans.
    """
    if len(training) < 2:
        raise InputError(f"Memorisation needs at least 2 training scans to compare with, not {len(training)}.")
    place, distance = _nearest(thumbnails, training)
    _, own = _nearest(training, training, others=True)
    # a copy of one of two equal training scans: 0 / 0, and a copy all the same
    beside = own[place]
    relation = np.divide(distance, beside, out=np.where(distance > 0, np.inf, 0.0), where=beside > 0)
    return Nearest(place, distance, relation)


def _nearest(rows: np.ndarray, training: np.ndarray, others: bool = False) -> tuple[np.ndarray, np.ndarray]:
    places, distances = [], []
    for start in range(0, len(rows), _BLOCK):
        block = cdist(rows[start : start + _BLOCK], training)
        if others:
            block[np.arange(len(block)), np.arange(start, start + len(block))] = np.inf
        places.append(block.argmin(1))
        distances.append(block.min(1))
    return np.concatenate(places), np.concatenate(distances)
