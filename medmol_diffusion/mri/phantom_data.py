"""Phantoms for training, in the place of files."""

import math
from collections.abc import Sequence

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.phantom import Contrast, Phantom, head_phantom
from medmol_diffusion.mri.table import Row
from medmol_diffusion.mri.transforms import UPPER, Augmentation, Grid, Prepared, flip_axes
from medmol_diffusion.mri.volume_module import VolumeModule
from medmol_diffusion.mri.volume_set import Scans


class PhantomData(VolumeModule):
    """Procedural head phantoms instead of files: nothing to download. Phantom i has the seed `100000 seed + i`.

    What is known of each head (`covariates`, as of a table): contrast; atrophy; ventricles and lesion_load, what it
    truly has, in ml; and brain, its volume in ml.

    Args:
        count: number of heads.
        shape: voxels along each axis; a head always fits, so fewer voxels are larger ones.
        contrast: T1w, T2w or FLAIR, or a list: every head has one of them, drawn at random.
        lesions: how many white-matter lesions: false for none, true for one to four, or the least and the most of a
            uniform draw.
        atrophy: of every head, 0 (young) to 1, or the least and the most of a uniform draw.
        images: other contrasts of the same heads, to go with each scan: [T1w].

    The rest as for VolumeData.

    Raises:
        InputError: no phantom, a contrast or an atrophy that head_phantom does not have, or ranges that are none.
    """

    def __init__(
        self,
        count: int = 64,
        shape: list[int] = [32, 40, 32],  # noqa: B006 (a list is what a config can write; it is never changed)
        contrast: Contrast | list[Contrast] = "T1w",
        lesions: bool | list[int] = False,
        levels: int = 256,
        validation: float = 0.1,
        test: float = 0.1,
        split_seed: int = 0,
        batch_size: int = 8,
        flip: bool | list[int] = False,
        num_workers: int = 0,
        seed: int = 0,
        shift: int = 0,
        bend: float = 0.0,
        atrophy: float | list[float] = 0.0,
        images: list[Contrast] | None = None,
        upper_percentile: float = UPPER,
    ) -> None:
        augmentation = Augmentation(flip_axes(flip), shift, bend, seed)
        shares = (validation, test, split_seed)
        super().__init__(
            shape, levels, *shares, batch_size, augmentation, num_workers, upper_percentile=upper_percentile
        )
        self.images: list[Contrast] = list(images or ())
        if count < 1:
            raise InputError(f"data.count needs at least one phantom, not {count}.")
        self.count = count
        self.contrasts: list[Contrast] = [contrast] if isinstance(contrast, str) else list(contrast)
        if not self.contrasts:
            raise InputError("data.contrast names none: give T1w, T2w, FLAIR or a list of them.")
        self.lesions = lesions if isinstance(lesions, bool) else _range(lesions, "lesions", math.inf)
        self.atrophy = _range([atrophy] * 2 if isinstance(atrophy, (int, float)) else atrophy, "atrophy", 1)
        self.seed = seed
        self.grid = Grid(self.shape, levels=levels, upper=upper_percentile)

    def phantom(self, i: int, contrast: Contrast | None = None) -> Phantom:
        """Phantom i, or the same in another contrast, with its tissue labels and lesion mask, on the grid of the
        scans."""
        own, lesions, atrophy = self._drawn(i)
        return head_phantom(self._seed(i), self.shape, contrast=contrast or own, lesions=lesions, atrophy=atrophy)

    def _seed(self, i: int) -> int:
        return 100_000 * self.seed + i

    def _drawn(self, i: int) -> tuple[Contrast, int, float]:
        """Contrast, number of lesions and atrophy of phantom i; streams 0 to 2 of its seed are head_phantom's."""
        seed = self._seed(i)
        draw = np.random.default_rng([seed, 3])
        contrast = self.contrasts[int(draw.integers(len(self.contrasts)))]
        atrophy = round(float(draw.uniform(*self.atrophy)), 4)
        if isinstance(self.lesions, bool):
            return contrast, 1 + seed % 4 if self.lesions else 0, atrophy
        fewest, most = self.lesions
        return contrast, int(draw.integers(int(fewest), int(most) + 1)), atrophy

    def _made(self, i: int) -> tuple[Prepared, Row]:
        head = self.phantom(i)
        contrast, _, atrophy = self._drawn(i)
        numbers = {"ventricles": head.ventricles, "lesion_load": head.lesion_load, "brain": head.brain_volume}
        row = {"contrast": contrast, "atrophy": f"{atrophy:g}"} | {name: f"{ml:.6g}" for name, ml in numbers.items()}
        return self.grid.prepare(head.volume), row

    def load(self) -> Scans:
        made = [self._made(i) for i in range(self.count)]
        prepared, rows = [scan for scan, _ in made], [row for _, row in made]
        names = [f"phantom-{i:04d}" for i in range(self.count)]
        images: list[dict[str, np.ndarray]] = [
            {name: self.grid.beside(self.phantom(i, name).volume, scan) for name in self.images}
            for i, scan in enumerate(prepared)
        ]
        scans = Scans.stack(prepared, names, names, self.levels, images)
        scans.covariates = rows
        return scans


def _range(given: Sequence[float], name: str, most: float) -> tuple[float, float]:
    if len(given) != 2 or not 0 <= given[0] <= given[1] <= most:
        limit = "0 or more" if most == math.inf else f"within 0 and {most:g}"
        raise InputError(f"data.{name} is a range, the least and the most, {limit}, not {list(given)}.")
    return given[0], given[1]
