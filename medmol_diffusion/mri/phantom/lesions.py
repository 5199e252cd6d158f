"""Lesions of phantoms: four kinds that differ in shape, place and contrast."""

from collections.abc import Callable
from typing import Literal

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.phantom.canvas import LABEL, Canvas
from medmol_diffusion.mri.phantom.frame import Frame, Point
from medmol_diffusion.mri.phantom.head import Head, Mass

LesionKind = Literal["white_matter", "mass", "cavity", "haemorrhage"]


def _paint_white_matter(canvas: Canvas, frame: Frame, rng: np.random.Generator, head: Head) -> np.ndarray:
    """One irregular blob, its centre drawn near the ventricles rather than far; returns its mask."""
    radius = max(float(np.exp(rng.uniform(np.log(3.0), np.log(9.0)))), 0.75 * frame.spacing)
    inner = np.minimum(head.white, -head.ventricle)
    weight = np.where((canvas.labels == LABEL["white"]) & (head.z > -20), np.exp(head.ventricle / 12.0), 0.0)
    weight *= np.clip(inner, 0.3, radius)
    centre = _seat(frame, rng, weight, "white-matter lesions")
    stretch = np.exp(rng.normal(0.0, 0.25, size=3)).tolist()
    offsets = [(a - c) / s for a, c, s in zip((frame.x, frame.y, frame.z), centre, stretch, strict=True)]
    distance = np.sqrt(sum(np.square(o) for o in offsets))
    depth = radius - distance + 0.35 * radius * np.clip(frame.field(rng, max(1.2 * radius, 8.0)), -1.2, 1.2)
    # A white-matter lesion ends where the white matter does; its middle belongs to it at any resolution.
    middle = distance < 0.6 * frame.spacing
    depth = np.where(middle, np.maximum(depth, 0.5 * frame.spacing), np.minimum(depth, inner + 1.0))
    return canvas.paint(depth, "lesion", rng.uniform(0.75, 1.0)) > 0.375


def mass_seat(rng: np.random.Generator, spacing: float) -> Mass:
    """Where in a hemisphere a mass sits, and its radius, in mm."""
    side = 1 if rng.random() < 0.5 else -1
    centre = (side * rng.uniform(24, 40), rng.uniform(-45, 42), rng.uniform(2, 36))
    return centre, max(rng.uniform(10.0, 19.0), 1.5 * spacing)


def paint_mass(canvas: Canvas, frame: Frame, rng: np.random.Generator, centre: Point, radius: float) -> np.ndarray:
    """Oedema that fades into the white matter, a lobed body and a necrotic core; returns the mask of body and core."""
    distance = np.sqrt(sum(np.square(a - c) for a, c in zip((frame.x, frame.y, frame.z), centre, strict=True)))
    lobes = np.clip(frame.field(rng, 14.0), -1.5, 1.5)
    white = canvas.labels == LABEL["white"]
    before = canvas.signal.copy()
    labels = canvas.labels.copy()
    canvas.paint((1.45 * radius - distance + 0.3 * radius * lobes) / 3, "lesion", 0.55)
    canvas.signal = np.where(white, canvas.signal, before)
    canvas.labels = labels
    body = radius - distance + 0.2 * radius * lobes
    share = canvas.paint(body, "lesion", 0.95)
    canvas.paint(body - 0.5 * radius + 2.0 * lobes, "necrosis", 0.9)
    return share > 0.475


def _paint_cavity(canvas: Canvas, frame: Frame, rng: np.random.Generator, head: Head) -> np.ndarray:
    """An old infarct: a wedge of fluid from the cortex inwards, with a thin rim of gliosis; returns the mask of both.

    Depth in a cone of half angle a about the unit vector u from its apex: (t tan a - r) cos a, where t is the way along
    u and r the distance from it. Fluid that was there before, in sulci and ventricles, is no part of it.
    """
    tissue = np.minimum(head.pia, 1.0 - head.ventricle)
    weight = np.where((canvas.labels == LABEL["grey"]) & (head.z > -10) & (head.cerebrum > 0), 1.0, 0.0)
    centre = _seat(frame, rng, weight, "cavities")
    outer = np.array(centre)
    length = max(rng.uniform(16.0, 30.0), 1.5 * frame.spacing)
    half = float(np.radians(rng.uniform(22.0, 35.0)))
    axis = outer / np.linalg.norm(outer)  # the middle of the cerebrum is the origin
    apex: list[float] = (outer - length * axis).tolist()
    ux, uy, uz = (float(u) for u in axis)
    dx, dy, dz = (a - c for a, c in zip((frame.x, frame.y, frame.z), apex, strict=True))
    along = dx * ux + dy * uy + dz * uz
    across = np.sqrt(np.maximum(dx**2 + dy**2 + dz**2 - along**2, 0))
    wedge = (along * float(np.tan(half)) - across) * float(np.cos(half)) + 2.0 * np.clip(frame.field(rng, 12.0), -1, 1)
    wedge = np.minimum(wedge, length + 8.0 - along)
    depth = _with_middle(np.minimum(wedge, tissue), frame, centre)
    share = canvas.paint(depth, "lesion", 0.9)
    canvas.paint(_with_middle(np.minimum(wedge - 1.5, tissue), frame, centre), "cavity")
    return share > 0.45


def _paint_haemorrhage(canvas: Canvas, frame: Frame, rng: np.random.Generator, head: Head) -> np.ndarray:
    """A bleeding of some weeks ago: an ovoid with a sharp edge, mostly near the basal ganglia; returns its mask, with
    the rim of haemosiderin."""
    deep = np.isin(canvas.labels, [LABEL["deep_grey"], LABEL["pallidum"]])
    white = (canvas.labels == LABEL["white"]) & (head.z > -20)
    room = np.minimum(head.cerebrum - 3.0, -1.0 - head.ventricle)
    centre = _seat(frame, rng, np.where(room > 0, 5.0 * deep + 1.0 * white, 0.0), "haemorrhages")
    radius = max(rng.uniform(5.0, 13.0), 0.75 * frame.spacing)
    stretch = np.exp(rng.normal(0.0, 0.2, size=3)).tolist()
    offsets = [(a - c) / s for a, c, s in zip((frame.x, frame.y, frame.z), centre, stretch, strict=True)]
    distance = np.sqrt(sum(np.square(o) for o in offsets))
    depth = radius - distance + 0.12 * radius * np.clip(frame.field(rng, max(radius, 8.0)), -1.5, 1.5)
    depth = _with_middle(np.minimum(depth, room), frame, centre)
    share = canvas.paint(depth, "haemosiderin")
    canvas.paint(_with_middle(depth - 1.2, frame, centre), "haemorrhage")
    return share > 0.5


def _seat(frame: Frame, rng: np.random.Generator, weight: np.ndarray, what: str) -> Point:
    """The centre, in mm, of a voxel drawn with this weight.

    Raises:
        InputError: no voxel has any.
    """
    if not weight.any():
        raise InputError(f"Voxels of {frame.spacing:.3g} mm are too large for {what}: make them smaller.")
    index = np.unravel_index(rng.choice(weight.size, p=weight.ravel() / weight.sum()), weight.shape)
    x, y, z = (float(axis[i]) for axis, i in zip(frame.axes, index, strict=True))
    return x, y, z


def _with_middle(depth: np.ndarray, frame: Frame, centre: Point) -> np.ndarray:
    """A lesion's middle belongs to it at any resolution."""
    distance = np.sqrt(sum(np.square(a - c) for a, c in zip((frame.x, frame.y, frame.z), centre, strict=True)))
    return np.where(distance < 0.6 * frame.spacing, np.maximum(depth, 0.5 * frame.spacing), depth)


Painter = Callable[[Canvas, Frame, np.random.Generator, Head], np.ndarray]
"""Paints one lesion into a head that is painted already; returns its mask."""

PAINTERS: dict[LesionKind, Painter] = {
    "white_matter": _paint_white_matter,
    "cavity": _paint_cavity,
    "haemorrhage": _paint_haemorrhage,
}
"""Of the kinds that displace nothing."""
KINDS: tuple[LesionKind, ...] = ("white_matter", "mass", "cavity", "haemorrhage")
