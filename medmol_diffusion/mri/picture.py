"""Pictures of scans: orthogonal slices side by side, anomaly maps laid over them. Returns PNG bytes."""

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.ndimage import label

from medmol_diffusion.mri.anomaly import Detection
from medmol_diffusion.mri.volume import Volume


def orthogonal_slices(data: np.ndarray, centre: Sequence[int] | None = None) -> list[np.ndarray]:
    """Axial, coronal and sagittal slice through ``centre`` (the middle when left out), each upright for imshow.

    ``data`` is (X, Y, Z) with axes right, anterior, superior.
    """
    x, y, z = centre if centre is not None else [size // 2 for size in data.shape]
    return [np.rot90(plane) for plane in (data[:, :, z], data[:, y, :], data[x, :, :])]


def scan_sheet(rows: dict[str, Sequence[Volume]], width: float = 1.5, dpi: int = 110) -> bytes:
    """One line of scans per title, each the axial slice through its middle, on a common scale of its own
    percentiles."""
    columns = max(len(volumes) for volumes in rows.values())
    title = 0.25  # inches above every line
    figure = Figure(figsize=(columns * width, len(rows) * (width + title)), facecolor="black")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, volumes) in zip(axes, rows.items(), strict=True):
        for place, axis in enumerate(line):
            axis.axis("off")
            if place < len(volumes):
                upright = volumes[place].reorient("RAS").data
                low, high = np.percentile(upright, [0.5, 99.5])
                plane, aspect = orthogonal_slices(upright)[0], slice_aspects(volumes[place].reorient("RAS").spacing)[0]
                axis.imshow(plane, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), aspect=aspect)
        line[0].set_title(name, color="white", fontsize=9, loc="left")
    return _png(figure, dpi, top=1 - title / figure.get_figheight(), gap=title / width)


def planes_sheet(data: np.ndarray, spacing: Sequence[float], dpi: int = 80) -> bytes:
    """Axial, coronal and sagittal slice through the middle of a scan in [-1, 1], side by side on one scale."""
    figure = Figure(figsize=(6, 2.2), facecolor="black")
    for axis, plane, aspect in zip(figure.subplots(1, 3), orthogonal_slices(data), slice_aspects(spacing), strict=True):
        axis.axis("off")
        axis.imshow(plane, cmap="gray", vmin=-1, vmax=1, aspect=aspect)
    return _png(figure, dpi, top=0.99)


def slice_aspects(spacing: Sequence[float]) -> list[float]:
    """Height of a pixel over its width on each of the three planes of `orthogonal_slices`."""
    x, y, z = spacing
    return [y / x, z / x, z / y]


def focus(found: Detection, truth: Volume | None = None) -> list[int]:
    """Where planes meet, in voxels of the scan turned to RAS: the middle of the largest true lesion where there is one,
    else the map's maximum."""
    anomaly = found.map.reorient("RAS").data
    lesion = None if truth is None else truth.reorient("RAS").data > 0
    if lesion is None or not lesion.any():
        return [int(i) for i in np.unravel_index(int(anomaly.argmax()), anomaly.shape)]
    pieces, _ = label(lesion, np.ones((3, 3, 3)))
    places = np.argwhere(pieces == np.argmax(np.bincount(pieces.ravel())[1:]) + 1)
    middle = places[np.square(places - places.mean(0)).sum(1).argmin()]  # of a crescent, the mean lies outside
    return [int(i) for i in middle]


def detection_sheet(found: Detection, truth: Volume | None = None, dpi: int = 110) -> bytes:
    """Scan, restored scan and anomaly map on three planes: what is above the threshold outlined in green, the true mask
    in cyan.

    The planes meet at `focus`.
    """
    figure = Figure(figsize=(7.2, 7.4), facecolor="black")
    axes = figure.subplots(3, 3)
    slices = _Slices(found, truth, focus(found, truth))
    for row in range(3):
        for column, title in enumerate(("scan", "restored", "anomaly")):
            slices.draw(axes[row, column], row, title)
            if row == 0:
                axes[0, column].set_title(title, color="white", fontsize=10)
    return _png(figure, dpi)


def overlay_strip(
    found: Detection, truth: Volume | None, centre: Sequence[int], title: str = "anomaly", dpi: int = 80
) -> bytes:
    """Axial, coronal and sagittal slice through ``centre`` side by side: of the "scan", "restored", or "anomaly" over
    the scan, outlined as in `detection_sheet`."""
    figure = Figure(figsize=(6, 2.2), facecolor="black")
    slices = _Slices(found, truth, centre)
    for row, axis in enumerate(figure.subplots(1, 3)):
        slices.draw(axis, row, title)
    return _png(figure, dpi, top=0.99)


class _Slices:
    """The planes of a detection through one voxel, in RAS."""

    def __init__(self, found: Detection, truth: Volume | None, centre: Sequence[int]) -> None:
        scan = found.scan.reorient("RAS")
        self.aspects = slice_aspects(scan.spacing)
        self.planes = {"scan": orthogonal_slices(scan.data, centre)}
        self.planes["restored"] = orthogonal_slices(found.restored.reorient("RAS").data, centre)
        anomaly = found.map.reorient("RAS").data
        self.planes["anomaly"] = orthogonal_slices(anomaly, centre)
        self.low, self.high = np.percentile(scan.data, [0.5, 99.5])
        self.top = max(float(anomaly.max()), 1e-6)
        self.outlines = [] if truth is None else [("#00c8ff", orthogonal_slices(truth.reorient("RAS").data, centre))]
        self.flagged = None
        if found.threshold is not None:
            self.flagged = orthogonal_slices(found.to_mask().reorient("RAS").data, centre)

    def draw(self, axis: Any, row: int, title: str) -> None:
        axis.axis("off")
        aspect, outlines = self.aspects[row], list(self.outlines)
        under = self.planes["restored" if title == "restored" else "scan"][row]
        axis.imshow(under, cmap="gray", vmin=self.low, vmax=max(self.high, self.low + 1e-6), aspect=aspect)
        if title == "anomaly":
            plane = self.planes["anomaly"][row]
            strength = np.clip(plane / self.top, 0, 1) ** 0.5
            axis.imshow(plane, cmap="inferno", vmin=0, vmax=self.top, alpha=strength, aspect=aspect)
            if self.flagged is not None:
                outlines.insert(0, ("lime", self.flagged))
        for colour, planes in outlines:
            if planes[row].any():
                axis.contour(planes[row] > 0.5, levels=[0.5], colors=colour, linewidths=1.1)


def _png(figure: Figure, dpi: int, top: float = 0.95, gap: float = 0.06) -> bytes:
    figure.subplots_adjust(0.01, 0.01, 0.99, top, 0.03, gap)
    out = BytesIO()
    figure.savefig(out, format="png", dpi=dpi)
    return out.getvalue()
