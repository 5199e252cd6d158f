"""LesionShape: the form of a lesion, from masks of real ones or made up."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from scipy.ndimage import affine_transform, find_objects, gaussian_filter, label
from scipy.spatial.transform import Rotation

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.bids import subject_of
from medmol_diffusion.mri.formats.files import find_scans
from medmol_diffusion.mri.volume import Volume

POINTS = 4
"""Along each axis of a voxel, at which a shape is looked up: shares come in steps of 1/64."""
MANY = 2**24
"""Points above which there are half as many along each axis: whole masks are as large as the head."""
NEAR = 0.1
"""The share of shapes, those nearest in volume, that a lesion of a given volume is drawn from; FEWEST at least."""
FEWEST = 5


@dataclass(frozen=True)
class Home:
    """Where the brain lies that masks were drawn on: its centre and the standard deviation of its voxels, in mm, along
    right, anterior, superior."""

    centre: tuple[float, float, float]
    spread: tuple[float, float, float]

    @classmethod
    def of(cls, mask: np.ndarray, affine: np.ndarray) -> Self:
        """Of a brain mask [X, Y, Z]."""
        mm = np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]
        return cls(tuple(mm.mean(0).tolist()), tuple(mm.std(0).tolist()))


MNI = Home((0.7, -20.6, 11.7), (28.7, 35.5, 25.0))
"""The brains of open_ms_data (Lesjak et al. 2017) in MNI space: the mean of two."""


@dataclass(frozen=True)
class LesionShape:
    """A mask and how large its voxels are.

    Attributes:
        name: where it is from.
        mask: bool (X, Y, Z).
        affine: (4, 4) to mm, at home.
        home: of a whole mask that stays where it lies in the brain; None where it may lie and turn as it likes.
    """

    name: str
    mask: np.ndarray
    affine: np.ndarray
    home: Home | None = None

    @property
    def ml(self) -> float:
        """Its volume."""
        return int(self.mask.sum()) * abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000

    def of_volume(self, ml: float) -> Self:
        """The same form in another size.

        Raises:
            InputError: it is a whole mask, whose parts would move apart.
        """
        if self.home is not None:
            raise InputError(f"{self.name} is a whole mask and keeps its volume: leave ml out, or take components")
        scale = np.diag([*[(ml / self.ml) ** (1 / 3)] * 3, 1.0])
        return replace(self, affine=scale @ self.affine)

    def turned(self, rng: np.random.Generator, centre: np.ndarray) -> np.ndarray:
        """The affine that turns it at random, uniformly over rotations, about its centre of mass, put at ``centre``."""
        affine = np.eye(4)
        affine[:3, :3] = Rotation.random(random_state=rng).as_matrix() @ self.affine[:3, :3]
        affine[:3, 3] = centre - affine[:3, :3] @ np.argwhere(self.mask).mean(0)
        return affine

    def at_home(self, scan: Volume, brain: np.ndarray) -> np.ndarray:
        """The affine that puts a whole mask where it would lie in this brain, by first and second moments: along each
        axis, mm -> centre' + (mm - centre) spread' / spread."""
        assert self.home is not None
        own = Home.of(brain, scan.affine)
        scale = np.diag(np.divide(own.spread, self.home.spread))
        move = np.eye(4)
        move[:3, :3], move[:3, 3] = scale, np.asarray(own.centre) - scale @ self.home.centre
        return move @ self.affine

    def inside(self, scan: Volume, affine: np.ndarray, room: np.ndarray) -> float:
        """The share of its voxels whose centres lie in ``room``, bool on the scan's grid."""
        to_scan = np.linalg.inv(scan.affine) @ affine
        index = np.rint(np.argwhere(self.mask) @ to_scan[:3, :3].T + to_scan[:3, 3]).astype(int)
        index = index[((index >= 0) & (index < scan.shape)).all(1)]
        return float(room[tuple(index.T)].sum() / self.mask.sum())

    def shares(self, scan: Volume, affine: np.ndarray, edge: float = 0.0) -> np.ndarray:
        """float32 (X, Y, Z): the share of every voxel of a scan that it fills, blurred by a Gaussian of ``edge`` mm.

        The mask is looked up (nearest voxel) at POINTS^3 points of every voxel near it.
        """
        out = np.zeros(scan.shape, dtype=np.float32)
        to_scan = np.linalg.inv(scan.affine) @ affine
        faces = np.stack(np.meshgrid(*[(-0.5, size - 0.5) for size in self.mask.shape]), -1).reshape(-1, 3)
        reached = faces @ to_scan[:3, :3].T + to_scan[:3, 3]
        margin = np.ceil(4 * edge / np.asarray(scan.spacing)) + 1
        low = np.maximum(np.floor(reached.min(0) - margin), 0).astype(int)
        high = np.minimum(np.ceil(reached.max(0) + margin) + 1, scan.shape).astype(int)
        if (high <= low).any():
            return out
        x, y, z = high - low
        points = POINTS if x * y * z * POINTS**3 <= MANY else POINTS // 2
        size = (high - low) * points
        # Point p of an axis lies at voxel low + (p + 1/2) / points - 1/2.
        fine = np.diag([1 / points] * 3 + [1.0])
        fine[:3, 3] = low + (0.5 / points - 0.5)
        lookup = np.linalg.inv(to_scan) @ fine
        mask = self.mask.astype(np.float32)
        found = affine_transform(mask, lookup[:3, :3], lookup[:3, 3], tuple(size), order=0, mode="grid-constant")
        share = found.reshape(x, points, y, points, z, points).mean((1, 3, 5))
        if edge:
            share = gaussian_filter(share, edge / np.asarray(scan.spacing), mode="constant")
        out[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = share
        return out


def blob(ml: float, rng: np.random.Generator, size: int = 32) -> LesionShape:
    """A smooth random blob: the voxels with the least r / R + 0.35 g, as many as make ``ml``; r is the distance from
    the middle, R the radius of the ball of that volume, g a Gaussian field of unit variance, smooth over R / 2.

    Args:
        ml: its volume, to a voxel of a few thousandths of it.
        rng: of the field.
        size: voxels of the grid along each axis, which is 4 R wide.
    """
    radius = (3 * 1000 * ml / (4 * np.pi)) ** (1 / 3)
    spacing = 4 * radius / size
    field = gaussian_filter(rng.standard_normal((size, size, size)), size / 8, mode="wrap")
    axis = (np.arange(size) - (size - 1) / 2) * spacing
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij", sparse=True)
    height = np.sqrt(x**2 + y**2 + z**2) / radius + 0.35 * field / field.std()
    wanted = round(1000 * ml / spacing**3)
    mask = height <= np.partition(height.ravel(), wanted - 1)[wanted - 1]
    parts, _ = label(mask)
    largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    (box,) = find_objects(largest.astype(int))
    made = LesionShape("blob", largest[box], np.diag([spacing, spacing, spacing, 1.0]))
    return made.of_volume(ml)


def drawn(shapes: Sequence[LesionShape], ml: float | None, rng: np.random.Generator) -> LesionShape:
    """One of them, in its own volume; or one of those nearest in volume (NEAR), scaled to ``ml``: a speck has no form
    that could be blown up."""
    if ml is None:
        return shapes[int(rng.integers(len(shapes)))]
    nearest = sorted(shapes, key=lambda shape: abs(np.log(shape.ml / ml)))[: max(FEWEST, round(NEAR * len(shapes)))]
    return nearest[int(rng.integers(len(nearest)))].of_volume(ml)


def read_shapes(folder: str | Path, least: float = 0.05, whole: bool = False, home: Home = MNI) -> list[LesionShape]:
    """The lesions of a folder of masks (NIfTI, above 0 is lesion).

    Args:
        folder: searched with its subfolders.
        least: ml; smaller components are left out, for at the size of a few voxels they have no form.
        whole: each mask as one shape that stays where it lies, instead of its 26-connected components.
        home: of whole masks, the brain they were drawn on.

    Raises:
        InputError: the folder holds no mask, or none with a lesion of that size.
    """
    shapes: list[LesionShape] = []
    for file in find_scans(folder):
        volume = Volume.read(file, constant=True)
        mask, name = volume.data > 0, subject_of(file.name)
        if whole:
            shapes += [LesionShape(name, mask, volume.affine, home)] if mask.any() else []
            continue
        parts, _ = label(mask, np.ones((3, 3, 3)))
        boxes: Sequence[tuple[slice, ...]] = find_objects(parts)
        for number, box in enumerate(boxes, start=1):
            one = LesionShape(f"{name} lesion {number}", parts[box] == number, volume.affine)
            shapes += [one] if one.ml >= least else []
    if not shapes:
        raise InputError(f"{folder} holds no mask with a lesion of {least} ml: name another folder, or a lower volume")
    return shapes
