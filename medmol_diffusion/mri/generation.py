"""Scans made by a model: drawn anew, varied, or completed, each on the grid that its user expects."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from medmol_diffusion.core import ClassifierFree, Denoiser, Space, Stepper, Streams
from medmol_diffusion.core.guidance import Interval
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.batch import VolumeBatch
from medmol_diffusion.mri.covariates import Asked
from medmol_diffusion.mri.known import Known
from medmol_diffusion.mri.region import known_voxels
from medmol_diffusion.mri.transforms import Prepared
from medmol_diffusion.mri.volume import Volume
from medmol_diffusion.training.solver import Guide, Solver

if TYPE_CHECKING:
    from medmol_diffusion.mri.model import VolumeDiffusion

EXTENTS = 64
"""How many sizes of training scans a model remembers; samples draw theirs from them."""
Solve = Callable[[Tensor, Streams, Known], tuple[Space, Tensor]]
"""(places of the batch, its streams, what is known) -> (space, x_hat)."""


@dataclass(frozen=True)
class Generator:
    """A model and how it is to be run: what ``sample``, ``vary`` and ``inpaint`` of VolumeDiffusion share.

    Scan i depends on (seed, i) and what is asked of it, not on the batch it runs in. The fields are the arguments of
    these names of VolumeDiffusion.sample, and so are the arguments of the methods.
    """

    model: "VolumeDiffusion"
    steps: int
    sampler: str | Stepper
    seed: int
    spacing: str
    batch_size: int
    progress: Callable[[int], None] | None
    guide: Guide | None
    guidance: float
    interval: Interval | None

    def sample(self, count: int, covariates: Asked | None) -> list[Volume]:
        """VolumeDiffusion.sample."""
        if count < 1:
            raise InputError(f"count is how many scans to generate: at least 1, not {count}")
        if self.model.task is not None:
            raise InputError(
                f"the model is one of {type(self.model.task).__name__}: it makes a scan of what is given, so give it "
                "scans"
            )
        streams = self._streams(count)
        extents = self.model.extents.cpu()[(streams.uniform() * EXTENTS).long()].tolist()
        masks = torch.stack([centred_box(extent, self.model.grid.shape) for extent in extents])[:, None]
        found = self.from_noise(self.model.given(None, masks), masks, streams, covariates)
        return [
            self.model.to_volume(scan, {**self.note, "index": str(i)}).crop_or_pad(extent)
            for i, (scan, extent) in enumerate(zip(found, extents, strict=True))
        ]

    def from_noise(self, known: Known, masks: Tensor, streams: Streams, covariates: Asked | None) -> list[np.ndarray]:
        """[X, Y, Z] scans in [-1, 1] of what is known, whose counted voxels are ``masks`` [B, 1, X, Y, Z]."""
        known = self._asked(known, len(masks), covariates)
        solver = self._solver()

        def solve(rows: Tensor, streams: Streams, known: Known) -> tuple[Space, Tensor]:
            space = self.model.first_stage.space(masks[rows].to(self.model.device))
            like = torch.empty(space.shape, device=self.model.device)
            return space, solver(known).sample(space, like, streams, known)

        return self._run(streams, known, solve)

    def vary(self, volumes: Sequence[Volume], strength: float, covariates: Asked | None) -> list[Volume]:
        """VolumeDiffusion.vary."""
        solver = self._solver(strength)
        prepared, batch = self.prepare(volumes)
        streams = self._streams(len(volumes))
        known = self._asked(self.model.known(batch, streams), len(volumes), covariates)

        def solve(rows: Tensor, streams: Streams, known: Known) -> tuple[Space, Tensor]:
            scans = known.of(batch.take(rows).to(self.model.device))
            space, x = self.model.first_stage.encode(scans, known.guess, streams)
            return space, solver(known).vary(space, x, streams, known)

        note = {**self.note, "strength": str(strength)}
        found = self._run(streams, known, solve)
        return [on_own_grid(*triple, note) for triple in zip(found, prepared, volumes, strict=True)]

    def inpaint(
        self,
        volumes: Sequence[Volume],
        regions: Sequence[np.ndarray],
        resamples: int,
        jump: int,
        covariates: Asked | None,
    ) -> list[Volume]:
        """VolumeDiffusion.inpaint."""
        if len(regions) != len(volumes):
            raise InputError(f"{len(regions)} regions are given for {len(volumes)} scans: give one for each")
        solver = self._solver()
        prepared, batch = self.prepare(volumes)
        voxels = torch.stack(
            [
                torch.from_numpy(known_voxels(volume, region, scan))[None]
                for volume, region, scan in zip(volumes, regions, prepared, strict=True)
            ]
        )
        streams = self._streams(len(volumes))
        known = self._asked(self.model.known(batch, streams), len(volumes), covariates)

        def solve(rows: Tensor, streams: Streams, known: Known) -> tuple[Space, Tensor]:
            space, x = self.model.first_stage.encode(batch.take(rows).to(self.model.device), known.guess, streams)
            kept = self.model.first_stage.known(voxels[rows].to(x.device))
            return space, solver(known).inpaint(space, x, kept, streams, resamples, jump, known)

        note = {**self.note, "resamples": str(resamples)}
        found = self._run(streams, known, solve)
        new = [on_own_grid(*triple, note) for triple in zip(found, prepared, volumes, strict=True)]
        return [
            replace(scan, data=np.where(region, scan.data, volume.data))
            for scan, region, volume in zip(new, regions, volumes, strict=True)
        ]

    @property
    def note(self) -> dict[str, str]:
        """How a scan was made, for its provenance."""
        return {"sampler": str(self.sampler), "steps": str(self.steps), "seed": str(self.seed)}

    def prepare(self, volumes: Sequence[Volume]) -> tuple[list[Prepared], VolumeBatch]:
        """The scans on the model's grid, one by one and as a batch."""
        if not volumes:
            raise InputError("no scans are given: at least one is needed to start from")
        prepared = [self.model.grid.prepare(volume) for volume in volumes]
        data = torch.stack([torch.from_numpy(scan.volume.data)[None] for scan in prepared])
        mask = torch.stack([torch.from_numpy(scan.mask)[None] for scan in prepared])
        names = [volume.provenance.get("source", "") for volume in volumes]
        return prepared, VolumeBatch(data, mask, torch.arange(len(volumes)), names)

    def _streams(self, count: int) -> Streams:
        return Streams(self.seed, torch.arange(count))

    def _asked(self, known: Known, count: int, covariates: Asked | None) -> Known:
        """With the covariates that are asked for; a model that knows some is told that nothing is asked."""
        if not covariates and self.guidance != 1:
            raise InputError(f"guidance = {self.guidance} needs something to guide to: ask for covariates")
        if not covariates and self.model.covariates is None:
            return known
        asked = self.model.known_covariates()
        return known.asked(asked.encode(asked.asked(count, covariates or {}).to(self.model.device)))

    def _solver(self, strength: float = 1.0) -> Callable[[Known], Solver]:
        """The solver, given what is known of a batch: guidance compares it with the same and nothing asked."""

        def guided(known: Known | None) -> Solver:
            def wrap(denoiser: Denoiser) -> Denoiser:
                inner = denoiser if self.guide is None else self.guide(denoiser)
                if self.guidance == 1 or known is None:
                    return inner
                return ClassifierFree(inner, self.guidance, known.plain(), self.interval)

            model = self.model
            return Solver.named(model.denoiser, model.schedule, self.steps, self.sampler, self.spacing, wrap, strength)

        guided(None)  # a wrong name is told before anything is computed
        return guided

    @torch.no_grad()
    def _run(self, streams: Streams, known: Known, solve: Solve) -> list[np.ndarray]:
        """Scans [X, Y, Z], one for each stream, batch by batch."""
        found: list[np.ndarray] = []
        for rows in torch.arange(len(streams)).split(self.batch_size):
            part = known.take(rows).to(self.model.device)
            space, x_hat = solve(rows, streams.take(rows), part)
            found.extend(self.model.scans(x_hat, space, part)[:, 0].cpu().numpy())
            if self.progress is not None:
                self.progress(len(found))
        return found


def on_own_grid(data: np.ndarray, prepared: Prepared, own: Volume, note: dict[str, str]) -> Volume:
    """A scan on the model's grid, [X, Y, Z] in [-1, 1], on the grid and in the units of the one it was made from."""
    scan = replace(prepared.volume, data=prepared.intensities(data), provenance={**own.provenance, **note})
    return scan.resample(like=own, value=prepared.window[0])


def centred_box(extent: list[int], shape: tuple[int, int, int]) -> Tensor:
    """bool [X, Y, Z]: a box of ``extent`` voxels where Grid.prepare puts a scan of that size."""
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[tuple(slice((n - e) // 2, (n - e) // 2 + e) for e, n in zip(extent, shape, strict=True))] = True
    return mask
