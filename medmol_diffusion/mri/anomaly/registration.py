"""Heads put on a common template: by their moments, then by an affine map of the intensities."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.linalg import expm, expm_frechet, sqrtm
from scipy.ndimage import affine_transform, binary_dilation, gaussian_filter, map_coordinates
from scipy.optimize import least_squares

from medmol_diffusion.errors import InputError

REGISTRATIONS = ("none", "moments", "similarity", "affine")
POINTS = 10_000
"""Of the template that are compared: more do not place a head any better."""
BLURS = (1 / 4, 1 / 12)
"""Of both images, coarse first, as shares of the head's standard deviation."""
OUTLIER = 0.1
"""Difference of intensities from which on it counts linearly, so that a lesion does not pull the head out of place."""


def moments(head: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre [3] and covariance [3, 3] of the voxels of a mask, in voxels."""
    places = np.argwhere(head).astype(np.float64)
    return places.mean(0), np.cov(places.T, bias=True) + np.eye(3) / 12  # a voxel has a width


def pull(image: np.ndarray, matrix: np.ndarray, value: float) -> np.ndarray:
    """[X, Y, Z] with image(matrix x) at the voxel x, linearly interpolated; ``value`` beyond the image."""
    return affine_transform(image, matrix[:3, :3], matrix[:3, 3], order=1, mode="grid-constant", cval=value)


@dataclass(frozen=True)
class Template:
    """What heads are put on. ``place`` gives a 4 x 4 matrix from the template's voxels to those of a scan, both on the
    grid of the model.

    Attributes:
        kind: "none" leaves scans where they are. "moments" gives each head the centre and the covariance of the
            template's. "affine" (12 parameters) goes on from there, and "similarity" (7) from the same centre and
            volume, to the least difference of intensities from the mean of the healthy scans put in place by moments.
        centre, covariance: of the template's head, the means over the healthy ones.
        image: that mean.
        head: where that is compared.
    """

    kind: str
    centre: np.ndarray
    covariance: np.ndarray
    image: np.ndarray
    head: np.ndarray

    @classmethod
    def of(cls, scans: Sequence[np.ndarray], heads: Sequence[np.ndarray], kind: str) -> tuple[Self, np.ndarray]:
        """The template of healthy scans [X, Y, Z] and the scans on it, [n, X, Y, Z].

        Raises:
            InputError: no scans, or an unknown kind.
        """
        if kind not in REGISTRATIONS:
            raise InputError(f"unknown registration '{kind}': choose one of {', '.join(REGISTRATIONS)}")
        if not scans:
            raise InputError("a template needs at least one healthy scan")
        found = [moments(head) for head in heads]
        centre, covariance = (np.mean(values, axis=0) for values in zip(*found, strict=True))
        first = cls("none" if kind == "none" else "moments", centre, covariance, scans[0], heads[0])
        matrices = [first.place(scan, head) for scan, head in zip(scans, heads, strict=True)]
        moved = np.stack([pull(scan, matrix, -1.0) for scan, matrix in zip(scans, matrices, strict=True)])
        inside = [pull(head.astype(np.float32), matrix, 0.0) for head, matrix in zip(heads, matrices, strict=True)]
        template = cls(kind, centre, covariance, moved.mean(0), np.mean(inside, axis=0) > 0.5)
        if kind in ("similarity", "affine"):
            matrices = [template.place(scan, head) for scan, head in zip(scans, heads, strict=True)]
            moved = np.stack([pull(scan, matrix, -1.0) for scan, matrix in zip(scans, matrices, strict=True)])
        return template, moved

    def place(self, scan: np.ndarray, head: np.ndarray) -> np.ndarray:
        """[4, 4] from the template's voxels to those of the scan [X, Y, Z], whose head is the mask."""
        if self.kind == "none":
            return np.eye(4)
        centre, covariance = moments(head)
        if self.kind == "similarity":  # a stretch along one axis is none, and the refinement could not undo it
            covariance = self.covariance * np.cbrt(np.linalg.det(covariance) / np.linalg.det(self.covariance))
        matrix = self._by_moments(centre, covariance)
        return matrix if self.kind == "moments" else self._refined(scan, matrix)

    def restore(
        self, scan: np.ndarray, head: np.ndarray, abnormal: Callable[[np.ndarray], np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """(the scan less what ``abnormal`` says of it on the template, the matrix from the scan's voxels to the
        template's): that difference goes there and back, the scan itself is not interpolated."""
        there = self.place(scan, head)
        back = np.linalg.inv(there)
        return scan - pull(abnormal(pull(scan, there, -1.0)), back, 0.0), back

    def _by_moments(self, centre: np.ndarray, covariance: np.ndarray) -> np.ndarray:
        r"""$x \mapsto c_s + A (x - c)$, $A = C^{-1/2} (C^{1/2} C_s C^{1/2})^{1/2} C^{-1/2}$.

        Of all A with $A C A^T = C_s$ the one that is symmetric and positive: the optimal transport between Gaussians
        (Peyré & Cuturi 2019, remark 2.31). It neither mirrors nor swaps axes, however round a head is, and turns it by
        no more than the covariance asks for.
        """
        root = np.real(sqrtm(self.covariance))
        inverse = np.linalg.inv(root)
        matrix = np.eye(4)
        matrix[:3, :3] = inverse @ np.real(sqrtm(root @ covariance @ root)) @ inverse
        matrix[:3, 3] = centre - matrix[:3, :3] @ self.centre
        return matrix

    def _refined(self, scan: np.ndarray, start: np.ndarray) -> np.ndarray:
        r"""The matrix that makes $\sum_x \rho(\text{scan}(M x) - \text{image}(x))$ least near ``start``, rho square up
        to OUTLIER and linear beyond (Huber), M = start exp(sum_i p_i G_i), G_i a basis of the similarities or of the
        affine maps about the template's centre."""
        length = float(np.sqrt(np.trace(self.covariance) / 3))
        frame = np.diag([length, length, length, 1.0])
        frame[:3, 3] = self.centre
        unframe, basis = np.linalg.inv(frame), _basis(self.kind)
        reach = max(1, round(length * BLURS[0]))
        places = np.argwhere(binary_dilation(self.head, iterations=reach))
        places = places[:: -(-len(places) // POINTS)].T
        framed = unframe @ np.vstack([places, np.ones(places.shape[1])])
        p = np.zeros(len(basis))
        for blur in BLURS:
            moving, still = (gaussian_filter(image.astype(np.float64), blur * length) for image in (scan, self.image))
            slopes, target = np.gradient(moving), still[tuple(places)]

            def there(q: np.ndarray) -> np.ndarray:
                return (start @ frame @ expm(np.tensordot(q, basis, 1)) @ framed)[:3]

            def apart(q: np.ndarray, moving: np.ndarray = moving, target: np.ndarray = target) -> np.ndarray:
                return map_coordinates(moving, there(q), order=1, mode="nearest") - target

            def jacobian(q: np.ndarray, slopes: Sequence[np.ndarray] = slopes) -> np.ndarray:
                at, generator = there(q), np.tensordot(q, basis, 1)
                slope = np.stack([map_coordinates(one, at, order=1, mode="nearest") for one in slopes])
                moved = [start @ frame @ expm_frechet(generator, g, compute_expm=False) @ framed for g in basis]
                return np.stack([(slope * way[:3]).sum(0) for way in moved], 1)

            p = least_squares(apart, p, jacobian, loss="huber", f_scale=OUTLIER, max_nfev=25).x
        return start @ frame @ expm(np.tensordot(p, basis, 1)) @ unframe


def _basis(kind: str) -> np.ndarray:
    """[7 or 12, 4, 4] generators of the similarities or of the affine maps."""
    every = np.zeros((12, 4, 4))
    for i in range(12):
        every[i, i // 4, i % 4] = 1.0
    if kind == "affine":
        return every
    shifts = [every[4 * a + 3] for a in range(3)]
    turns = [every[4 * a + b] - every[4 * b + a] for a, b in ((0, 1), (0, 2), (1, 2))]
    return np.stack([*shifts, *turns, every[0] + every[5] + every[10]])
