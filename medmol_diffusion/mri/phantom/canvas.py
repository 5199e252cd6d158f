"""What has been painted of a phantom so far."""

import numpy as np

from medmol_diffusion.mri.phantom.frame import Frame

# The label of each tissue is its place here. Signals are relative to white matter on T1w, as read off scans at 3 T.
TISSUES = (
    "air", "fat", "muscle", "bone", "marrow", "vitreous", "csf", "grey", "white", "deep_grey", "pallidum", "ventricle",
    "cerebellum_grey", "cerebellum_white", "brainstem", "lesion", "necrosis",
    "cavity", "haemorrhage", "haemosiderin",
)  # fmt: skip
LABEL = {name: label for label, name in enumerate(TISSUES)}
# The haemorrhage is a late subacute one, bright throughout, with a rim of haemosiderin.
SIGNAL: dict[str, tuple[float, ...]] = {
    "T1w": (0.0, 1.10, 0.48, 0.07, 0.62, 0.20, 0.20, 0.66, 1.00, 0.74, 0.88, 0.17, 0.66, 0.95, 0.88, 0.58, 0.30,
            0.20, 1.35, 0.55),
    "T2w": (0.0, 0.62, 0.24, 0.05, 0.40, 1.05, 1.00, 0.60, 0.44, 0.52, 0.36, 1.05, 0.60, 0.46, 0.46, 0.84, 1.00,
            1.00, 0.90, 0.12),
    "FLAIR": (0.0, 0.60, 0.38, 0.05, 0.42, 0.16, 0.13, 0.66, 0.53, 0.62, 0.50, 0.10, 0.64, 0.54, 0.55, 1.05, 0.40,
              0.13, 0.95, 0.15),
}  # fmt: skip


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
        share = opacity * sigmoid(self.sharpness * depth)
        self.signal += share * (self.tissue_signal[LABEL[tissue]] - self.signal)
        self.labels[share > 0.5] = LABEL[tissue]
        return share


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * x)
