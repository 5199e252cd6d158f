"""Volumes of tissue without a segmentation network: three classes of intensity inside the head.

What they are: dark, middle and bright voxels of the head mask (`foreground_mask`), split where the variance within the
three classes is least. On a skull-stripped T1w these are near to CSF, grey and white matter; on a whole head muscle,
fat and bone are among them. They say whether two sets have as much of each, not how large an organ is.
"""

import numpy as np

CLASSES = ("dark", "middle", "bright")


def class_volumes(data: np.ndarray, mask: np.ndarray, voxel: float, levels: int = 256) -> np.ndarray:
    """(3,) millilitres of each class among the voxels of `mask`.

    Args:
        data: (X, Y, Z) in [-1, 1].
        voxel: cubic millimetres of one.
    """
    counts = intensity_counts(data, mask, levels)
    first, second = thresholds(counts)
    return np.array([part.sum() for part in np.split(counts, [first, second])]) * voxel / 1000


def intensity_counts(data: np.ndarray, mask: np.ndarray, levels: int = 256) -> np.ndarray:
    """(levels,) how many voxels of the mask have each of the intensities -1 + 2 k / (levels - 1)."""
    k = np.rint((data[mask].astype(np.float64) + 1) / 2 * (levels - 1)).astype(np.int64)
    return np.bincount(k, minlength=levels).astype(np.float64)


def thresholds(counts: np.ndarray) -> tuple[int, int]:
    r"""Bins t_1 <= t_2 at which the second and the third class of a histogram begin: its exact 3-means.

    Maximise $\sum_c S_c^2 / W_c$ with W the number and S the sum of the intensities of a class, which is to minimise
    the variance within classes (Otsu 1979, section IV): all pairs of bins are tried, so there is nothing to start or to
    converge.
    """
    weight = np.concatenate([[0], np.cumsum(counts)])
    total = np.concatenate([[0], np.cumsum(counts * np.arange(len(counts)))])

    def between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
        w, s = weight[end] - weight[start], total[end] - total[start]
        return np.divide(s**2, w, out=np.zeros_like(s), where=w > 0)

    edges = np.arange(len(counts) + 1)
    t1, t2 = np.meshgrid(edges, edges, indexing="ij")
    score = between(np.zeros_like(t1), t1) + between(t1, np.maximum(t1, t2)) + between(t2, np.full_like(t2, edges[-1]))
    score[t2 < t1] = -np.inf
    first, second = np.unravel_index(int(score.argmax()), score.shape)
    return int(first), int(second)
