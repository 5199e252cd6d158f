"""VolumeDiffusion: the cosine spectrum, the Haar first stage, the network and the core, composed."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from medmol_diffusion.core import (
    WEIGHTINGS,
    LinearGamma,
    NetworkDenoiser,
    NormalGamma,
    Preconditioned,
    Schedule,
    Stepper,
    Streams,
    UniformTime,
    denoising_loss,
    stepper_named,
)
from medmol_diffusion.core.noise import Randomness
from medmol_diffusion.core.observation import DiscretizedGaussian
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.batch import VolumeBatch
from medmol_diffusion.mri.first_stage import Haar
from medmol_diffusion.mri.network import VolumeNetwork
from medmol_diffusion.mri.region import known_voxels
from medmol_diffusion.mri.spectrum import CosineSpace, Spectrum
from medmol_diffusion.mri.transforms import Grid, Prepared
from medmol_diffusion.mri.unet import UNet3D
from medmol_diffusion.mri.volume import Volume
from medmol_diffusion.training.model import DiffusionModel, Observed
from medmol_diffusion.training.solver import Guide, Solver

if TYPE_CHECKING:
    from medmol_diffusion.mri.data import VolumeData

SHRINKAGE = 4
"""The mean of a voxel leans on that of all voxels as if so many more scans had it there."""
EXTENTS = 64
"""How many sizes of training scans a model remembers; samples draw theirs from them."""


class VolumeDiffusion(DiffusionModel):
    """Diffusion of scans with an exact likelihood in voxel space.

    A scan v in [-1, 1] becomes the state x = C(v - m): m is the training mean of each voxel, C the orthonormal cosine
    transform of the scan's own box, so that log|det| = 0, padding is not counted, and p(data | z_0) is a discretised
    Gaussian for every voxel. In this basis the second moments of scans are diagonal, or nearly. The network's output
    is read as the residual of the best linear denoiser, frequency by frequency: a network that outputs zero is the
    Wiener filter of the training scans' spectrum, and its bound is the code length of the Gaussian with that spectrum.
    The network itself sees the whitened scan in the wavelet channels of the Haar first stage.

    gamma_0 is a resolution: far below the bin width w the bound pays for digits the data do not have (0.43 nats a
    voxel at sigma_0 = 0.17 w, gamma_0 = -13.3 for 256 levels), at sigma_0 = 0.86 w, the default, 0.003.

    Args:
        shape: voxels of a scan, multiples of 2^haar_levels.
        haar_levels: depth of the wavelet packet that the network works on; 0 works on voxels.
        intensity_levels: grey levels of the data on [-1, 1].
        network: a 3-D network from 2 x 8^haar_levels channels to as many; a UNet3D of its default size when left out.
        schedule: gamma(t) of the bound, of sampling, and of the training noise levels; linear when left out.
        weighting: of the squared error, a name in core.WEIGHTINGS; "simple" with the linear schedule is the bound.
        gamma_mean, gamma_std: training noise levels gamma ~ N(mean, std^2) instead, cut to the schedule.
        spacing: voxel size of the model's grid in mm: scans to be examined are resampled to it, samples carry it.

    Raises:
        InputError: the shape is not a multiple of 2^haar_levels, the network has other channels, or an unknown
            weighting.
    """

    unit = "nats per scan; every voxel of the scan's own grid counts, padding does not"
    default_draws = 16
    baseline_name = "Gaussian of the training scans' mean and spectrum"
    data_mean: Tensor
    extents: Tensor

    def __init__(
        self,
        shape: list[int],
        haar_levels: int = 2,
        intensity_levels: int = 256,
        network: nn.Module | None = None,
        schedule: Schedule | None = None,
        weighting: str = "simple",
        gamma_mean: float | None = None,
        gamma_std: float = 3.0,
        spacing: float = 1.0,
    ) -> None:
        super().__init__()
        first_stage = Haar(haar_levels)
        factor = first_stage.factor
        if len(shape) != 3 or any(size < factor or size % factor for size in shape):
            raise InputError(f"shape {shape} must be three multiples of {factor} for {haar_levels} Haar levels")
        if weighting not in WEIGHTINGS:
            raise InputError(f"unknown weighting '{weighting}': choose one of {', '.join(WEIGHTINGS)}")
        self.grid = Grid((shape[0], shape[1], shape[2]), spacing, levels=intensity_levels)
        channels = 2 * first_stage.channels(1)
        network = UNet3D(channels, channels) if network is None else network
        if isinstance(network, UNet3D) and (network.channels_in, network.channels_out) != (channels, channels):
            raise InputError(
                f"the network takes {network.channels_in} channels and gives {network.channels_out}: for haar_levels "
                f"{haar_levels} set channels_in and channels_out to {channels}"
            )
        self.network = VolumeNetwork(network, first_stage)
        self.spectrum = Spectrum()
        self.schedule = LinearGamma(-10.0, 10.0) if schedule is None else schedule
        self.weighting = WEIGHTINGS[weighting]()
        self.levels = (
            UniformTime(self.schedule) if gamma_mean is None else NormalGamma(self.schedule, gamma_mean, gamma_std)
        )
        self.register_buffer("data_mean", torch.zeros(1, *shape))
        self.register_buffer("extents", torch.tensor(shape).repeat(EXTENTS, 1))

    @property
    def denoiser(self) -> NetworkDenoiser:
        """The network, read as the residual F of the Wiener filter of the spectrum."""
        return NetworkDenoiser(self.network, Preconditioned(self.spectrum))

    @property
    def vocabulary(self) -> dict[str, Any]:
        return {"shape": list(self.grid.shape), "intensity_levels": self.grid.levels, "spacing": self.grid.spacing}

    def open_data(self, path: str, skip: bool = False) -> "VolumeData":
        """All scans of a folder, on the model's grid. What a grid cannot hold is cropped, not skipped: ``skip`` raises
        InputError."""
        if skip:
            raise InputError("--skip leaves out what a model cannot hold: it is for molecules, a scan is cropped")
        from medmol_diffusion.mri.data import VolumeData

        grid = self.grid
        return VolumeData(path, list(grid.shape), spacing=grid.spacing, levels=grid.levels, validation=0.0, test=0.0)

    def prepare(self, data: Any) -> None:
        """Measure the mean of each voxel, the spectrum and the sizes of the training scans."""
        scans = data.train
        self._check_shape(scans[0][0])
        count, total = torch.zeros(2, *self.data_mean.shape, dtype=torch.float64)
        extents = []
        for values, mask, *_ in (scans[i] for i in range(len(scans))):
            count += mask
            total += values * mask
            extents.append(_extent(mask[0]))
        self.data_mean.copy_((total + SHRINKAGE * total.sum() / count.sum()) / (count + SHRINKAGE))
        self.spectrum.fit(self._state(scans[i][0][None], scans[i][1][None]) for i in range(len(scans)))
        sizes = torch.stack(extents)
        sizes = sizes[sizes.prod(1).argsort()]
        self.extents.copy_(sizes[torch.linspace(0, len(sizes) - 1, EXTENTS).round().long()])

    def encode(self, batch: VolumeBatch) -> tuple[CosineSpace, Tensor]:
        """(space, clean state x).

        Raises:
            InputError: the scans are not on the model's grid.
        """
        self._check_shape(batch.data)
        return self._state(batch.data, batch.mask)

    def _check_shape(self, data: Tensor) -> None:
        if tuple(data.shape[-3:]) != self.grid.shape:
            raise InputError(
                f"scans of {list(data.shape[-3:])} voxels do not fit a model of {list(self.grid.shape)}: "
                "give data.shape and model.model.shape the same sizes"
            )

    def _state(self, data: Tensor, mask: Tensor) -> tuple[CosineSpace, Tensor]:
        space = CosineSpace(mask)
        return space, space.encode(data.to(self.data_mean) - self.data_mean)

    def decode(self, x: Tensor, space: CosineSpace) -> Tensor:
        """A state -> scans [B, 1, X, Y, Z] in the units of the data; the mean outside what is counted."""
        return space.decode(x) + self.data_mean

    def loss(self, batch: VolumeBatch, generator: Randomness) -> Tensor:
        """[B] weighted squared error per counted voxel."""
        space, x = self.encode(batch)
        return denoising_loss(self.denoiser, self.levels, self.weighting, space, x, generator)

    def observed(self, batch: VolumeBatch) -> Observed:
        """What -log p(scan) reads; bits_per_dim is bits per counted voxel, exact bookkeeping in voxel space."""
        space, x = self.encode(batch)
        observation = DiscretizedGaussian(self.grid.levels, partial(self.decode, space=space))
        terms = {"log_volume": torch.zeros_like(space.dim())}
        return Observed(space, x, observation, (batch.data, batch.mask), batch.index, terms)

    def baseline(self, batch: VolumeBatch) -> Tensor:
        r"""[B] nats of the Gaussian with the mean and the spectrum of the training scans.

        Data on bin centres have no density, so they are spread evenly over their bins, of width w, before it is taken:
        $\sum_k \tfrac12 [(x_k^2 + w^2/12) / \lambda_k + \log 2 \pi \lambda_k] - \log w$ with
        $\lambda_k = s_k^2 + w^2/12$ is its mean over the spreading, and an upper bound on the code length of the grey
        levels.
        """
        space, x = self.encode(batch)
        width = 2 / (self.grid.levels - 1)
        spread = width**2 / 12
        variance = self.spectrum(space).double().square() + spread
        nats = 0.5 * ((x.double().square() + spread) / variance + (2 * math.pi * variance).log()) - math.log(width)
        return space.sum(nats)

    @torch.no_grad()
    def sample(
        self,
        count: int,
        steps: int = 50,
        sampler: str | Stepper = "dpm++2m",
        seed: int = 0,
        spacing: str = "time",
        batch_size: int = 4,
        progress: Callable[[int], None] | None = None,
        guide: Guide | None = None,
    ) -> list[Volume]:
        """Generate scans, each of the size of a training scan. Scan i depends on (seed, i) alone, not on its batch.

        Args:
            count: how many.
            steps: transitions of the sampler; one more network call reads x_hat off z_0.
            sampler: a name in core.STEPPERS, or a stepper, core.DDIM(eta=0.5) for example.
            seed: of the random streams.
            spacing: of the grid, a name in core.GRIDS.
            batch_size: scans at a time.
            progress: called with the number of scans finished, after every batch.
            guide: wraps the model's denoiser (core.Autoguidance, core.Classifier, ...).

        Raises:
            InputError: count is below 1, an unknown sampler or spacing, or a spacing that the schedule does not have.
        """
        if count < 1:
            raise InputError(f"count is how many scans to generate: at least 1, not {count}")
        solver = Solver.named(self.denoiser, self.schedule, steps, sampler, spacing, guide)
        streams = Streams(seed, torch.arange(count))
        extents = self.extents.cpu()[(streams.uniform() * EXTENTS).long()].tolist()

        def solve(rows: Tensor, streams: Streams) -> Tensor:
            mask = torch.stack([centred_box(extents[row], self.grid.shape) for row in rows.tolist()])[:, None]
            space = CosineSpace(mask.to(self.device))
            return self._scans(solver.sample(space, torch.empty(space.shape, device=self.device), streams), space)

        note = {"sampler": str(sampler), "steps": str(steps), "seed": str(seed)}
        return [
            self.to_volume(scan, {**note, "index": str(i)}).crop_or_pad(extent)
            for i, (scan, extent) in enumerate(
                zip(_in_batches(streams, solve, batch_size, progress), extents, strict=True)
            )
        ]

    @torch.no_grad()
    def vary(
        self,
        volumes: Sequence[Volume],
        strength: float = 0.5,
        steps: int = 50,
        sampler: str | Stepper = "dpm++2m",
        seed: int = 0,
        spacing: str = "time",
        batch_size: int = 4,
        progress: Callable[[int], None] | None = None,
        guide: Guide | None = None,
    ) -> list[Volume]:
        """Scans like the given ones, on their own grids and in their own units: each noised to t = strength and sampled
        from there (core.edit).

        Args:
            volumes: scans of any size and orientation.
            strength: t in (0, 1]; near 0 little changes, at 1 all but nothing is kept.
            steps: transitions of the sampler from there.

        The rest as for ``sample``.

        Raises:
            InputError: no scans, a strength outside (0, 1], or an unknown sampler or spacing.
        """
        solver = Solver.named(self.denoiser, self.schedule, steps, sampler, spacing, guide, strength)
        prepared = self._prepare(volumes)

        def solve(rows: Tensor, streams: Streams) -> Tensor:
            space, x = self.encode(self._batch(prepared, rows))
            return self._scans(solver.vary(space, x, streams), space)

        note = {"sampler": str(sampler), "steps": str(steps), "seed": str(seed), "strength": str(strength)}
        streams = Streams(seed, torch.arange(len(volumes)))
        found = _in_batches(streams, solve, batch_size, progress)
        return [_on_own_grid(*triple, note) for triple in zip(found, prepared, volumes, strict=True)]

    @torch.no_grad()
    def inpaint(
        self,
        volumes: Sequence[Volume],
        regions: Sequence[np.ndarray],
        steps: int = 50,
        sampler: str | Stepper = "dpm++2m",
        seed: int = 0,
        resamples: int = 5,
        jump: int = 10,
        spacing: str = "time",
        batch_size: int = 4,
        progress: Callable[[int], None] | None = None,
        guide: Guide | None = None,
    ) -> list[Volume]:
        """Generate a region of each scan anew (core.inpaint); every other voxel comes out as it was, to the last bit.

        Args:
            volumes: scans of any size and orientation.
            regions: bool arrays of the scans' own shapes, true at the voxels to be generated.
            resamples: how often every stretch of ``jump`` steps is run; 1 is plain replacement.
            jump: steps of a stretch.

        The rest as for ``sample``; the network is called steps * resamples times.

        Raises:
            InputError: no scans, not one region for each, a region of another shape or type, empty, of the whole scan,
                or beyond the model's grid; or an unknown sampler or spacing.
        """
        if len(regions) != len(volumes):
            raise InputError(f"{len(regions)} regions are given for {len(volumes)} scans: give one for each")
        solver = Solver.named(self.denoiser, self.schedule, steps, sampler, spacing, guide)
        prepared = self._prepare(volumes)
        known = torch.stack(
            [
                torch.from_numpy(known_voxels(volume, region, scan))[None]
                for volume, region, scan in zip(volumes, regions, prepared, strict=True)
            ]
        )

        def solve(rows: Tensor, streams: Streams) -> Tensor:
            space, x = self.encode(self._batch(prepared, rows))
            return self._scans(solver.inpaint(space, x, known[rows].to(x.device), streams, resamples, jump), space)

        note = {"sampler": str(sampler), "steps": str(steps), "seed": str(seed), "resamples": str(resamples)}
        streams = Streams(seed, torch.arange(len(volumes)))
        found = _in_batches(streams, solve, batch_size, progress)
        new = [_on_own_grid(*triple, note) for triple in zip(found, prepared, volumes, strict=True)]
        return [
            replace(scan, data=np.where(region, scan.data, volume.data))
            for scan, region, volume in zip(new, regions, volumes, strict=True)
        ]

    @torch.no_grad()
    def restore(self, batch: VolumeBatch, gamma: float, steps: int, streams: Streams, sampler: str = "ddim") -> Tensor:
        """Noise scans to ``gamma`` and denoise them in ``steps`` transitions, uniform in gamma: [B, 1, X, Y, Z].

        ``steps`` = 0 is a single network call, E[v | z] at ``gamma``.
        """
        space, x = self.encode(batch)
        gammas = torch.linspace(gamma, self.schedule.gamma_0, steps + 1, dtype=torch.float64)
        solver = Solver(self.denoiser, stepper_named(sampler), gammas)
        return self._scans(solver.vary(space, x, streams), space)

    def _scans(self, x_hat: Tensor, space: CosineSpace) -> Tensor:
        """Scans [B, 1, X, Y, Z] of denoised states, clipped to [-1, 1]."""
        return self.decode(x_hat, space).clamp(-1, 1)

    def _prepare(self, volumes: Sequence[Volume]) -> list[Prepared]:
        if not volumes:
            raise InputError("no scans are given: at least one is needed to start from")
        return [self.grid.prepare(volume) for volume in volumes]

    def _batch(self, prepared: list[Prepared], rows: Tensor) -> VolumeBatch:
        chosen = [prepared[row] for row in rows.tolist()]
        data = torch.stack([torch.from_numpy(scan.volume.data)[None] for scan in chosen])
        mask = torch.stack([torch.from_numpy(scan.mask)[None] for scan in chosen])
        return VolumeBatch(data, mask, rows, [""] * len(chosen)).to(self.device)

    def to_volume(self, data: np.ndarray, provenance: dict[str, str]) -> Volume:
        """A scan on the model's grid, its centre at the origin of the scanner's millimetres."""
        affine = np.diag([self.grid.spacing or 1.0] * 3 + [1.0])
        affine[:3, 3] = -affine[:3, :3] @ ((np.array(self.grid.shape) - 1) / 2)
        return Volume(data.astype(np.float32), affine, provenance)


def _in_batches(
    streams: Streams,
    solve: Callable[[Tensor, Streams], Tensor],
    batch_size: int,
    progress: Callable[[int], None] | None,
) -> list[np.ndarray]:
    """Scans [X, Y, Z], one for each stream; ``solve`` takes (rows, streams) to scans [B, 1, X, Y, Z]."""
    found: list[np.ndarray] = []
    for rows in torch.arange(len(streams)).split(batch_size):
        found.extend(solve(rows, streams.take(rows))[:, 0].cpu().numpy())
        if progress is not None:
            progress(len(found))
    return found


def _on_own_grid(data: np.ndarray, prepared: Prepared, own: Volume, note: dict[str, str]) -> Volume:
    """A scan on the model's grid, [X, Y, Z] in [-1, 1], on the grid and in the units of the one it was made from."""
    scan = replace(prepared.volume, data=prepared.intensities(data), provenance={**own.provenance, **note})
    return scan.resample(like=own, value=prepared.window[0])


def centred_box(extent: list[int], shape: tuple[int, int, int]) -> Tensor:
    """bool [X, Y, Z]: a box of ``extent`` voxels where Grid.prepare puts a scan of that size."""
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[tuple(slice((n - e) // 2, (n - e) // 2 + e) for e, n in zip(extent, shape, strict=True))] = True
    return mask


def _extent(mask: Tensor) -> Tensor:
    """[3] the sides of the box that a mask [X, Y, Z] fills."""
    places = mask.nonzero()
    return places.amax(0) - places.amin(0) + 1
