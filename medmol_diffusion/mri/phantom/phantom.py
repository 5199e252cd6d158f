"""A head and the truth about it, from a seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.phantom.canvas import LABEL, SIGNAL, Canvas
from medmol_diffusion.mri.phantom.frame import FIELD_OF_VIEW, Frame
from medmol_diffusion.mri.phantom.head import Head
from medmol_diffusion.mri.phantom.lesions import KINDS, PAINTERS, LesionKind, mass_seat, paint_mass
from medmol_diffusion.mri.volume import Volume

Contrast = Literal["T1w", "T2w", "FLAIR"]


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

    The same seed is therefore the same person in another contrast, at another resolution (where all lesions but
    masses may fall elsewhere), and before the disease (but for what a mass pushes aside).

    Args:
        seed: of everything.
        shape: voxels.
        spacing: millimetres a voxel; None fits the whole head into `shape`.
        contrast: T1w, T2w or FLAIR.
        lesions: how many.
        lesion_kind: "white_matter" (irregular, small), "mass" (a tumour with a necrotic core that displaces what is
            round it), "cavity" (an old infarct: a wedge of fluid from the cortex inwards) or "haemorrhage" (an ovoid
            that is bright in every contrast, with a dark rim on T2w and FLAIR).
        noise: standard deviation of the noise in each channel of the Rician signal; white matter on T1w is 1.
        bias: standard deviation of the logarithm of the receive field.
        atrophy: how far the same person has aged, 0 (young) to 1: ventricles grow, sulci widen, the cortex thins
            (VENTRICLES_GROW, SULCI_WIDEN, CORTEX_THINS).

    Raises:
        InputError: an unknown contrast or kind of lesion, a shape that is not three sizes, a spacing not above 0,
            an atrophy outside [0, 1], or voxels so large that no lesion finds its place.
    """
    if contrast not in SIGNAL:
        raise InputError(f"contrast {contrast!r} is unknown: use one of {', '.join(SIGNAL)}.")
    if lesion_kind not in KINDS:
        raise InputError(f"lesion_kind {lesion_kind!r} is unknown: use one of {', '.join(KINDS)}.")
    if len(shape) != 3 or min(shape) < 4 or (spacing is not None and spacing <= 0):
        raise InputError(f"A phantom needs three sizes of at least 4 and a spacing above 0, not {shape} and {spacing}.")
    if not 0 <= atrophy <= 1:
        raise InputError(f"atrophy runs from 0, young, to 1, not {atrophy}.")
    spacing = spacing or max(extent / size for extent, size in zip(FIELD_OF_VIEW, shape, strict=True))
    anatomy, disease = np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])
    scanner = np.random.default_rng([seed, 2, list(SIGNAL).index(contrast)])

    frame = Frame(tuple(shape), spacing)
    masses = [mass_seat(disease, spacing) for _ in range(lesions)] if lesion_kind == "mass" else []
    head = Head(frame, anatomy, masses, atrophy)
    canvas = Canvas(frame, SIGNAL[contrast])
    head.paint(canvas)
    lesion = np.zeros(frame.shape, dtype=bool)
    for centre, radius in masses:
        lesion |= paint_mass(canvas, frame, disease, centre, radius)
    if lesion_kind in PAINTERS:
        for _ in range(lesions):
            lesion |= PAINTERS[lesion_kind](canvas, frame, disease, head)

    data = _acquire(canvas.signal, frame, scanner, noise, bias)
    made = f"seed={seed}, contrast={contrast}, lesions={lesions} {lesion_kind}, atrophy={atrophy:g}"
    provenance = {"source": f"head_phantom({made})"}
    return Phantom(Volume(data, frame.affine, provenance), canvas.labels, head.brain, lesion & head.brain)


def _acquire(signal: np.ndarray, frame: Frame, rng: np.random.Generator, noise: float, bias: float) -> np.ndarray:
    """Receive field exp(bias g) and Rician magnitude |s + n1 + i n2|, in scanner units of 1000 per unit signal."""
    tissue = 1 + 0.02 * frame.field(rng, 8.0)
    seen = signal * tissue * np.exp(bias * frame.field(rng, 80.0))
    n1, n2 = noise * rng.standard_normal((2, *signal.shape), dtype=np.float32)
    return 1000 * np.hypot(seen + n1, n2)
