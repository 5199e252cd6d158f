"""Planted lesions: put into a healthy scan, so that the truth is known and contrast and size are chosen."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly.lesion_shape import LesionShape, blob, drawn
from medmol_diffusion.mri.transforms import UPPER, normalise, window
from medmol_diffusion.mri.volume import Volume

TEXTURE = 4.0
"""mm: what is finer than a Gaussian of this width stays as it was under a lesion of a given level."""
TRIES = 50
"""Places and rotations that are tried before a lesion is said not to fit."""
EDGE = 1e-3
"""A share of a voxel below which it is left untouched."""


@dataclass(frozen=True)
class PlantedLesion:
    """One lesion as it was planted.

    Attributes:
        shape: the name of its shape.
        centre: mm, of the box round it.
        ml: its volume, the sum of the shares it fills.
        inside: the share of the shape's voxels that lie in what was allowed; the rest is cut off.
        contrast: what was asked, in units of the model's range, where the scan's goes from -1 to 1.
        seen: the mean change over its voxels once the scan is normalised and clipped to [-1, 1]: what a method sees.
    """

    shape: str
    centre: tuple[float, float, float]
    ml: float
    inside: float
    contrast: float
    seen: float


@dataclass(frozen=True)
class Planted:
    """A scan with lesions.

    Attributes:
        scan: bit for bit the healthy one where no lesion reaches.
        truth: 1 where at least half of a voxel is lesion, else 0; on the scan's grid.
        lesions: what was done.
    """

    scan: Volume
    truth: Volume
    lesions: tuple[PlantedLesion, ...]


def plant(
    scan: Volume,
    within: Volume,
    seed: int,
    ml: float | None = None,
    contrast: float = 0.5,
    shapes: Sequence[LesionShape] = (),
    count: int = 1,
    reference: Volume | None = None,
    edge: float = 1.0,
    fit: float = 0.8,
    upper: float = UPPER,
) -> Planted:
    r"""Plant lesions into a scan of any size and orientation.

    Of a voxel that a lesion fills by the share s, the intensity v becomes

    $v' = v + s\,c\,h$, relative to what is there, or $v' = v + s\,(w + c\,h - \bar v)$, relative to a level $w$,

    with c the contrast, h half the range between the scan's percentiles (what becomes 1 in the model's units), w the
    median of the scan in ``reference``, and v-bar the scan smoothed by TEXTURE mm within ``within``: noise and fine
    texture stay. s is the share of 4^3 points of a voxel that lie in the shape, blurred by ``edge`` and cut to
    ``within``.

    Args:
        scan: a healthy one.
        within: a mask, above 0 where a lesion may lie: the brain, or its white matter.
        seed: of shapes, places and rotations.
        ml: volume of each lesion, before what lies outside of ``within`` is cut off; None keeps each shape's own, and
            is 1 ml for blobs.
        contrast: c, above 0 for bright lesions and below for dark ones; the scan's range is 2.
        shapes: drawn from, each as likely, or of a given volume those of about that volume; smooth random blobs where
            none are given.
        count: how many lesions; none overlaps another.
        reference: a mask of what the contrast is relative to, such as white matter; None for what is there.
        edge: mm, the standard deviation of the blur of the lesion's edge.
        fit: the share of a lesion that must lie in ``within``.
        upper: the percentile of intensities that is the upper end of the range, as of the model's grid.

    Raises:
        InputError: no lesion, a volume or contrast that is none, a mask that marks nothing of the scan, a lesion that
            does not fit, or one so small or faint that it changes no voxel by half.
    """
    if count < 1 or contrast == 0 or (ml is not None and ml <= 0):
        raise InputError(
            f"count = {count}, contrast = {contrast} and ml = {ml}: plant one lesion or more, not of 0, and above 0 ml"
        )
    room = _mask(within, scan, "within")
    rng = np.random.default_rng(seed)
    low, high = window(scan.data, upper=upper)
    level = None if reference is None else float(np.median(scan.data[_mask(reference, scan, "reference")]))
    smooth = None if level is None else _smooth(scan, room)
    data, truth, done = scan.data.copy(), np.zeros(scan.shape, dtype=bool), []
    for _ in range(count):
        shape = drawn(shapes, ml, rng) if shapes else blob(1.0 if ml is None else ml, rng)
        share, inside = _placed(shape, scan, room, rng, edge, fit)
        added = contrast * (high - low) / 2
        change = added if level is None or smooth is None else level + added - smooth
        touched = share > EDGE
        before = data.copy()
        data = np.where(touched, data + share * change, data).astype(np.float32)
        core = share >= 0.5
        if not core.any():
            raise InputError(
                f"a lesion of {shape.ml:.3g} ml fills no voxel of {np.prod(scan.spacing) / 1000:.3g} ml by half: give "
                "a larger volume or a sharper edge"
            )
        seen = (normalise(data, low, high) - normalise(before, low, high))[core].mean()
        ijk = np.argwhere(core)
        x, y, z = scan.to_mm((ijk.min(0) + ijk.max(0)) / 2).tolist()
        volume = float(share[touched].sum() * np.prod(scan.spacing) / 1000)
        done.append(PlantedLesion(shape.name, (x, y, z), volume, inside, contrast, float(seen)))
        truth |= core
        room &= ~touched
    note = {"planted": f"{count} of contrast {contrast:g}, seed {seed}"}
    made = replace(scan, data=data, provenance=scan.provenance | note)
    return Planted(made, replace(scan, data=truth.astype(np.float32)), tuple(done))


def _smooth(scan: Volume, room: np.ndarray) -> np.ndarray:
    """G * (v room) / G * room: what lies outside does not bleed in."""
    sigma = TEXTURE / np.asarray(scan.spacing)
    inside = room.astype(np.float32)
    return gaussian_filter(scan.data * inside, sigma) / np.maximum(gaussian_filter(inside, sigma), 1e-6)


def _mask(mask: Volume, scan: Volume, name: str) -> np.ndarray:
    """bool on the scan's grid."""
    found = replace(mask, data=mask.data > 0).resample(like=scan, order=0).data > 0
    if not found.any():
        raise InputError(f"the mask {name} marks no voxel of the scan: check its affine")
    return found


def _placed(
    shape: LesionShape, scan: Volume, room: np.ndarray, rng: np.random.Generator, edge: float, fit: float
) -> tuple[np.ndarray, float]:
    """(the share of each voxel that it fills, cut to the room; the share of it that lies there).

    A shape that has a home lies there; another is rotated at random and its centre put on a random voxel of the room.
    """
    places = np.argwhere(room)
    best = 0.0
    for _ in range(TRIES if len(places) else 0):
        if shape.home is None:
            affine = shape.turned(rng, scan.to_mm(places[int(rng.integers(len(places)))]))
        else:
            affine = shape.at_home(scan, room)
        inside = shape.inside(scan, affine, room)
        if inside >= fit:
            return np.where(room, shape.shares(scan, affine, edge), 0.0), inside
        best = max(best, inside)
        if shape.home is not None:
            break
    raise InputError(
        f"{shape.name} of {shape.ml:.3g} ml does not fit: at best {100 * best:.0f} % of it lie where it may, and "
        f"{100 * fit:.0f} % must; give a smaller volume, a larger mask, or a lower fit"
    )
