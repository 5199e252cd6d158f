"""Translation: a scan of one contrast from scans of others."""

from collections.abc import Mapping

import torch
from torch import Tensor

from medmol_diffusion.core.noise import Randomness
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.batch import VolumeBatch
from medmol_diffusion.mri.tasks.task import Task
from medmol_diffusion.mri.volume import Volume


class Translation(Task):
    r"""The data set's scans, FLAIR for example, from other scans of the same heads.

    The guess is the best linear map of intensities, $b_0 + \sum_k b_k s_k$, by least squares over all counted voxels of
    the training scans.

    Args:
        source: what it is made of: one of data.images, or several.

    Raises:
        InputError: no source.
    """

    coefficients: Tensor
    guess_name = "linear map"

    def __init__(self, source: str | list[str]) -> None:
        super().__init__()
        self.sources = [source] if isinstance(source, str) else list(source)
        if not self.sources:
            raise InputError("model.task.source is empty: name one of data.images, T1w for example")
        self.channels = len(self.sources)
        start = torch.zeros(self.channels + 1)
        start[1:] = 1 / self.channels
        self.register_buffer("coefficients", start)
        self._moments = torch.zeros(self.channels + 1, self.channels + 2, dtype=torch.float64)

    def given(self, batch: VolumeBatch, randomness: Randomness) -> Tensor:
        for name in self.sources:
            if name not in batch.images:
                has = f"has {', '.join(batch.images)}" if batch.images else "has none"
                raise InputError(f"the model translates {name}, and data.images {has}: name it there")
        return torch.cat([batch.images[name] for name in self.sources], 1)

    def guess(self, images: Tensor, mask: Tensor) -> Tensor:
        weights = self.coefficients.to(images)
        mapped = weights[0] + torch.einsum("k,bkxyz->bxyz", weights[1:], images)[:, None]
        return torch.where(mask.to(images.device), mapped.clamp(-1, 1), -1.0)

    def named(self, scan: Volume | Mapping[str, Volume]) -> Mapping[str, Volume]:
        """Source -> its scan; a scan alone is that of the only source.

        Raises:
            InputError: a source is missing.
        """
        scans = {self.sources[0]: scan} if isinstance(scan, Volume) else scan
        if missing := [name for name in self.sources if name not in scans]:
            raise InputError(
                f"the model makes a scan of {', '.join(self.sources)}, and {', '.join(missing)} is missing: give them "
                "all, each by its name"
            )
        return scans

    def fit(self, batch: VolumeBatch, randomness: Randomness) -> None:
        inside = batch.mask[0, 0]
        images = self.given(batch, randomness)[0][:, inside].double()
        terms = torch.cat([torch.ones_like(images[:1]), images])
        self._moments += terms @ torch.cat([terms, batch.data[0][:, inside].double()]).T

    def fitted(self) -> None:
        # A source without contrast has no weight of its own: the smallest solution gives it none.
        normal, right = self._moments[:, :-1], self._moments[:, -1:]
        self.coefficients.copy_((torch.linalg.pinv(normal, hermitian=True) @ right)[:, 0])
