"""Procedural heads: anatomy drawn from a seed, painted at any resolution in any contrast, with or without lesions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.interpolate import BSpline
from scipy.ndimage import map_coordinates

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.volume import Volume

Contrast = Literal["T1w", "T2w", "FLAIR"]
LesionKind = Literal["white_matter", "mass"]
Point = tuple[float, float, float]  # mm
Mass = tuple[Point, float]  # centre and radius

FIELD_OF_VIEW = (192.0, 240.0, 192.0)  # mm; holds the largest head, down to the neck
CENTRE = np.array([0.0, -2.0, -12.0])  # mm, of the field of view; the origin is the middle of the cerebrum

# What atrophy = 1 does, by magnitudes seen between the ages of 20 and 90: the logarithm by which a factor on the radii
# of the ventricles grows (their volume to about 3 times), and mm.
VENTRICLES_GROW, SULCI_WIDEN, CORTEX_THINS = 0.7, 1.0, 0.6

# The lateral ventricle of each side: start, end and radius of its parts in mm, from frontal to temporal horn.
HORNS: tuple[tuple[Point, Point, float], ...] = (
    ((7, 34, 3), (7, 22, 12), 4.4),
    ((7, 22, 12), (8, -12, 20), 5.2),
    ((8, -12, 20), (21, -38, 13), 5.2),
    ((21, -38, 13), (24, -58, 6), 3.4),
    ((21, -38, 13), (31, -26, -11), 3.2),
    ((31, -26, -11), (31, -6, -19), 2.2),
)

# The label of each tissue is its place here. Signals are relative to white matter on T1w, as read off scans at 3 T.
TISSUES = (
    "air", "fat", "muscle", "bone", "marrow", "vitreous", "csf", "grey", "white", "deep_grey", "pallidum", "ventricle",
    "cerebellum_grey", "cerebellum_white", "brainstem", "lesion", "necrosis",
)  # fmt: skip
LABEL = {name: label for label, name in enumerate(TISSUES)}
SIGNAL: dict[str, tuple[float, ...]] = {
    "T1w": (0.0, 1.10, 0.48, 0.07, 0.62, 0.20, 0.20, 0.66, 1.00, 0.74, 0.88, 0.17, 0.66, 0.95, 0.88, 0.58, 0.30),
    "T2w": (0.0, 0.62, 0.24, 0.05, 0.40, 1.05, 1.00, 0.60, 0.44, 0.52, 0.36, 1.05, 0.60, 0.46, 0.46, 0.84, 1.00),
    "FLAIR": (0.0, 0.60, 0.38, 0.05, 0.42, 0.16, 0.13, 0.66, 0.53, 0.62, 0.50, 0.10, 0.64, 0.54, 0.55, 1.05, 0.40),
}


@dataclass(frozen=True)
class Phantom:
    """A head and the truth about it, all on one grid.

    Attributes:
        volume: the scan.
        labels: (X, Y, Z) uint8, the tissue that fills most of the voxel, as an index into TISSUES.
        brain: (X, Y, Z) bool, all within the pia, ventricles and sulci included.
        lesion: (X, Y, Z) bool, voxels at least half lesion, without oedema; inside `brain`.
    """

    volume: Volume
    labels: np.ndarray
    brain: np.ndarray
    lesion: np.ndarray

    @property
    def ventricles(self) -> float:
        """Millilitres of the lateral, third and fourth ventricles, by `labels`."""
        return int((self.labels == LABEL["ventricle"]).sum()) * self._millilitres

    @property
    def brain_volume(self) -> float:
        """Millilitres of `brain`."""
        return int(self.brain.sum()) * self._millilitres

    @property
    def lesion_load(self) -> float:
        """Millilitres of `lesion`."""
        return int(self.lesion.sum()) * self._millilitres

    @property
    def _millilitres(self) -> float:
        """Of one voxel."""
        return float(np.prod(self.volume.spacing)) / 1000


def head_phantom(
    seed: int,
    shape: Sequence[int] = (64, 80, 64),
    spacing: float | None = None,
    contrast: Contrast = "T1w",
    lesions: int = 0,
    lesion_kind: LesionKind = "white_matter",
    noise: float = 0.025,
    bias: float = 0.12,
    atrophy: float = 0.0,
) -> Phantom:
    """One head, RAS+. Anatomy, lesions and acquisition have streams of random numbers of their own.

    The same seed is therefore the same person in another contrast, at another resolution (where white-matter lesions
    may fall elsewhere), and before the disease (but for what a mass pushes aside).

    Args:
        seed: of everything.
        shape: voxels.
        spacing: millimetres a voxel; None fits the whole head into `shape`.
        contrast: T1w, T2w or FLAIR.
        lesions: how many.
        lesion_kind: "white_matter" (irregular, small, no mass effect) or "mass" (a tumour with a necrotic core that
            displaces what is round it).
        noise: standard deviation of the noise in each channel of the Rician signal; white matter on T1w is 1.
        bias: standard deviation of the logarithm of the receive field.
        atrophy: how far the same person has aged, 0 (young) to 1: ventricles grow, sulci widen, the cortex thins
            (VENTRICLES_GROW, SULCI_WIDEN, CORTEX_THINS).

    Raises:
        InputError: an unknown contrast or kind of lesion, a shape that is not three sizes, a spacing not above 0,
            an atrophy outside [0, 1], or voxels so large that none is white matter to put a lesion into.
    """
    if contrast not in SIGNAL:
        raise InputError(f"contrast {contrast!r} is unknown: use one of {', '.join(SIGNAL)}.")
    if lesion_kind not in ("white_matter", "mass"):
        raise InputError(f"lesion_kind {lesion_kind!r} is unknown: use white_matter or mass.")
    if len(shape) != 3 or min(shape) < 4 or (spacing is not None and spacing <= 0):
        raise InputError(f"A phantom needs three sizes of at least 4 and a spacing above 0, not {shape} and {spacing}.")
    if not 0 <= atrophy <= 1:
        raise InputError(f"atrophy runs from 0, young, to 1, not {atrophy}.")
    spacing = spacing or max(extent / size for extent, size in zip(FIELD_OF_VIEW, shape, strict=True))
    anatomy, disease = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    scanner = np.random.default_rng([seed, 2, list(SIGNAL).index(contrast)])

    frame = Frame(tuple(shape), spacing)
    masses = [_mass_seat(disease, spacing) for _ in range(lesions)] if lesion_kind == "mass" else []
    head = Head(frame, anatomy, masses, atrophy)
    canvas = Canvas(frame, SIGNAL[contrast])
    head.paint(canvas)
    lesion = np.zeros(frame.shape, dtype=bool)
    for centre, radius in masses:
        lesion |= _paint_mass(canvas, frame, disease, centre, radius)
    if lesion_kind == "white_matter":
        for _ in range(lesions):
            lesion |= _paint_white_matter_lesion(canvas, frame, disease, head)

    data = _acquire(canvas.signal, frame, scanner, noise, bias)
    made = f"seed={seed}, contrast={contrast}, lesions={lesions} {lesion_kind}, atrophy={atrophy:g}"
    provenance = {"source": f"head_phantom({made})"}
    return Phantom(Volume(data, frame.affine, provenance), canvas.labels, head.brain, lesion & head.brain)


class Frame:
    """The grid in millimetres, and smooth random fields that are the same at every resolution."""

    def __init__(self, shape: tuple[int, ...], spacing: float) -> None:
        self.shape = shape
        self.spacing = spacing
        self.axes = [(np.arange(n) - (n - 1) / 2) * spacing + c for n, c in zip(shape, CENTRE, strict=True)]
        self.affine = np.diag([spacing, spacing, spacing, 1.0])
        self.affine[:3, 3] = [axis[0] for axis in self.axes]
        x, y, z = np.meshgrid(*(axis.astype(np.float32) for axis in self.axes), indexing="ij", sparse=True)
        self.x, self.y, self.z = x, y, z

    def field(self, rng: np.random.Generator, scale: float) -> np.ndarray:
        """A smooth Gaussian field of unit variance with knots every `scale` mm (uniform cubic B-splines)."""
        reach = 160.0
        count = int(2 * reach / scale) + 4
        knots = -reach + scale * (np.arange(count + 4) - 3)
        field = rng.standard_normal((count, count, count), dtype=np.float32)
        for axis in self.axes:
            basis = BSpline.design_matrix(np.clip(axis, knots[3], knots[-4] - 1e-6), knots, 3).toarray()
            field = np.moveaxis(np.tensordot(basis.astype(np.float32), field, (1, 0)), 0, -1)
        return field / 0.331  # (sum of squared cubic B-splines, on average 0.479)^(3/2)


class Canvas:
    """What has been painted so far: the signal with partial volumes, and the tissue that prevails."""

    def __init__(self, frame: Frame, signal: tuple[float, ...]) -> None:
        self.tissue_signal = signal
        # A face at distance d from the voxel's centre fills about sigmoid(4 d / spacing) of it.
        self.sharpness = 4.0 / frame.spacing
        self.signal = np.zeros(frame.shape, dtype=np.float32)
        self.labels = np.zeros(frame.shape, dtype=np.uint8)

    def paint(self, depth: np.ndarray, tissue: str, opacity: float = 1.0) -> np.ndarray:
        """Lay a tissue over all before, where `depth` (mm inside its surface) is above 0. Returns the share filled."""
        share = opacity * _sigmoid(self.sharpness * depth)
        self.signal += share * (self.tissue_signal[LABEL[tissue]] - self.signal)
        self.labels[share > 0.5] = LABEL[tissue]
        return share


class Head:
    """One person's anatomy as depths (mm inside a surface), from few measures and smooth fields drawn at random."""

    def __init__(self, frame: Frame, rng: np.random.Generator, masses: list[Mass], atrophy: float) -> None:
        self.rng = rng
        # Python floats throughout: a float64 scalar of NumPy would make every field float64 and twice as slow.
        size = (rng.uniform(0.94, 1.03) * rng.uniform(0.97, 1.03, size=3)).tolist()
        self.ventricles = float(np.exp(rng.normal(0.0, 0.3) + VENTRICLES_GROW * atrophy))
        self.sulci = rng.uniform(0.6, 1.5) + SULCI_WIDEN * atrophy  # mm, half their width
        self.cortex = rng.uniform(2.7, 3.3) - CORTEX_THINS * atrophy  # mm thick
        self.scalp = rng.uniform(5.0, 8.0)
        self.skull = rng.uniform(5.0, 7.5)

        x, y, z = (axis / s for axis, s in zip((frame.x, frame.y, frame.z), size, strict=True))
        for centre, radius in masses:
            x, y, z = _pull(x, y, z, centre, radius)
        x, y, z = (axis + 2.2 * frame.field(rng, 45.0) for axis in (x, y, z))
        self.x, self.y, self.z = x, y, z
        self.side = np.abs(x)  # most structures come in pairs
        self.frame = frame

        self.cerebrum = self._cerebrum()
        self.cerebellum = _union(
            _ellipsoid(self.side - 24, y + 56, z + 40, (29, 29, 23)), _ellipsoid(x, y + 56, z + 38, (16, 24, 23))
        )
        self.stem = _union(
            _capsule(x, y, z, (0, -22, -22), (0, -30, -52), 13.0), _capsule(x, y, z, (0, -34, -58), (0, -46, -130), 8.0)
        )
        self.brain = (self.cerebrum > 0) | (self.cerebellum > 0) | ((self.stem > 0) & (z > -75))
        self.core = _ellipsoid(x, y + 13, z + 4, (21, 24, 24))  # diencephalon and its capsule: without folds
        self.pia = self._folded()

    def _cerebrum(self) -> np.ndarray:
        """Depth below the smooth hull of the cerebrum: an egg, flat below, with temporal poles."""
        x, y, z = self.x, self.y, self.z
        width = 66 * (1 - 0.10 * np.clip(y / 84, -1, 1) - 0.04 * np.clip(y / 84, -1, 1) ** 2)
        hull = _ellipsoid(x, y, z, (width, 84.0, 66.0), power=2.4)
        floor = z + 20 + 0.1 * y  # orbital cortex in front, the tentorium behind
        temporal = _ellipsoid(self.side - 41, y + 3, z + 22, (22, 46, 22))
        return _union(np.minimum(hull, floor), np.minimum(temporal, hull + 4))

    def _folded(self) -> np.ndarray:
        """Depth below the pia of the cerebrum, sulci and fissures included.

        Sulci are the sheets where a band-limited random field changes sign. The field is read where the ray from the
        centre meets a shell, so that the sheets stand upright on the surface.
        """
        x, y, z = self.x, self.y, self.z
        radius = np.sqrt((x / 66) ** 2 + (y / 84) ** 2 + (z / 60) ** 2) + 1e-3
        shell = (0.65 + 0.35 * radius) / np.maximum(radius, 0.6)
        wave = _band(self.rng, wavelength=24.0)
        n = len(wave)
        at = np.stack([(axis * shell / 4.0) % n for axis in (x, y, z)])
        wave = map_coordinates(wave, at, order=1, mode="grid-wrap")
        slope = np.sqrt(sum(np.square(g) for g in np.gradient(wave, self.frame.spacing)))
        sheet = np.abs(wave) / np.maximum(slope, 0.04)
        bottom = np.maximum(self.cerebrum - (16.0 + 4.0 * self.frame.field(self.rng, 25.0)), 0)
        sulcus = np.hypot(sheet, bottom) - self.sulci * (1.25 - 0.04 * np.clip(self.cerebrum, 0, 20))

        callosum = _ellipsoid(np.zeros_like(x), y + 6, z - 3, (1, 42, 27))
        midline = np.hypot(x, np.maximum(callosum + 2, 0)) - 0.6 - 0.4 * self.sulci
        # The Sylvian fissure: a sheet that runs up and back over the temporal lobe, to the insula.
        sylvian = np.hypot(z + 9 - 0.35 * (12 - y), np.maximum(40 - self.side, 0))
        sylvian = np.hypot(sylvian, np.maximum(np.abs(y - 8) - 32, 0)) - 0.4 - 0.5 * self.sulci
        folded = np.minimum.reduce([sulcus, midline, sylvian])
        return np.minimum(self.cerebrum, np.maximum(folded, self.core))

    def paint(self, canvas: Canvas) -> None:
        self._paint_outside(canvas)
        x, y, z, side, pia = self.x, self.y, self.z, self.side, self.pia
        canvas.paint(self.cerebrum + 2.5, "csf")
        canvas.paint(_union(self.cerebellum, self.stem) + 3.0, "csf")
        canvas.paint(pia, "grey")
        self.white = np.maximum(pia - self.cortex, np.minimum(self.core, self.cerebrum))
        canvas.paint(self.white, "white")
        self._paint_cerebellum(canvas)
        canvas.paint(np.minimum(self.stem, -8 - z), "brainstem")
        canvas.paint(_capsule(side, y, z, (6, -16, -12), (22, -8, 2), 7.0), "white")  # peduncle to internal capsule

        canvas.paint(_ellipsoid(side - 11, y + 17, z - 4, (9.5, 15, 9)), "deep_grey")  # thalamus
        canvas.paint(_ellipsoid(side - 26 + 0.15 * (y - 4), y - 3, z - 1, (5.5, 17, 10)), "deep_grey")  # putamen
        canvas.paint(_ellipsoid(side - 19, y + 1, z + 1, (4.5, 10, 7)), "pallidum")
        caudate = _union(
            _ellipsoid(side - 13, y - 20, z - 7, (5.5, 11, 9)), _capsule(side, y, z, (14, 16, 13), (19, -22, 20), 3.5)
        )
        canvas.paint(caudate, "deep_grey")
        canvas.paint(_capsule(side, y, z, (25, -10, -20), (29, -32, -10), 5.0), "grey")  # hippocampus

        grow = self.ventricles
        lateral = lateral_ventricles(side, y, z, grow**0.8)
        canvas.paint(np.minimum(lateral, side - 0.7), "ventricle")  # the septum between them
        canvas.paint(_ellipsoid(x, y + 10, z - 1, (1.8 * grow, 13, 10)), "ventricle")
        canvas.paint(_ellipsoid(x, y + 42, z + 44, (6, 5, 10)), "ventricle")
        self.ventricle = lateral

    def _paint_outside(self, canvas: Canvas) -> None:
        """Scalp, skull and face."""
        x, y, z, side = self.x, self.y, self.z, self.side
        brain = _union(self.cerebrum, self.cerebellum, np.minimum(self.stem, z + 66))
        vault = np.minimum(_ellipsoid(x, y, z, (70, 88, 70), power=2.4), z + 24 + 0.1 * y)
        hull = np.maximum(brain + 3.5, vault)
        face = _union(_ellipsoid(x, y - 42, z + 70, (60, 56, 62)), _ellipsoid(x, y - 98, z + 62, (11, 14, 18)))
        neck = np.minimum(54 - np.hypot(x, 0.9 * (y + 18)), -40 - z)
        outer = np.maximum.reduce([hull + self.skull + self.scalp, face, neck])
        texture = self.frame.field(self.rng, 12.0)
        canvas.paint(outer, "fat")
        canvas.paint(np.minimum(outer - 6.0 - 2.0 * texture, -14 - z + 4 * texture + 0.3 * y), "muscle")
        canvas.paint(np.minimum(1.2 * texture - 1.2, outer - 6.0), "fat")
        skull = hull + self.skull
        canvas.paint(skull, "bone")
        canvas.paint(np.minimum(skull - 2.0, self.skull - 2.0 - skull), "marrow", 0.8)

        spine = _capsule(x, y, z, (0, -20, -84), (0, -32, -130), 10.0)
        canvas.paint(spine + 2.0, "bone")
        canvas.paint(spine, "marrow")
        sinus = _union(
            _ellipsoid(side - 24, y - 62, z + 66, (12, 15, 15)), _ellipsoid(side - 4, y - 72, z + 58, (3, 24, 20))
        )
        canvas.paint(sinus - 1.0 * texture, "air")
        canvas.paint(_ellipsoid(x, y - 86, z + 10, (16, 5, 12)), "air", 0.9)  # frontal sinus
        canvas.paint(_capsule(x, y, z, (0, 30, -70), (0, 14, -130), 8.0), "air")  # pharynx
        canvas.paint(_ellipsoid(side - 33, y - 62, z + 38, (19, 26, 18)), "fat")
        canvas.paint(_capsule(side, y, z, (33, 66, -38), (20, 40, -34), 3.0), "muscle")
        canvas.paint(_ellipsoid(side - 33, y - 73, z + 38, (12, 12, 12)), "vitreous")

    def _paint_cerebellum(self, canvas: Canvas) -> None:
        """Grey folia round a white core that branches towards them."""
        depth = self.cerebellum
        arms = np.arctan2(self.z + 47, self.y + 46) * 7 + 0.12 * self.x
        canvas.paint(depth, "cerebellum_grey")
        canvas.paint(depth - 8.0 + 5.0 * np.cos(arms), "cerebellum_white", 0.85)
        gap = np.abs(np.sin(np.hypot(self.y + 40, 1.4 * (self.z + 44)) * (np.pi / 6.5)))
        canvas.paint(np.minimum(0.7 - 3.0 * gap, 5.0 - depth) + np.minimum(depth, 0), "csf", 0.7)


def lateral_ventricles(
    side: np.ndarray, y: np.ndarray, z: np.ndarray, grow: float = 1.0, margin: float = 0.0
) -> np.ndarray:
    """Depth inside the lateral ventricles, their radii times `grow` and then wider by `margin` mm; `side` is |x|."""
    return _union(*(_capsule(side, y, z, start, end, radius * grow + margin) for start, end, radius in HORNS))


def _paint_white_matter_lesion(canvas: Canvas, frame: Frame, rng: np.random.Generator, head: Head) -> np.ndarray:
    """One irregular blob, its centre drawn near the ventricles rather than far; returns its mask."""
    radius = max(float(np.exp(rng.uniform(np.log(3.0), np.log(9.0)))), 0.75 * frame.spacing)
    inner = np.minimum(head.white, -head.ventricle)
    weight = np.where((canvas.labels == LABEL["white"]) & (head.z > -20), np.exp(head.ventricle / 12.0), 0.0)
    weight *= np.clip(inner, 0.3, radius)
    if not weight.any():
        raise InputError(f"Voxels of {frame.spacing:.3g} mm are too large for white-matter lesions: make them smaller.")
    index = np.unravel_index(rng.choice(weight.size, p=weight.ravel() / weight.sum()), weight.shape)
    centre = [float(axis[i]) for axis, i in zip(frame.axes, index, strict=True)]
    stretch = np.exp(rng.normal(0.0, 0.25, size=3)).tolist()
    offsets = [(a - c) / s for a, c, s in zip((frame.x, frame.y, frame.z), centre, stretch, strict=True)]
    distance = np.sqrt(sum(np.square(o) for o in offsets))
    depth = radius - distance + 0.35 * radius * np.clip(frame.field(rng, max(1.2 * radius, 8.0)), -1.2, 1.2)
    # A white-matter lesion ends where the white matter does; its middle belongs to it at any resolution.
    middle = distance < 0.6 * frame.spacing
    depth = np.where(middle, np.maximum(depth, 0.5 * frame.spacing), np.minimum(depth, inner + 1.0))
    return canvas.paint(depth, "lesion", rng.uniform(0.75, 1.0)) > 0.375


def _mass_seat(rng: np.random.Generator, spacing: float) -> Mass:
    """Where in a hemisphere a mass sits, and its radius, in mm."""
    side = 1 if rng.random() < 0.5 else -1
    centre = (side * rng.uniform(24, 40), rng.uniform(-45, 42), rng.uniform(2, 36))
    return centre, max(rng.uniform(10.0, 19.0), 1.5 * spacing)


def _paint_mass(canvas: Canvas, frame: Frame, rng: np.random.Generator, centre: Point, radius: float) -> np.ndarray:
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


def _pull(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, centre: Point, radius: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates of the healthy place of each point that a mass has pushed outwards."""
    dx, dy, dz = x - centre[0], y - centre[1], z - centre[2]
    push = 0.4 * np.exp(-(dx**2 + dy**2 + dz**2) / (1.5 * radius) ** 2)
    return x - push * dx, y - push * dy, z - push * dz


def _acquire(signal: np.ndarray, frame: Frame, rng: np.random.Generator, noise: float, bias: float) -> np.ndarray:
    """Receive field exp(bias g) and Rician magnitude |s + n1 + i n2|, in scanner units of 1000 per unit signal."""
    tissue = 1 + 0.02 * frame.field(rng, 8.0)
    seen = signal * tissue * np.exp(bias * frame.field(rng, 80.0))
    n1, n2 = noise * rng.standard_normal((2, *signal.shape), dtype=np.float32)
    return 1000 * np.hypot(seen + n1, n2)


def _band(rng: np.random.Generator, wavelength: float, n: int = 64, spacing: float = 4.0) -> np.ndarray:
    """A periodic field (n, n, n) of unit variance whose wavelengths lie within a fifth of `wavelength` mm."""
    k = np.fft.fftfreq(n, spacing)
    kx, ky, kz = np.meshgrid(k, k, np.fft.rfftfreq(n, spacing), indexing="ij", sparse=True)
    ring = np.exp(-0.5 * ((np.sqrt(kx**2 + ky**2 + kz**2) * wavelength - 1) / 0.2) ** 2)
    field = np.fft.irfftn(
        np.fft.rfftn(rng.standard_normal((n, n, n), dtype=np.float32)) * ring, s=(n, n, n), axes=(0, 1, 2)
    )
    return (field / field.std()).astype(np.float32)


def _ellipsoid(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, axes: Sequence[float | np.ndarray], power: float = 2.0
) -> np.ndarray:
    """Depth inside an ellipsoid about 0 (squarer for a power above 2), measured along the ray from its centre."""
    a, b, c = (np.abs(u / axis) for u, axis in zip((x, y, z), axes, strict=True))
    f = (np.sqrt(a * a + b * b + c * c) if power == 2 else (a**power + b**power + c**power) ** (1 / power)) + 1e-3
    r = np.sqrt(x**2 + y**2 + z**2) + 1e-3
    return r / f - r


def _capsule(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, start: Sequence[float], end: Sequence[float], radius: float
) -> np.ndarray:
    """Depth inside a cylinder with round ends."""
    d = [b - a for a, b in zip(start, end, strict=True)]
    px, py, pz = x - start[0], y - start[1], z - start[2]
    t = np.clip((px * d[0] + py * d[1] + pz * d[2]) / sum(c * c for c in d), 0, 1)
    return radius - np.sqrt((px - t * d[0]) ** 2 + (py - t * d[1]) ** 2 + (pz - t * d[2]) ** 2)


def _union(*depths: np.ndarray) -> np.ndarray:
    return np.maximum.reduce(np.broadcast_arrays(*depths))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * x)
