"""One person's anatomy."""

import numpy as np
from scipy.ndimage import map_coordinates

from medmol_diffusion.mri.phantom.canvas import Canvas
from medmol_diffusion.mri.phantom.frame import Frame, Point, band
from medmol_diffusion.mri.phantom.shapes import capsule, ellipsoid, union

Mass = tuple[Point, float]  # centre and radius in mm

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
        self.cerebellum = union(
            ellipsoid(self.side - 24, y + 56, z + 40, (29, 29, 23)), ellipsoid(x, y + 56, z + 38, (16, 24, 23))
        )
        self.stem = union(
            capsule(x, y, z, (0, -22, -22), (0, -30, -52), 13.0), capsule(x, y, z, (0, -34, -58), (0, -46, -130), 8.0)
        )
        self.brain = (self.cerebrum > 0) | (self.cerebellum > 0) | ((self.stem > 0) & (z > -75))
        self.core = ellipsoid(x, y + 13, z + 4, (21, 24, 24))  # diencephalon and its capsule: without folds
        self.pia = self._folded()

    def _cerebrum(self) -> np.ndarray:
        """Depth below the smooth hull of the cerebrum: an egg, flat below, with temporal poles."""
        x, y, z = self.x, self.y, self.z
        width = 66 * (1 - 0.10 * np.clip(y / 84, -1, 1) - 0.04 * np.clip(y / 84, -1, 1) ** 2)
        hull = ellipsoid(x, y, z, (width, 84.0, 66.0), power=2.4)
        floor = z + 20 + 0.1 * y  # orbital cortex in front, the tentorium behind
        temporal = ellipsoid(self.side - 41, y + 3, z + 22, (22, 46, 22))
        return union(np.minimum(hull, floor), np.minimum(temporal, hull + 4))

    def _folded(self) -> np.ndarray:
        """Depth below the pia of the cerebrum, sulci and fissures included.

        Sulci are the sheets where a band-limited random field changes sign. The field is read where the ray from the
        centre meets a shell, so that the sheets stand upright on the surface.
        """
        x, y, z = self.x, self.y, self.z
        radius = np.sqrt((x / 66) ** 2 + (y / 84) ** 2 + (z / 60) ** 2) + 1e-3
        shell = (0.65 + 0.35 * radius) / np.maximum(radius, 0.6)
        wave = band(self.rng, wavelength=24.0)
        n = len(wave)
        at = np.stack([(axis * shell / 4.0) % n for axis in (x, y, z)])
        wave = map_coordinates(wave, at, order=1, mode="grid-wrap")
        slope = np.sqrt(sum(np.square(g) for g in np.gradient(wave, self.frame.spacing)))
        sheet = np.abs(wave) / np.maximum(slope, 0.04)
        bottom = np.maximum(self.cerebrum - (16.0 + 4.0 * self.frame.field(self.rng, 25.0)), 0)
        sulcus = np.hypot(sheet, bottom) - self.sulci * (1.25 - 0.04 * np.clip(self.cerebrum, 0, 20))

        callosum = ellipsoid(np.zeros_like(x), y + 6, z - 3, (1, 42, 27))
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
        canvas.paint(union(self.cerebellum, self.stem) + 3.0, "csf")
        canvas.paint(pia, "grey")
        self.white = np.maximum(pia - self.cortex, np.minimum(self.core, self.cerebrum))
        canvas.paint(self.white, "white")
        self._paint_cerebellum(canvas)
        canvas.paint(np.minimum(self.stem, -8 - z), "brainstem")
        canvas.paint(capsule(side, y, z, (6, -16, -12), (22, -8, 2), 7.0), "white")  # peduncle to internal capsule

        canvas.paint(ellipsoid(side - 11, y + 17, z - 4, (9.5, 15, 9)), "deep_grey")  # thalamus
        canvas.paint(ellipsoid(side - 26 + 0.15 * (y - 4), y - 3, z - 1, (5.5, 17, 10)), "deep_grey")  # putamen
        canvas.paint(ellipsoid(side - 19, y + 1, z + 1, (4.5, 10, 7)), "pallidum")
        caudate = union(
            ellipsoid(side - 13, y - 20, z - 7, (5.5, 11, 9)), capsule(side, y, z, (14, 16, 13), (19, -22, 20), 3.5)
        )
        canvas.paint(caudate, "deep_grey")
        canvas.paint(capsule(side, y, z, (25, -10, -20), (29, -32, -10), 5.0), "grey")  # hippocampus

        grow = self.ventricles
        lateral = lateral_ventricles(side, y, z, grow**0.8)
        canvas.paint(np.minimum(lateral, side - 0.7), "ventricle")  # the septum between them
        canvas.paint(ellipsoid(x, y + 10, z - 1, (1.8 * grow, 13, 10)), "ventricle")
        canvas.paint(ellipsoid(x, y + 42, z + 44, (6, 5, 10)), "ventricle")
        self.ventricle = lateral

    def _paint_outside(self, canvas: Canvas) -> None:
        """Scalp, skull and face."""
        x, y, z, side = self.x, self.y, self.z, self.side
        brain = union(self.cerebrum, self.cerebellum, np.minimum(self.stem, z + 66))
        vault = np.minimum(ellipsoid(x, y, z, (70, 88, 70), power=2.4), z + 24 + 0.1 * y)
        hull = np.maximum(brain + 3.5, vault)
        face = union(ellipsoid(x, y - 42, z + 70, (60, 56, 62)), ellipsoid(x, y - 98, z + 62, (11, 14, 18)))
        neck = np.minimum(54 - np.hypot(x, 0.9 * (y + 18)), -40 - z)
        outer = np.maximum.reduce([hull + self.skull + self.scalp, face, neck])
        texture = self.frame.field(self.rng, 12.0)
        canvas.paint(outer, "fat")
        canvas.paint(np.minimum(outer - 6.0 - 2.0 * texture, -14 - z + 4 * texture + 0.3 * y), "muscle")
        canvas.paint(np.minimum(1.2 * texture - 1.2, outer - 6.0), "fat")
        skull = hull + self.skull
        canvas.paint(skull, "bone")
        canvas.paint(np.minimum(skull - 2.0, self.skull - 2.0 - skull), "marrow", 0.8)

        spine = capsule(x, y, z, (0, -20, -84), (0, -32, -130), 10.0)
        canvas.paint(spine + 2.0, "bone")
        canvas.paint(spine, "marrow")
        sinus = union(
            ellipsoid(side - 24, y - 62, z + 66, (12, 15, 15)), ellipsoid(side - 4, y - 72, z + 58, (3, 24, 20))
        )
        canvas.paint(sinus - 1.0 * texture, "air")
        canvas.paint(ellipsoid(x, y - 86, z + 10, (16, 5, 12)), "air", 0.9)  # frontal sinus
        canvas.paint(capsule(x, y, z, (0, 30, -70), (0, 14, -130), 8.0), "air")  # pharynx
        canvas.paint(ellipsoid(side - 33, y - 62, z + 38, (19, 26, 18)), "fat")
        canvas.paint(capsule(side, y, z, (33, 66, -38), (20, 40, -34), 3.0), "muscle")
        canvas.paint(ellipsoid(side - 33, y - 73, z + 38, (12, 12, 12)), "vitreous")

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
    return union(*(capsule(side, y, z, start, end, radius * grow + margin) for start, end, radius in HORNS))


def _pull(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, centre: Point, radius: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates of the healthy place of each point that a mass has pushed outwards."""
    dx, dy, dz = x - centre[0], y - centre[1], z - centre[2]
    push = 0.4 * np.exp(-(dx**2 + dy**2 + dz**2) / (1.5 * radius) ** 2)
    return x - push * dx, y - push * dy, z - push * dz
