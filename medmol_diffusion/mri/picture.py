"""Pictures of scans: orthogonal slices side by side, anomaly maps laid over them. Returns PNG bytes."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from matplotlib.figure import Figure

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


def detection_sheet(found: Detection, truth: Volume | None = None, dpi: int = 110) -> bytes:
    """Scan, restored scan and anomaly map on three planes, the true mask outlined.

    The planes meet at the middle of the true lesion where there is one, else at the map's maximum.
    """
    volumes = {
        "scan": found.scan.reorient("RAS").data,
        "restored": found.restored.reorient("RAS").data,
        "anomaly": found.map.reorient("RAS").data,
    }
    lesion = None if truth is None else truth.reorient("RAS").data
    if lesion is not None and lesion.any():
        centre = [round(float(np.median(places))) for places in np.nonzero(lesion)]
    else:
        centre = [int(i) for i in np.unravel_index(int(volumes["anomaly"].argmax()), volumes["anomaly"].shape)]
    outline = None if lesion is None else orthogonal_slices(lesion, centre)
    figure = Figure(figsize=(7.2, 7.4), facecolor="black")
    axes = figure.subplots(3, 3)
    aspects = slice_aspects(found.scan.reorient("RAS").spacing)
    low, high = np.percentile(volumes["scan"], [0.5, 99.5])
    top = max(float(volumes["anomaly"].max()), 1e-6)
    for column, (title, data) in enumerate(volumes.items()):
        planes = orthogonal_slices(data, centre)
        for row, (plane, aspect) in enumerate(zip(planes, aspects, strict=True)):
            axis = axes[row, column]
            axis.axis("off")
            if title == "anomaly":
                under = orthogonal_slices(volumes["scan"], centre)[row]
                axis.imshow(under, cmap="gray", vmin=low, vmax=high, aspect=aspect)
                strength = np.clip(plane / top, 0, 1) ** 0.5
                axis.imshow(plane, cmap="inferno", vmin=0, vmax=top, alpha=strength, aspect=aspect)
            else:
                axis.imshow(plane, cmap="gray", vmin=low, vmax=high, aspect=aspect)
            if outline is not None and outline[row].any():
                axis.contour(outline[row] > 0.5, levels=[0.5], colors="cyan", linewidths=0.8)
        axes[0, column].set_title(title, color="white", fontsize=10)
    return _png(figure, dpi)


def _png(figure: Figure, dpi: int, top: float = 0.95, gap: float = 0.06) -> bytes:
    figure.subplots_adjust(0.01, 0.01, 0.99, top, 0.03, gap)
    out = BytesIO()
    figure.savefig(out, format="png", dpi=dpi)
    return out.getvalue()
