"""Slices of a series, each with its own place in space, as one array with one affine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.formats.nifti import frame_chosen

SAME_PLACE = 0.01
"""Millimetres along the normal within which two slices lie at one place."""
UNEVEN = 0.1
"""Share of the distance of slices by which one may differ from the others."""


@dataclass(frozen=True)
class Slice:
    """One plane of a series; coordinates are DICOM's, millimetres in LPS.

    Attributes:
        name: what messages call it.
        shape: (rows, columns).
        position: (3,) the centre of the first pixel: Image Position (Patient).
        orientation: (2, 3) unit vectors along a row and down a column: Image Orientation (Patient).
        spacing: (2,) millimetres between rows and between columns: Pixel Spacing.
        order: when it was taken; slices at one place are frames in this order.
        pixels: reads its values, (rows, columns).
    """

    name: str
    shape: tuple[int, int]
    position: np.ndarray
    orientation: np.ndarray
    spacing: np.ndarray
    order: tuple[float, ...]
    pixels: Callable[[], np.ndarray]

    @property
    def depth(self) -> float:
        """Millimetres along the normal."""
        return float(np.cross(*self.orientation) @ self.position)


def stack(slices: Sequence[Slice], where: Path, frame: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    r"""Slices sorted along their normal: data (columns, rows, slices) float32, and the RAS+ affine (4, 4).

    With r and c the unit vectors along a row and down a column, $\Delta_c, \Delta_r$ the spacings of columns and rows
    and $p_k$ the position of slice k, the centre of voxel (i, j, k) lies at
    $p_0 + i \Delta_c r + j \Delta_r c + k (p_{n-1} - p_0) / (n - 1)$ in LPS (DICOM PS3.3, equation C.7.6.2.1-1), and
    with its first two coordinates negated in RAS. The last axis need not be the normal: that of a tilted gantry is not,
    and the affine holds its shear (Volume.straighten takes it out).

    Raises:
        InputError: fewer than two slices; slices of other sizes or orientations, twice at one place, missing, or not in
            a row; several frames and none chosen.
    """
    first = slices[0]
    for one in slices:
        alike = one.shape == first.shape and np.allclose(one.spacing, first.spacing, rtol=1e-3)
        if not alike or not np.allclose(one.orientation, first.orientation, atol=1e-3):
            raise InputError(
                f"{where}: {one.name} has another size, pixel spacing or orientation than {first.name}, so they are "
                "not slices of one scan (a localiser?): choose another series, or take it out."
            )
    places = _places(slices)
    if len(places) < 2:
        raise InputError(f"{where} has slices at one place only ({first.name}): give the folder of a whole series.")
    _check_frames(places, where)
    chosen = [place[frame_chosen(len(place), frame, where)] for place in places]
    _check_distances(chosen, where)
    affine = np.eye(4)
    affine[:3, 0] = first.orientation[0] * first.spacing[1]
    affine[:3, 1] = first.orientation[1] * first.spacing[0]
    affine[:3, 2] = (chosen[-1].position - chosen[0].position) / (len(chosen) - 1)
    affine[:3, 3] = chosen[0].position
    data = np.stack([one.pixels().T for one in chosen], axis=-1).astype(np.float32)
    return data, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _places(slices: Sequence[Slice]) -> list[list[Slice]]:
    """The slices at each place, in order along the normal, each place's in order of time."""
    places: list[list[Slice]] = []
    for one in sorted(slices, key=lambda one: one.depth):
        if places and one.depth - places[-1][0].depth <= SAME_PLACE:
            places[-1].append(one)
        else:
            places.append([one])
    return [sorted(place, key=lambda one: (one.order, one.name)) for place in places]


def _check_frames(places: list[list[Slice]], where: Path) -> None:
    """As many slices at every place: one, or those of the frames."""
    counts = [len(place) for place in places]
    usual = max(set(counts), key=counts.count)
    for place in places:
        if len(place) > usual:
            raise InputError(
                f"{where}: {place[0].name} and {place[-1].name} lie at one place, and slices elsewhere do not: take "
                "the duplicate out."
            )
        if len(place) < usual:
            raise InputError(
                f"{where}: at the place of {place[0].name} there are {len(place)} slices, and {usual} at the others: "
                "copy the series again, whole."
            )


def _check_distances(slices: list[Slice], where: Path) -> None:
    """Evenly spaced slices in a row."""
    gaps = np.diff([one.depth for one in slices])
    usual = float(np.median(gaps))
    for gap, (one, other) in zip(gaps, pairwise(slices), strict=True):
        if abs(gap - usual) > UNEVEN * usual:
            raise InputError(
                f"{where}: {one.name} and {other.name} are neighbours {gap:.3g} mm apart, and the others {usual:.3g} "
                "mm: a slice is missing there or does not belong; copy the series again, whole."
            )
    positions = np.stack([one.position for one in slices])
    line = np.linspace(positions[0], positions[-1], len(positions))
    off = np.linalg.norm(positions - line, axis=1)
    if off.max() > 0.5 * slices[0].spacing.min():
        raise InputError(
            f"{where}: {slices[int(off.argmax())].name} lies {off.max():.3g} mm off the line of the others: they are "
            "not slices of one scan; choose another series, or take it out."
        )
