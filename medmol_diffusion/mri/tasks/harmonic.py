"""The harmonic fill: the smoothest continuation of a scan into a region."""

import numpy as np
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import cg

from medmol_diffusion.errors import InputError


def harmonic_fill(data: np.ndarray, region: np.ndarray, inside: np.ndarray, tolerance: float = 1e-6) -> np.ndarray:
    r"""Solve $\Delta u = 0$ in a region whose border is known; every other voxel stays as it is.

    The discrete equation says that a voxel of the region is the mean of its neighbours, $\sum_{j \sim i} (u_i - u_j) =
    0$ over the up to six that lie ``inside``: what lies beyond is no neighbour, so that nothing flows there (Neumann).
    The matrix is symmetric and positive definite, and conjugate gradients solve it.

    Args:
        data: (X, Y, Z).
        region: bool, what is to be filled.
        inside: bool, the scan's own voxels.
        tolerance: of the residual, relative to the right side.

    Raises:
        InputError: a part of the region touches no known voxel.
    """
    rows = region & inside
    number = np.full(data.shape, -1)
    number[rows] = np.arange(rows.sum())
    degree, right = np.zeros(rows.sum()), np.zeros(rows.sum())
    first, second = [], []
    for axis in range(3):
        for here, there in ((slice(None, -1), slice(1, None)), (slice(1, None), slice(None, -1))):
            at = tuple(here if a == axis else slice(None) for a in range(3))
            to = tuple(there if a == axis else slice(None) for a in range(3))
            pair = rows[at] & inside[to]
            own, other = number[at][pair], number[to][pair]
            np.add.at(degree, own, 1.0)
            known = other < 0
            np.add.at(right, own[known], data[to][pair][known].astype(np.float64))
            first.append(own[~known])
            second.append(other[~known])
    columns, places = np.concatenate(second), np.concatenate(first)
    count = len(degree)
    matrix = diags(degree) - coo_matrix((np.ones(len(places)), (places, columns)), (count, count))
    known = inside & ~rows
    if count and not known.any():
        raise InputError("the region is the whole scan: leave some of it as it is")
    out = np.array(data, dtype=np.float64)
    if count:
        start = np.full(count, out[known].mean())
        found, left = cg(matrix.tocsr(), right, x0=start, rtol=tolerance, maxiter=20 * max(data.shape) + 100)
        if left or not np.isfinite(found).all():
            raise InputError("a part of the region touches no known voxel: leave some round it as it is")
        out[rows] = found
    return out
