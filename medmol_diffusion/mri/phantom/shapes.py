"""Simple bodies as depths: millimetres inside a surface, below 0 outside."""

from collections.abc import Sequence

import numpy as np


def ellipsoid(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, axes: Sequence[float | np.ndarray], power: float = 2.0
) -> np.ndarray:
    """Depth inside an ellipsoid about 0 (squarer for a power above 2), measured along the ray from its centre."""
    a, b, c = (np.abs(u / axis) for u, axis in zip((x, y, z), axes, strict=True))
    f = (np.sqrt(a * a + b * b + c * c) if power == 2 else (a**power + b**power + c**power) ** (1 / power)) + 1e-3
    r = np.sqrt(x**2 + y**2 + z**2) + 1e-3
    return r / f - r


def capsule(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, start: Sequence[float], end: Sequence[float], radius: float
) -> np.ndarray:
    """Depth inside a cylinder with round ends."""
    d = [b - a for a, b in zip(start, end, strict=True)]
    px, py, pz = x - start[0], y - start[1], z - start[2]
    t = np.clip((px * d[0] + py * d[1] + pz * d[2]) / sum(c * c for c in d), 0, 1)
    return radius - np.sqrt((px - t * d[0]) ** 2 + (py - t * d[1]) ** 2 + (pz - t * d[2]) ** 2)


def union(*depths: np.ndarray) -> np.ndarray:
    return np.maximum.reduce(np.broadcast_arrays(*depths))
