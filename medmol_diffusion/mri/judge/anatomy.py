"""Ventricles and lesions of phantom-like scans: what a generated head has of what was asked, measured on its voxels.

Phantom-like is a whole head, RAS, isotropic, centred in its grid as `head_phantom` centres it: where the ventricles are
to be looked for follows from that. On scans of people nothing is known of these measures. How near they come to the
truth of phantoms is in `datasets/phantom.md`.
"""

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter, label

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.phantom import LABEL, SIGNAL, Contrast, Frame, lateral_ventricles
from medmol_diffusion.mri.transforms import window
from medmol_diffusion.mri.volume import Volume

MARGIN = 7.0
"""mm round the average lateral ventricles within which voxels may be ventricle."""
HALF = 0.55
"""How far from tissue to cerebrospinal fluid the intensity of a voxel of the ventricles is at least."""
BRIGHT = 1.35
"""A lesion on FLAIR is so much brighter than the tissue about it."""
ABOUT = 12.0
"""mm, the standard deviation of the Gaussian that weighs that tissue."""
INWARDS = 3.0
"""mm from the nearest dark voxel that is no ventricle: nearer lies cortex."""
DARK = 0.65
"""Below so much of the median deep in the brain a voxel is fluid, bone or air; up to 1.25 of it, tissue."""


def ventricle_volume(volume: Volume, contrast: Contrast) -> float:
    """Millilitres of the lateral and third ventricles.

    With u the scan less its percentile 0.5, and m white matter (the percentile 65 of u deep in
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
    white = np.percentile(u[deep_brain(frame)], 35 if fluid > 1 else 65)
    share = (u / max(float(white), 1e-6) - 1) / (fluid - 1)
    parts, _ = label((share > HALF) & ((depth > -MARGIN) | third))
    touched = np.unique(parts[(depth > 2) & (frame.z > 0)])
    return int(np.isin(parts, touched[touched > 0]).sum()) * frame.spacing**3 / 1000


def lesion_load(volume: Volume) -> float:
    """Millilitres of white-matter lesions on FLAIR.

    With u the scan less its percentile 0.5 and m its median deep in the brain, tissue are the voxels there of DARK to
    1.25 m. Counted are voxels BRIGHT times brighter than the mean of the tissue about them, above the temporal lobes,
    at least INWARDS from any dark voxel that is not in the ventricles: cortex is bright too, but lies along dark sulci.
    Scans whose brightest voxels were clipped (Grid.upper) have lost what is measured here.

    Raises:
        InputError: voxels that are no cubes.
    """
    frame, u = _frame(volume), _scaled(volume)
    deep = deep_brain(frame)
    middle = np.median(u[deep])
    lateral = lateral_ventricles(np.abs(frame.x), frame.y, frame.z)
    dark = (u < DARK * middle) & (lateral < -MARGIN)
    inside = deep & (frame.z > -16) & (distance_transform_edt(~dark) * frame.spacing > INWARDS)
    tissue = (deep & (u > DARK * middle) & (u < 1.25 * middle)).astype(u.dtype)
    share, total = (gaussian_filter(values, ABOUT / frame.spacing) for values in (tissue, tissue * u))
    return int((inside & (u * share > BRIGHT * total)).sum()) * frame.spacing**3 / 1000


def _frame(volume: Volume) -> Frame:
    spacing = np.array(volume.spacing)
    if np.ptp(spacing) > 0.01 * spacing.mean():
        raise InputError(f"ventricles and lesions are measured on voxels that are cubes, not of {volume.spacing} mm")
    return Frame(volume.shape, float(spacing.mean()))


def _scaled(volume: Volume) -> np.ndarray:
    """The scan with its air at 0, in units of its own range."""
    low, high = window(volume.data, upper=100.0)
    return (volume.data.astype(np.float64) - low) / max(high - low, float(np.finfo(np.float32).tiny))


def deep_brain(frame: Frame) -> np.ndarray:
    """(X, Y, Z) bool, where the cerebrum of every phantom is: white matter for the most part, and ventricles."""
    return (frame.x / 52) ** 2 + ((frame.y + 4) / 67) ** 2 + ((frame.z - 6) / 42) ** 2 < 1
