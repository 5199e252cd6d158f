"""VolumeDiffusion: a first stage, a network, what is known of a scan, and the core, composed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medmol_diffusion.core import (
    WEIGHTINGS,
    LinearGamma,
    NetworkDenoiser,
    NormalGamma,
    Schedule,
    Space,
    Streams,
    UniformTime,
    denoising_loss,
)
from medmol_diffusion.core.noise import Randomness, uniforms
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.batch import VolumeBatch
from medmol_diffusion.mri.covariates import Covariates
from medmol_diffusion.mri.extents import EXTENTS, on_grid
from medmol_diffusion.mri.first_stages.first_stage import FirstStage
from medmol_diffusion.mri.first_stages.haar_stage import HaarStage
from medmol_diffusion.mri.generation import Generator, VolumeOptions
from medmol_diffusion.mri.known import Known
from medmol_diffusion.mri.measurement import measure
from medmol_diffusion.mri.network import VolumeNetwork
from medmol_diffusion.mri.tasks.task import Task
from medmol_diffusion.mri.tasks.translation import Translation
from medmol_diffusion.mri.transforms import UPPER, Grid
from medmol_diffusion.mri.unet import UNet3D
from medmol_diffusion.mri.volume import Volume
from medmol_diffusion.mri.windows import Windows
from medmol_diffusion.training.model import DiffusionModel, Observed
from medmol_diffusion.training.recipe import Recipe
from medmol_diffusion.training.sampling import Part, Wanted, everything, in_order

if TYPE_CHECKING:
    from medmol_diffusion.mri.data import VolumeData


class VolumeDiffusion(DiffusionModel):
    """Diffusion of scans with a likelihood in voxel space: exact bookkeeping with the Haar first stage, the bound of
    the autoencoder and the diffusion together with the KL one.

    gamma_0 is a resolution: far below the bin width w the bound pays for digits the data do not have (0.43 nats a
    voxel at sigma_0 = 0.17 w, gamma_0 = -13.3 for 256 levels), at sigma_0 = 0.86 w, the default, 0.003.

    Args:
        shape: voxels of a scan, multiples of the first stage's factor.
        first_stage: between scans and states; HaarStage(2) when left out.
        intensity_levels: grey levels of the data on [-1, 1].
        network: a 3-D network from the first stage's channels, and those of given images, to the first stage's; a
            UNet3D of its default size when left out.
        schedule: gamma(t) of the bound, of sampling, and of the training noise levels; linear when left out.
        weighting: of the squared error, a name in core.WEIGHTINGS; "simple" with the linear schedule is the bound.
        gamma_mean, gamma_std: training noise levels gamma ~ N(mean, std^2) instead, cut to the schedule.
        spacing: voxel size of the model's grid in mm: scans to be examined are resampled to it, samples carry it.
        task: what is given of a scan that is to be made; nothing when left out.
        covariates: what the model can be asked for: columns of the table beside the scans, each with the words that it
            may hold, or null for numbers.
        condition_dropout: the probability of leaving out a covariate, or the sequence of embeddings, in training.
        window: voxels along each axis that the network sees at a time, multiples of the factor: it is trained on one
            window of every scan, knows where it lies, and is slid over the whole for all else (windows.Windows). For
            grids whose training step does not fit into memory; None sees all at once.
        overlap: the share of a window's width that neighbours share when it is slid.
        positions: whether the network is told where each place lies, by three more channels: for scans that lie alike,
            as heads do. With windows it always is.
        upper_percentile: of a scan's intensities, all above which become 1, in the data as in scans to be examined.
        sampling: how the model is sampled where nothing is said (training.recipe.Recipe): steps (50 when left out),
            sampler ("dpm++2m"), spacing, eta, noise_scale.

    Raises:
        InputError: the shape is not a multiple of the factor, the network has other channels, or an unknown weighting.
    """

    unit = "nats per scan; every voxel of the scan's own grid counts, padding does not"
    default_draws = 16
    data_mean: Tensor
    extents: Tensor

    def __init__(
        self,
        shape: list[int],
        first_stage: FirstStage | None = None,
        intensity_levels: int = 256,
        network: nn.Module | None = None,
        schedule: Schedule | None = None,
        weighting: str = "simple",
        gamma_mean: float | None = None,
        gamma_std: float = 3.0,
        spacing: float = 1.0,
        task: Task | None = None,
        covariates: dict[str, list[str] | None] | None = None,
        condition_dropout: float = 0.15,
        window: list[int] | None = None,
        overlap: float = 0.25,
        positions: bool = False,
        upper_percentile: float = UPPER,
        sampling: dict[str, int | float | str | None] | None = None,
    ) -> None:
        super().__init__()
        first_stage = HaarStage() if first_stage is None else first_stage
        factor = first_stage.factor
        if len(shape) != 3 or any(size < factor or size % factor for size in shape):
            raise InputError(f"shape {shape} must be three multiples of {factor} for this first stage")
        if window is not None and (len(window) != 3 or any(size < factor or size % factor for size in window)):
            raise InputError(f"window {window} must be three multiples of {factor} for this first stage, or null")
        if not 0 <= overlap < 1:
            raise InputError(f"overlap = {overlap} must lie in [0, 1)")
        if weighting not in WEIGHTINGS:
            raise InputError(f"unknown weighting '{weighting}': choose one of {', '.join(WEIGHTINGS)}")
        self.grid = Grid((shape[0], shape[1], shape[2]), spacing, levels=intensity_levels, upper=upper_percentile)
        self.task = task
        self.covariates = Covariates(covariates, condition_dropout) if covariates else None
        images, numbers = 0 if task is None else task.channels, 0 if self.covariates is None else self.covariates.size
        channels_in, channels_out = first_stage.channels_in + images * factor**3, first_stage.channels_out
        windows = None if window is None else Windows([size // factor for size in window], overlap)
        positions = positions or windows is not None
        channels_in += len(shape) if positions else 0
        if network is None:
            network = UNet3D(channels_in, channels_out, embedding_dim=numbers)
        if isinstance(network, UNet3D):
            network.check_channels(channels_in, channels_out, numbers)
            network.check_size([size // factor for size in (shape if window is None else window)])
        self.network = VolumeNetwork(network, first_stage, images, windows, positions)
        self.token_dim = network.token_dim if isinstance(network, UNet3D) else 0
        self.condition_dropout = condition_dropout
        self.recipe = Recipe.of(sampling, steps=50, sampler="dpm++2m")
        self.schedule = LinearGamma(-10.0, 10.0) if schedule is None else schedule
        self.weighting = WEIGHTINGS[weighting]()
        self.levels = (
            UniformTime(self.schedule) if gamma_mean is None else NormalGamma(self.schedule, gamma_mean, gamma_std)
        )
        self.register_buffer("data_mean", torch.zeros(1, *shape))
        self.register_buffer("extents", torch.tensor(shape).repeat(EXTENTS, 1))

    @property
    def first_stage(self) -> FirstStage:
        """Between scans and states."""
        return self.network.first_stage

    @property
    def denoiser(self) -> NetworkDenoiser:
        """The network, its output read as the first stage says."""
        return NetworkDenoiser(self.network, self.first_stage.parameterization())

    @property
    def reads_beside(self) -> bool:
        return isinstance(self.task, Translation)

    @property
    def questions(self) -> tuple[str, ...]:
        return () if self.covariates is None else self.covariates.questions

    @property
    def baseline_name(self) -> str:  # type: ignore[override]
        return self.first_stage.baseline_name

    @property
    def vocabulary(self) -> dict[str, Any]:
        return {
            "shape": list(self.grid.shape),
            "intensity_levels": self.grid.levels,
            "spacing": self.grid.spacing,
            "upper_percentile": self.grid.upper,
            "first_stage": type(self.first_stage).__name__,
            "task": type(self.task).__name__,
            "questions": self.questions,
        }

    def open_data(self, path: str, skip: bool = False) -> "VolumeData":
        """All scans of a folder, on the model's grid. What a grid cannot hold is cropped, not skipped: ``skip`` raises
        InputError."""
        from medmol_diffusion.mri.data import every_scan

        return every_scan(path, self.grid, skip)

    def open_conditional_data(self, path: str, skip: bool = False) -> "VolumeData":
        self._check_asked()
        return self.open_data(path, skip)

    def _check_asked(self) -> None:
        if not self.token_dim:
            self.known_covariates()

    def known_covariates(self) -> Covariates:
        """Raises InputError where the model knows none."""
        if self.covariates is None:
            raise InputError("the model can be asked for nothing: train one with model.covariates")
        return self.covariates

    def prepare(self, data: Any) -> None:
        """Measure on the training scans: their sizes, the mean of each voxel round the task's guess, what the first
        stage, the covariates and the given images need to know."""
        measure(self, data)

    def known(self, batch: VolumeBatch, randomness: Randomness) -> Known:
        """What is given of whole scans, without covariates; regions and the like are drawn by ``randomness``."""
        self.grid.check_shape(batch.data)
        return self.given(None if self.task is None else self.task.given(batch, randomness), batch.mask)

    def given(self, images: Tensor | None, mask: Tensor) -> Known:
        """What follows from given images [B, K, X, Y, Z]; of a model without a task, None."""
        mean = self.data_mean.expand(len(mask), -1, -1, -1, -1)
        if self.task is None or images is None:
            return Known(mean)
        images, mask = images.to(self.data_mean), mask.to(self.device)
        wanted = self.task.wanted(images, mask)
        return Known(self.task.guess(images, mask) + (mean if wanted is None else mean * wanted), images, wanted=wanted)

    def training_example(self, batch: VolumeBatch, generator: Randomness) -> tuple[Space, Tensor, Known]:
        known = self.known(batch, generator)
        space, x = self.first_stage.encode(known.of(batch), known.guess, generator)
        if self.covariates is not None:
            values = self.covariates.of(batch.covariates).to(x.device)
            known = known.asked(self.covariates.encode(self.covariates.leave_out(values, generator)))
        if self.token_dim:
            kept = uniforms(len(batch), 1, generator).to(x.device) >= self.condition_dropout
            tokens, mask = self._tokens(batch)
            known = known.told(tokens, mask & kept)
        return space, x, known

    def _tokens(self, batch: VolumeBatch) -> tuple[Tensor, Tensor]:
        """(B, L, D) and its mask; one place that is not there where no scan of the batch has any."""
        if batch.tokens is None or batch.token_mask is None:
            none = torch.zeros(len(batch), 1, self.token_dim, device=self.device)
            return none, torch.zeros(len(batch), 1, dtype=torch.bool, device=self.device)
        return self.checked_tokens(batch.tokens), batch.token_mask

    def checked_tokens(self, tokens: Tensor) -> Tensor:
        """Raises InputError for embeddings (B, L, D) of another size than the network's."""
        if not self.token_dim:
            raise InputError("the model reads no embeddings: train one with network.token_dim and data.tokens")
        if tokens.shape[-1] != self.token_dim:
            raise InputError(f"embeddings of size {tokens.shape[-1]} are given to a model of size {self.token_dim}")
        return tokens

    def loss(self, batch: VolumeBatch, generator: Randomness) -> Tensor:
        """[B] squared error per counted voxel, weighted; those of batch.excluded do not count."""
        space, x, known = self.training_example(batch, generator)
        kept = None
        if batch.excluded is not None:
            kept = self.first_stage.known(~(batch.excluded & known.counted(batch.mask)).to(x.device))
        part, windows, factor = None, self.network.windows, self.first_stage.factor
        if windows is not None:
            grid = [size // factor for size in self.grid.shape]
            corners = windows.draw(len(x), grid, generator).to(x.device)
            known = replace(known, window=corners)
            voxels = F.interpolate(windows.inside(corners, grid).byte(), scale_factor=factor) > 0
            part = self.first_stage.known(voxels)
        return denoising_loss(self.denoiser, self.levels, self.weighting, space, x, generator, known, part, kept)

    def observed(self, batch: VolumeBatch, seed: int = 0) -> Observed:
        """What -log p(scan), or -log p(scan | images) of a task, reads; bits_per_dim is bits per counted voxel, or per
        voxel that the task wants."""
        streams = Streams(seed, batch.index)
        known = self.known(batch, streams)
        seen = self.first_stage.observed(known.of(batch), known.guess, self.grid.levels, streams)
        dim = known.made(batch.mask).flatten(1).sum(1, dtype=torch.float64)
        return Observed(seen.space, seen.x, seen.observation, seen.data, streams, seen.terms, known, dim)

    def observed_with_condition(self, batch: VolumeBatch, seed: int = 0) -> Observed:
        """The same given the scans' own covariates and embeddings besides."""
        self._check_asked()
        seen = self.observed(batch, seed)
        known: Known = seen.condition
        if self.covariates is not None:
            known = known.asked(self.covariates.encode(self.covariates.of(batch.covariates).to(self.device)))
        if self.token_dim:
            known = known.told(*self._tokens(batch))
        return replace(seen, condition=known)

    def baseline(self, batch: VolumeBatch, seed: int = 0) -> Tensor | None:
        known = self.known(batch, Streams(seed, batch.index))
        return self.first_stage.baseline(known.of(batch), known.guess, self.grid.levels)

    def sample(self, count: int, **how: Unpack[VolumeOptions]) -> list[Volume]:
        """Generate scans, each of the size of a training scan. Scan i depends on (seed, i) alone, not on its batch.

        Args:
            count: how many.
            how: steps (50), sampler ("dpm++2m"), seed (0), covariates, guidance and the other VolumeOptions.

        Raises:
            InputError: count is below 1, an unknown sampler or spacing, a spacing that the schedule does not have, a
                covariate that the model does not know, guidance to nothing, or a model of a task.
        """
        return list(self.stream(count, **how))

    def stream(self, count: int, **how: Unpack[VolumeOptions]) -> Iterator[Volume]:
        """The scans of ``sample``, which see, one after the other: however many, no more than a batch is held."""
        return in_order(self.parts(count, **how))

    def parts(self, count: int, wanted: Wanted = everything, **how: Unpack[VolumeOptions]) -> Iterator[Part[Volume]]:
        """The scans of ``sample``, which see, in the batches they are made in; ``wanted`` shares those out, or leaves
        out what is there already."""
        return Generator(self, **(self.recipe.options() | how)).parts(count, wanted)

    def vary(
        self,
        volumes: Sequence[Volume],
        strength: float = 0.5,
        **how: Unpack[VolumeOptions],
    ) -> list[Volume]:
        """Scans like the given ones, on their own grids and in their own units: each noised to t = strength and sampled
        from there (core.edit). A scan of another site comes out more like the training scans: harmonisation.

        Args:
            volumes: scans of any size and orientation.
            strength: t in (0, 1]; near 0 little changes, at 1 all but nothing is kept.
            how: steps of the sampler from there, and the other VolumeOptions.

        Raises:
            InputError: no scans, a strength outside (0, 1], a model of a task, or what ``sample`` raises.
        """
        return Generator(self, **(self.recipe.options() | how)).vary(volumes, strength)

    def inpaint(
        self,
        volumes: Sequence[Volume],
        regions: Sequence[np.ndarray],
        resamples: int = 5,
        jump: int = 10,
        **how: Unpack[VolumeOptions],
    ) -> list[Volume]:
        """Generate a region of each scan anew; every other voxel comes out as it was, to the last bit.

        A model of Inpainting draws from p(region | rest), as for ``super_resolve``. One of scans alone, which was never
        trained for it, holds the rest by RePaint (core.inpaint), and calls the network steps * resamples times.

        Args:
            volumes: scans of any size and orientation.
            regions: bool arrays of the scans' own shapes, true at the voxels to be generated.
            resamples: of RePaint: how often every stretch of ``jump`` steps is run; 1 is plain replacement.
            jump: steps of a stretch.
            how: VolumeOptions.

        Raises:
            InputError: no scans, not one region for each, a region of another shape or type, empty, of the whole scan,
                or beyond the model's grid; or what ``sample`` raises.
        """
        return Generator(self, **(self.recipe.options() | how)).inpaint(volumes, regions, resamples, jump)

    def super_resolve(
        self,
        volumes: Sequence[Volume],
        **how: Unpack[VolumeOptions],
    ) -> list[Volume]:
        """Fine scans of coarse ones, by a model of SuperResolution: each has the voxels of the model's grid, in the
        orientation and the units of the scan, and what it shows lies where it lay in millimetres.

        One draw from p(fine | coarse): the mean of several is closer to the truth in PSNR, and smoother. What lies
        beyond the model's grid is interpolated, with a warning.

        Args:
            volumes: scans of any size and orientation, with voxels ``factor`` times as large as the model's.
            how: VolumeOptions.

        Raises:
            InputError: no scans, a model of something else, or what ``sample`` raises.
        """
        return Generator(self, **(self.recipe.options() | how)).super_resolve(volumes)

    def translate(
        self,
        volumes: Sequence[Volume | Mapping[str, Volume]],
        **how: Unpack[VolumeOptions],
    ) -> list[Volume]:
        """Scans of the contrast that a model of Translation was trained on, on the grids of those they are made from.

        One draw from p(scan | sources), as for ``super_resolve``. Intensities are those of the model, in [-1, 1]: the
        percentiles 0.5 and 99.5 of a training scan.

        Args:
            volumes: the source of each scan, or source -> scan where the model has several; the grid is that of the
                first source.
            how: VolumeOptions.

        Raises:
            InputError: no scans, a source is missing, a model of something else, or what ``sample`` raises.
        """
        return Generator(self, **(self.recipe.options() | how)).translate(volumes)

    def scans(self, x_hat: Tensor, space: Space, known: Known) -> Tensor:
        """Scans [B, 1, X, Y, Z] of denoised states, clipped to [-1, 1]."""
        return self.first_stage.decode(x_hat, space, known.guess).clamp(-1, 1)

    def to_volume(self, data: np.ndarray, provenance: dict[str, str]) -> Volume:
        """A scan on the model's grid, its centre at the origin of the scanner's millimetres."""
        return on_grid(self.grid, data, provenance)
