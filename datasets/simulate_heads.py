"""Simulated contrasts of label maps of whole heads: known anatomy, NOT real MRI. Used by prepare_heads.py.

Labels are those of FreeSurfer, and beyond 500 those of SimNIBS's charm, as in the training label maps of SynthSeg.
"""

import hashlib
from dataclasses import replace

import numpy as np
from scipy.ndimage import zoom

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import Volume

TISSUES = {
    "air": (0, 501, 517),
    "white": (2, 7, 16, 28, 85, 512, 530),
    "cortex": (3, 8, 17, 18, 26, 136, 163),
    "deep grey": (10, 11, 12, 13),
    "CSF": (4, 5, 14, 15, 24, 72, 520),
    "lesion": (25, 77),
    "vessel": (30, 502, 514),
    "eye": (506,),
    "soft": (507,),
    "muscle": (508,),
    "mucosa": (509,),
    "skin": (511,),
    "cortical bone": (515,),
    "marrow": (516,),
}
LEFT_OF = {41: 2, 42: 3, 43: 4, 44: 5, 46: 7, 47: 8, 49: 10, 50: 11, 51: 12, 52: 13, 53: 17, 54: 18, 57: 25, 58: 26}
LEFT_OF |= {60: 28, 62: 30, 137: 136, 164: 163}
"""A structure looks the same on both sides."""

FAMILIES: dict[str, dict[str, tuple[float, float]]] = {
    "T1w": {
        "air": (0.0, 0.02), "white": (0.95, 1.05), "cortex": (0.62, 0.76), "deep grey": (0.72, 0.88),
        "CSF": (0.18, 0.32), "lesion": (0.6, 0.8), "vessel": (0.2, 0.9), "eye": (0.18, 0.32), "soft": (0.5, 0.95),
        "muscle": (0.5, 0.7), "mucosa": (0.4, 0.7), "skin": (0.6, 1.1), "cortical bone": (0.05, 0.15),
        "marrow": (0.5, 1.1),
    },
    "T2w": {
        "air": (0.0, 0.02), "white": (0.36, 0.48), "cortex": (0.55, 0.68), "deep grey": (0.42, 0.55),
        "CSF": (0.95, 1.1), "lesion": (0.7, 0.85), "vessel": (0.05, 0.3), "eye": (0.95, 1.1), "soft": (0.25, 0.6),
        "muscle": (0.2, 0.35), "mucosa": (0.6, 0.9), "skin": (0.3, 0.6), "cortical bone": (0.03, 0.1),
        "marrow": (0.25, 0.5),
    },
    "FLAIR": {
        "air": (0.0, 0.02), "white": (0.52, 0.64), "cortex": (0.68, 0.8), "deep grey": (0.6, 0.72),
        "CSF": (0.08, 0.2), "lesion": (0.95, 1.1), "vessel": (0.05, 0.3), "eye": (0.08, 0.2), "soft": (0.4, 0.8),
        "muscle": (0.35, 0.5), "mucosa": (0.7, 0.95), "skin": (0.5, 0.9), "cortical bone": (0.03, 0.1),
        "marrow": (0.3, 0.6),
    },
}  # fmt: skip
"""Contrast -> tissue -> the least and the most of its mean, in units of the brightest brain tissue."""

SPREAD_OF_LABELS = 0.015
"""Standard deviation of the means of the structures of one tissue."""
TEXTURE = 0.03
"""Standard deviation of the voxels of one structure, at the label map's own spacing."""
SOFT_TEXTURE = 0.12
"""The same of "soft", which is fat and muscle in one."""
SCALE = 1000
"""What 1 becomes."""


def draws(seed: int, name: str) -> np.random.Generator:
    """Of one scan, whatever else is made."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def simulate(labels: Volume, contrast: str, factor: int, generator: np.random.Generator) -> Volume:
    r"""A scan of one contrast of a label map, its voxels ``factor`` times as large.

    Of a label l of tissue c: $\mu_l = m_c + 0.015 \epsilon_l$ with m_c uniform in the family's range, one for both
    sides of the head. Of a voxel v: $s_v = \mu_{l(v)} + \tau \epsilon_v$, $\tau$ = 0.03 (0.12 in soft tissue). Then,
    in large voxels V: partial volume, $s_V$ = mean of $s_v$ over the factor^3 voxels within; a field $e^{b_V}$, b a
    cubic spline through 4^3 normal numbers of standard deviation 0.03 to 0.12; and Rician noise (Gudbjartsson and
    Patz, 1995), $\sqrt{(e^b s + \sigma \epsilon_1)^2 + (\sigma \epsilon_2)^2}$, sigma of 0.01 to 0.03.

    Raises:
        InputError: a label that is in none of the tissues, or sizes that are no multiples of ``factor``.
    """
    if any(size % factor for size in labels.shape):
        raise InputError(f"a label map of {labels.shape} voxels cannot be averaged over {factor}: pad it")
    data = labels.data.astype(int)
    tissue_of = {label: tissue for tissue, own in TISSUES.items() for label in own}
    kinds = np.flatnonzero(np.bincount(data.ravel())).tolist()
    structures = {kind: LEFT_OF.get(kind, kind) for kind in kinds}
    if unknown := sorted(set(structures.values()) - set(tissue_of)):
        raise InputError(f"label {unknown[0]} is of no tissue that is known here: add it to simulate_heads.TISSUES")
    of_tissue = {tissue: generator.uniform(*ends) for tissue, ends in FAMILIES[contrast].items()}
    of_label = {
        label: of_tissue[tissue] + SPREAD_OF_LABELS * generator.standard_normal()
        for label, tissue in sorted(tissue_of.items())
    }
    means, spreads = np.zeros((2, kinds[-1] + 1))
    for kind, structure in structures.items():
        means[kind] = of_label[structure]
        spreads[kind] = {"air": 0.0, "soft": SOFT_TEXTURE}.get(tissue_of[structure], TEXTURE)
    fine = means[data] + spreads[data] * generator.standard_normal(data.shape)
    x, y, z = (size // factor for size in data.shape)
    coarse = fine.clip(min=0).reshape(x, factor, y, factor, z, factor).mean(axis=(1, 3, 5))
    knots = generator.uniform(0.03, 0.12) * generator.standard_normal((4, 4, 4))
    signal = coarse * np.exp(zoom(knots, np.array(coarse.shape) / 4, order=3, mode="nearest", grid_mode=True))
    sigma = generator.uniform(0.01, 0.03)
    real, imaginary = sigma * generator.standard_normal((2, *signal.shape))
    affine = labels.affine @ np.diag([factor, factor, factor, 1.0])
    affine[:3, 3] = labels.to_mm(np.full(3, (factor - 1) / 2))
    return replace(labels, data=np.rint(SCALE * np.hypot(signal + real, imaginary)), affine=affine)
