"""Lesions: which of the connected pieces of a true mask were found, and which pieces of a map are false."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import label

CONNECTED = np.ones((3, 3, 3), dtype=bool)
"""Voxels that share a face, an edge or a corner are of one piece."""
OVERLAP = 0.1
"""The share of a lesion that must be exceeded, unless another is given."""


@dataclass(frozen=True)
class Lesions:
    """The lesions of one scan.

    Attributes:
        voxels: (L,) the size of each.
        found: (L,) bool, whether more than the declared share of it was flagged.
        false: flagged pieces that touch no lesion.
    """

    voxels: np.ndarray
    found: np.ndarray
    false: int

    @classmethod
    def of(cls, flagged: np.ndarray, truth: np.ndarray, overlap: float = OVERLAP) -> "Lesions":
        """Of bool [X, Y, Z] arrays: what is flagged, and what is true."""
        pieces, count = label(truth, CONNECTED)
        voxels = np.bincount(pieces[truth], minlength=count + 1)[1:]
        hit = np.bincount(pieces[truth & flagged], minlength=count + 1)[1:]
        guesses, guessed = label(flagged, CONNECTED)
        touching = np.unique(guesses[truth & flagged])
        return cls(voxels, hit > overlap * voxels, guessed - len(touching))
