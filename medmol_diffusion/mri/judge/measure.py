"""What is kept of every scan of a folder: numbers of a few kilobytes, and a few whole scans."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from medmol_diffusion.mri.judge.extractor import Extractor
from medmol_diffusion.mri.judge.memorisation import thumbnail
from medmol_diffusion.mri.judge.power import power_spectrum
from medmol_diffusion.mri.judge.scans import JudgedGrid, ScanFolder
from medmol_diffusion.mri.judge.tissue import class_volumes, intensity_counts
from medmol_diffusion.mri.transforms import Prepared, foreground_mask, from_bins, to_bins

PAIR_VOXELS = 2.5e8
"""What MS-SSIM of pairs may cost: pairs times voxels."""
COLUMNS = ("features", "thumbnail", "histogram", "volumes", "spectrum")
"""What is measured of each scan, the last three where anatomy is asked for."""
MOST_KEPT = 45
"""Whole scans kept of a folder at most: 990 pairs."""


@dataclass(frozen=True)
class Anatomy:
    """What the slow measures need of each scan.

    Attributes:
        histograms: (n, 256) share of the head's voxels at each intensity.
        volumes: (n, 3) millilitres of the classes of tissue.py.
        spectra: (n, SHELLS) decibels, see power.py.
    """

    histograms: np.ndarray
    volumes: np.ndarray
    spectra: np.ndarray


@dataclass(frozen=True)
class Measured:
    """A folder of n scans on the judge's grid.

    Attributes:
        names: of the files.
        features: (n, d) float64.
        thumbnails: (n, k) float32, see memorisation.py.
        kept: (k, X, Y, Z) uint8, scans drawn at random, in the order drawn and in 256 intensities.
        kept_places: (k,) which they are.
        anatomy: None unless asked for.
    """

    names: tuple[str, ...]
    features: np.ndarray
    thumbnails: np.ndarray
    kept: np.ndarray
    kept_places: np.ndarray
    anatomy: Anatomy | None

    def __len__(self) -> int:
        return len(self.names)

    def scans(self) -> np.ndarray:
        """(k, X, Y, Z) float32 in [-1, 1], the kept scans."""
        return from_bins(self.kept)

    def scan(self, place: int) -> np.ndarray:
        """(X, Y, Z) one of them."""
        return from_bins(self.kept[place])


def kept_scans(voxels: int) -> int:
    """How many whole scans are kept of a folder: as many as PAIR_VOXELS has pairs for, 4 to MOST_KEPT."""
    return int(np.clip(np.sqrt(2 * PAIR_VOXELS / voxels), 4, MOST_KEPT))


def measure(
    folder: ScanFolder,
    judged: JudgedGrid,
    extractor: Extractor,
    anatomy: bool = False,
    seed: int = 0,
    reach: Callable[[int], None] = lambda done: None,
) -> Measured:
    """Read a folder once, scan by scan.

    Args:
        anatomy: whether to make the figures of Anatomy too.
        seed: of which scans are kept.
        reach: told how many are done.
    """
    grid = judged.grid
    count = min(len(folder), kept_scans(int(np.prod(grid.shape))))
    places = np.random.default_rng(seed).choice(len(folder), count, replace=False)
    kept = np.empty((count, *grid.shape), dtype=np.uint8)
    voxel = float(np.prod(judged.spacing))

    def measures(place: int, prepared: Prepared) -> dict[str, np.ndarray]:
        data = prepared.volume.data
        found = {
            "features": extractor(torch.from_numpy(data)[None])[0].double().numpy(),
            "thumbnail": thumbnail(data),
        }
        if place in places:
            found["scan"] = to_bins(data)
        if anatomy:
            mask = foreground_mask(data)
            counts = intensity_counts(data, mask)
            found["histogram"], found["volumes"] = counts / counts.sum(), class_volumes(data, mask, voxel)
            found["spectrum"] = power_spectrum(data)
        return found

    def enough(place: int, before: dict[str, np.ndarray]) -> bool:
        return ("scan" in before or place not in places) and ("spectrum" in before or not anatomy)

    names = []
    columns: dict[str, list[np.ndarray]] = {key: [] for key in COLUMNS}
    name = f"measures-{judged.key}-{extractor.hash[:16]}"
    for place, (file, found) in enumerate(folder.measured(name, measures, grid, enough, reach)):
        names.append(str(file.relative_to(folder.path)))
        for key, column in columns.items():
            if key in found:
                column.append(found[key])
        if place in places:
            kept[places == place] = found["scan"]
    features, thumbnails, *slow = (np.array(column) for column in columns.values())
    return Measured(tuple(names), features, thumbnails, kept, places, Anatomy(*slow) if anatomy else None)


@dataclass(frozen=True)
class Thumbnails:
    """Of a folder of training scans: names of the files, and (n, k) what memorisation.py compares."""

    names: tuple[str, ...]
    values: np.ndarray


def read_thumbnails(
    folder: ScanFolder, judged: JudgedGrid, reach: Callable[[int], None] = lambda done: None
) -> Thumbnails:
    """Read a folder once, scan by scan, for its thumbnails alone."""

    def measures(place: int, prepared: Prepared) -> dict[str, np.ndarray]:
        return {"thumbnail": thumbnail(prepared.volume.data)}

    found = list(folder.measured(f"thumbnail-{judged.key}", measures, judged.grid, reach=reach))
    names = tuple(str(file.relative_to(folder.path)) for file, _ in found)
    return Thumbnails(names, np.array([one["thumbnail"] for _, one in found]))
