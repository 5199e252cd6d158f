"""The grid of a phantom in millimetres, and random fields on it."""

import numpy as np
from scipy.interpolate import BSpline

Point = tuple[float, float, float]  # mm

FIELD_OF_VIEW = (192.0, 240.0, 192.0)  # mm; holds the largest head, down to the neck
CENTRE = np.array([0.0, -2.0, -12.0])  # mm, of the field of view; the origin is the middle of the cerebrum


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


def band(rng: np.random.Generator, wavelength: float, n: int = 64, spacing: float = 4.0) -> np.ndarray:
    """A periodic field (n, n, n) of unit variance whose wavelengths lie within a fifth of `wavelength` mm."""
    k = np.fft.fftfreq(n, spacing)
    kx, ky, kz = np.meshgrid(k, k, np.fft.rfftfreq(n, spacing), indexing="ij", sparse=True)
    ring = np.exp(-0.5 * ((np.sqrt(kx**2 + ky**2 + kz**2) * wavelength - 1) / 0.2) ** 2)
    field = np.fft.irfftn(
        np.fft.rfftn(rng.standard_normal((n, n, n), dtype=np.float32)) * ring, s=(n, n, n), axes=(0, 1, 2)
    )
    return (field / field.std()).astype(np.float32)
