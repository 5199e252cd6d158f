"""Models that make a scan in one pass of a network: what the autoencoder and the GAN share."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from medmol_diffusion.core import Streams
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.extents import EXTENTS, drawn_extents, on_grid, training_extents
from medmol_diffusion.mri.transforms import Grid
from medmol_diffusion.mri.volume import Volume
from medmol_diffusion.training.adversarial import AdversarialModel
from medmol_diffusion.training.sampling import Part, Wanted, batches, everything, in_order

if TYPE_CHECKING:
    from medmol_diffusion.mri.data import VolumeData


class OneShot(AdversarialModel):
    """A model of scans on one grid that turns standard normal numbers into a scan.

    Args:
        shape: voxels of a scan, any sizes.
        intensity_levels: grey levels of the data on [-1, 1].
        spacing: voxel size of the grid in mm.

    Raises:
        InputError: the shape is not three sizes.
    """

    unit = "nats per scan; every voxel of the scan's own grid counts, padding does not"
    extents: Tensor

    def __init__(self, shape: list[int], intensity_levels: int, spacing: float) -> None:
        super().__init__()
        if len(shape) != 3 or min(shape) < 1:
            raise InputError(f"shape {shape} must be three sizes of at least 1")
        if intensity_levels < 2:
            raise InputError(f"intensity_levels = {intensity_levels} must be at least 2")
        self.grid = Grid((shape[0], shape[1], shape[2]), spacing, levels=intensity_levels)
        self.register_buffer("extents", torch.tensor(shape).repeat(EXTENTS, 1))

    @property
    @abstractmethod
    def noise_shape(self) -> tuple[int, ...]:
        """Of the numbers that one scan is made of."""

    @abstractmethod
    def make(self, noise: Tensor) -> Tensor:
        """Standard normal numbers [B, *noise_shape] -> scans [B, 1, X, Y, Z] on the whole grid."""

    @property
    def vocabulary(self) -> dict[str, Any]:
        return {
            "shape": list(self.grid.shape),
            "intensity_levels": self.grid.levels,
            "spacing": self.grid.spacing,
        }

    def open_data(self, path: str, skip: bool = False) -> "VolumeData":
        """All scans of a folder, on the model's grid. What a grid cannot hold is cropped, not skipped: ``skip`` raises
        InputError."""
        from medmol_diffusion.mri.data import every_scan

        return every_scan(path, self.grid, skip)

    def prepare(self, data: Any) -> None:
        """Measure the sizes of the training scans."""
        scans = data.train
        self.grid.check_shape(scans[0][0])
        self.extents.copy_(training_extents(scans[i][1][0] for i in range(len(scans))))

    def sample(
        self, count: int, seed: int = 0, batch_size: int = 4, progress: Callable[[int], None] | None = None
    ) -> list[Volume]:
        """Generate scans, each of the size of a training scan. Scan i depends on (seed, i) alone, not on its batch.

        Args:
            count: how many.
            seed: of the random streams.
            batch_size: scans at a time.
            progress: called with the number of scans finished, after every batch.

        Raises:
            InputError: count is below 1.
        """
        return list(self.stream(count, seed, batch_size, progress))

    def stream(
        self, count: int, seed: int = 0, batch_size: int = 4, progress: Callable[[int], None] | None = None
    ) -> Iterator[Volume]:
        """The scans of ``sample``, which see, one after the other: however many, no more than a batch is held."""
        return in_order(self.parts(count, seed, batch_size, progress))

    def parts(
        self,
        count: int,
        seed: int = 0,
        batch_size: int = 4,
        progress: Callable[[int], None] | None = None,
        wanted: Wanted = everything,
    ) -> Iterator[Part[Volume]]:
        """The scans of ``sample``, which see, in the batches they are made in; ``wanted`` shares those out, or leaves
        out what is there already."""
        if count < 1:
            raise InputError(f"count is how many scans to generate: at least 1, not {count}")
        return self._parts(count, seed, batch_size, progress, wanted)

    @torch.no_grad()
    def _parts(
        self, count: int, seed: int, batch_size: int, progress: Callable[[int], None] | None, wanted: Wanted
    ) -> Iterator[Part[Volume]]:
        done = 0
        for number, places in enumerate(batches(count, batch_size)):
            if not wanted(number):
                continue
            streams, size = Streams(seed, places), torch.Size(self.noise_shape).numel()
            extents = drawn_extents(self.extents, streams)
            noise = torch.cat(streams.normals([size] * len(places), 1, torch.float32)).view(-1, *self.noise_shape)
            made = self.make(noise.to(self.device)).clamp(-1, 1)[:, 0].cpu().numpy()
            scans = [
                on_grid(self.grid, scan, {"seed": str(seed), "index": str(place)}).crop_or_pad(extent)
                for scan, place, extent in zip(made, places.tolist(), extents, strict=True)
            ]
            done += len(scans)
            yield Part(number, places.tolist(), scans)
            if progress is not None:
                progress(done)
