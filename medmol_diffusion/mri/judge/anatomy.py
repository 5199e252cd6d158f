"""Ventricles and lesions of phantom-like scans: what a generated head has of what was asked, measured on its voxels.

Phantom-like is a whole head, RAS, isotropic, centred in its grid as `head_phantom` centres it: where the ventricles are
to be looked for follows from that. On scans of people nothing is known of these measures. How near they come to the
truth of phantoms is in `datasets/phantom.md`.
"""

import numpy as np
from scipy.ndimage import distance_transform_edt, label, median_filter

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.phantom import LABEL, SIGNAL, Contrast, Frame, lateral_ventricles
from medmol_diffusion.mri.transforms import normalise, window
from medmol_diffusion.mri.volume import Volume

MARGIN = 7.0
"""mm round the average lateral ventricles within which voxels may be ventricle."""
HALF = 0.55
"""How far from tissue to cerebrospinal fluid the intensity of a voxel of the ventricles is at least."""
BRIGHT = 1.2
"""A lesion on FLAIR is so much brighter than the median round it."""
BLOCK = 28.0
"""mm, the side of the cube of that median."""
INWARDS = 7.0
"""mm from the nearest dark voxel that is no ventricle: nearer lies cortex."""


def ventricle_volume(volume: Volume, contrast: Contrast) -> float:
    """Millilitres of the lateral and third ventricles.

    With u in [0, 1] the scan between its percentiles 0.5 and 99.5, and m white matter (the percentile 65 of u deep in
    the brain; 35 on T2w, where fluid is bright), a voxel is fluid where u is more than HALF of the way from m to the
    signal of ventricles (phantom.SIGNAL, relative to white matter). Counted are components of such voxels, within
    MARGIN of the average ventricles, that touch the inside of those.

    Args:
        contrast: of the scan.

    Raises:
        InputError: an unknown contrast, or voxels that are no cubes.
    """
    if contrast not in SIGNAL:
        raise InputError(f"contrast {contrast!r} is unknown: use one of {', '.join(SIGNAL)}.")
    frame, u = _frame(volume), _scaled(volume)
    depth = lateral_ventricles(np.abs(frame.x), frame.y, frame.z)
    third = (frame.x / 4) ** 2 + ((frame.y + 10) / 13) ** 2 + ((frame.z - 1) / 10) ** 2 < 1
    signal = SIGNAL[contrast]
    fluid = signal[LABEL["ventricle"]] / signal[LABEL["white"]]
    white = np.percentile(u[_deep(frame)], 35 if fluid > 1 else 65)
    share = (u / max(float(white), 1e-6) - 1) / (fluid - 1)
    parts, _ = label((share > HALF) & ((depth > -MARGIN) | third))
    touched = np.unique(parts[(depth > 2) & (frame.z > 0)])
    return int(np.isin(parts, touched[touched > 0]).sum()) * frame.spacing**3 / 1000


def lesion_load(volume: Volume) -> float:
    """Millilitres of white-matter lesions on FLAIR.

    Voxels BRIGHT times brighter than the median of the cube of BLOCK mm about them, above the temporal lobes, at
    least INWARDS from any dark voxel that is not in the ventricles: cortex is bright too, but lies along dark sulci.

    Raises:
        InputError: voxels that are no cubes.
    """
    frame, u = _frame(volume), _scaled(volume)
    deep = _deep(frame)
    dark = (u < 0.65 * np.median(u[deep])) & (lateral_ventricles(np.abs(frame.x), frame.y, frame.z) < -MARGIN)
    inside = deep & (frame.z > -16) & (distance_transform_edt(~dark) * frame.spacing > INWARDS)
    middle = median_filter(u, max(3, round(BLOCK / frame.spacing)))
    return int((inside & (u > BRIGHT * middle)).sum()) * frame.spacing**3 / 1000


def _frame(volume: Volume) -> Frame:
    spacing = np.array(volume.spacing)
    if np.ptp(spacing) > 0.01 * spacing.mean():
        raise InputError(f"ventricles and lesions are measured on voxels that are cubes, not of {volume.spacing} mm")
    return Frame(volume.shape, float(spacing.mean()))


def _scaled(volume: Volume) -> np.ndarray:
    return (normalise(volume.data, *window(volume.data)) + 1) / 2


def _deep(frame: Frame) -> np.ndarray:
    """Where the cerebrum of every phantom is: white matter for the most part, and ventricles."""
    return (frame.x / 52) ** 2 + ((frame.y + 4) / 67) ** 2 + ((frame.z - 6) / 42) ** 2 < 1
