"""Scans made by a model: drawn anew, varied, or completed, each on the grid that its user expects."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

from medmol_diffusion.core import ClassifierFree, Denoiser, Space, Streams
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.batch import VolumeBatch
from medmol_diffusion.mri.covariates import Asked
from medmol_diffusion.mri.extents import drawn_extents
from medmol_diffusion.mri.known import Known
from medmol_diffusion.mri.region import known_voxels
from medmol_diffusion.mri.tasks.inpainting import Inpainting
from medmol_diffusion.mri.tasks.super_resolution import SuperResolution
from medmol_diffusion.mri.tasks.task import Task
from medmol_diffusion.mri.tasks.translation import Translation
from medmol_diffusion.mri.tokens import Sequences, padded
from medmol_diffusion.mri.transforms import Prepared
from medmol_diffusion.mri.volume import Volume
from medmol_diffusion.training.sampling import Part, Sampling, SamplingOptions, Wanted, batches, everything
from medmol_diffusion.training.solver import Solver

if TYPE_CHECKING:
    from medmol_diffusion.mri.model import VolumeDiffusion

Solve = Callable[[Tensor, Streams, Known], tuple[Space, Tensor]]
"""(places of the batch, its streams, what is known) -> (space, x_hat)."""
Asking = Callable[[Known, Tensor], Known]
"""(what is known of some scans, their places) -> the same with what is asked of them."""
Kind = TypeVar("Kind", bound=Task)


class VolumeOptions(SamplingOptions, total=False):
    """Keyword arguments of the generating methods of VolumeDiffusion: SamplingOptions, which the model's own recipe has
    defaults for, and these.

    Keys:
        batch_size: scans at a time (4).
        covariates: what to ask for: column -> one value for all scans, or one for each.
        tokens: a sequence of embeddings (L, D) for all scans, or for each, None for one without, of a model that reads
            them; guidance is to these too.
    """

    batch_size: int
    covariates: Asked | None
    tokens: Sequences | np.ndarray | None


@dataclass(frozen=True)
class Generator(Sampling):
    """A model and how it is to be run: what the generating methods of VolumeDiffusion share.

    Scan i depends on (seed, i) and what is asked of it, not on the batch it runs in. The fields are VolumeOptions, the
    arguments of the methods those of the same names of VolumeDiffusion.
    """

    model: "VolumeDiffusion"
    _: KW_ONLY
    batch_size: int = 4
    covariates: Asked | None = None
    tokens: Sequences | np.ndarray | None = None

    def parts(self, count: int, wanted: Wanted = everything) -> Iterator[Part[Volume]]:
        """VolumeDiffusion.parts."""
        if count < 1:
            raise InputError(f"count is how many scans to generate: at least 1, not {count}")
        self._free("it makes a scan of what is given, so give it scans")
        return self._parts(count, self._asking(count), self._solver(), wanted)

    @torch.no_grad()
    def _parts(
        self, count: int, asking: Asking, solver: Callable[[Known], Solver], wanted: Wanted
    ) -> Iterator[Part[Volume]]:
        done = 0
        for number, places in enumerate(batches(count, self.batch_size)):
            if not wanted(number):
                continue
            streams = Streams(self.seed, places)
            extents = drawn_extents(self.model.extents, streams)
            masks = torch.stack([centred_box(extent, self.model.grid.shape) for extent in extents])[:, None]
            known = asking(self.model.given(None, masks), places)
            found = self._batch(torch.arange(len(places)), streams, known, self._out_of_noise(known, masks, solver))
            scans = [
                self.model.to_volume(scan, {**self.note, "index": str(place)}).crop_or_pad(extent)
                for scan, place, extent in zip(found, places.tolist(), extents, strict=True)
            ]
            done += len(scans)
            yield Part(number, places.tolist(), scans)
            if self.progress is not None:
                self.progress(done)

    def from_noise(self, known: Known, masks: Tensor, streams: Streams) -> list[np.ndarray]:
        """[X, Y, Z] scans in [-1, 1] of what is known, whose own voxels are ``masks`` [B, 1, X, Y, Z]."""
        known = self._asked(known, len(masks))
        return self._run(streams, known, self._out_of_noise(known, masks, self._solver()))

    def _out_of_noise(self, known: Known, masks: Tensor, solver: Callable[[Known], Solver]) -> Solve:
        masks = known.counted(masks)

        def solve(rows: Tensor, streams: Streams, known: Known) -> tuple[Space, Tensor]:
            space = self.model.first_stage.space(masks[rows].to(self.model.device))
            like = torch.empty(space.shape, device=self.model.device)
            return space, solver(known).sample(space, like, streams, known)

        return solve

    def vary(self, volumes: Sequence[Volume], strength: float) -> list[Volume]:
        """VolumeDiffusion.vary."""
        self._free("to vary scans takes a model of scans alone")
        solver = self._solver(strength)
        prepared, batch = self.prepare(volumes)
        streams = self._streams(len(volumes))
        known = self._asked(self.model.known(batch, streams), len(volumes))

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
    ) -> list[Volume]:
        """VolumeDiffusion.inpaint."""
        if len(regions) != len(volumes):
            raise InputError(f"{len(regions)} regions are given for {len(volumes)} scans: give one for each")
        prepared, batch = self.prepare(volumes)
        voxels = torch.stack(
            [
                torch.from_numpy(known_voxels(volume, region, scan))[None]
                for volume, region, scan in zip(volumes, regions, prepared, strict=True)
            ]
        )
        if self.model.task is None:
            found = self._repainted(batch, voxels, resamples, jump)
            note = {**self.note, "resamples": str(resamples)}
        else:
            task, note = self._task(Inpainting), self.note
            known = self.model.given(task.conceal(batch.data, batch.mask & ~voxels, batch.mask), batch.mask)
            found = self.from_noise(known, batch.mask, self._streams(len(volumes)))
        new = [on_own_grid(*triple, note) for triple in zip(found, prepared, volumes, strict=True)]
        return [
            replace(scan, data=np.where(region, scan.data, volume.data))
            for scan, region, volume in zip(new, regions, volumes, strict=True)
        ]

    def _repainted(self, batch: VolumeBatch, voxels: Tensor, resamples: int, jump: int) -> list[np.ndarray]:
        """By a model of scans alone, whose known ``voxels`` are held (RePaint)."""
        solver = self._solver()
        streams = self._streams(len(batch))
        known = self._asked(self.model.known(batch, streams), len(batch))

        def solve(rows: Tensor, streams: Streams, known: Known) -> tuple[Space, Tensor]:
            space, x = self.model.first_stage.encode(batch.take(rows).to(self.model.device), known.guess, streams)
            kept = self.model.first_stage.known(voxels[rows].to(x.device))
            return space, solver(known).inpaint(space, x, kept, streams, resamples, jump, known)

        return self._run(streams, known, solve)

    def super_resolve(self, volumes: Sequence[Volume]) -> list[Volume]:
        """VolumeDiffusion.super_resolve."""
        task = self._task(SuperResolution)
        _some(volumes)
        pairs = [task.prepare(volume, self.model.grid) for volume in volumes]
        prepared = [scan for _, scan in pairs]
        batch = as_batch(prepared, volumes)
        found = self.from_noise(self.model.given(batch.data, batch.mask), batch.mask, self._streams(len(volumes)))
        out = []
        for data, (fine, scan), own in zip(found, pairs, volumes, strict=True):
            made = on_own_grid(data, scan, fine, self.note)
            covered = replace(scan.volume, data=scan.mask).resample(like=fine, order=0).data > 0.5
            if not covered.all():
                _warn_of_crop(own, "the rest is interpolated")
            out.append(replace(made, data=np.where(covered, made.data, fine.data)).reorient(own.orientation))
        return out

    def translate(self, scans: Sequence[Volume | Mapping[str, Volume]]) -> list[Volume]:
        """VolumeDiffusion.translate."""
        task = self._task(Translation)
        _some(scans)
        given = [task.named(scan) for scan in scans]
        first = [volumes[task.sources[0]] for volumes in given]
        prepared = [self.model.grid.prepare(volume) for volume in first]
        for scan, own in zip(prepared, first, strict=True):
            if scan.cropped:
                _warn_of_crop(own, "the rest is left empty")
        batch = as_batch(prepared, first)
        others = [
            torch.stack(
                [
                    torch.from_numpy(self.model.grid.beside(volumes[name], scan))[None]
                    for volumes, scan in zip(given, prepared, strict=True)
                ]
            )
            for name in task.sources[1:]
        ]
        known = self.model.given(torch.cat([batch.data, *others], 1), batch.mask)
        found = self.from_noise(known, batch.mask, self._streams(len(first)))
        return [
            replace(scan.volume, data=data, provenance={**own.provenance, **self.note}).resample(like=own, value=-1.0)
            for data, scan, own in zip(found, prepared, first, strict=True)
        ]

    def _free(self, because: str) -> None:
        if self.model.task is not None:
            raise InputError(f"the model is one of {type(self.model.task).__name__}: {because}")

    def _task(self, kind: type[Kind]) -> Kind:
        """The model's task, if it is of this kind."""
        task = self.model.task
        if not isinstance(task, kind):
            has = "scans alone" if task is None else type(task).__name__
            raise InputError(
                f"the model is one of {has}, not of {kind.__name__}: train one with model.task {kind.__name__}"
            )
        return task

    @property
    def note(self) -> dict[str, str]:
        """How a scan was made, for its provenance."""
        return {"sampler": str(self.sampler), "steps": str(self.steps), "seed": str(self.seed)}

    def prepare(self, volumes: Sequence[Volume]) -> tuple[list[Prepared], VolumeBatch]:
        """The scans on the model's grid, one by one and as a batch."""
        _some(volumes)
        prepared = [self.model.grid.prepare(volume) for volume in volumes]
        return prepared, as_batch(prepared, volumes)

    def _streams(self, count: int) -> Streams:
        return Streams(self.seed, torch.arange(count))

    def _asked(self, known: Known, count: int) -> Known:
        """Of all scans, with what is asked for."""
        return self._asking(count)(known, torch.arange(count))

    def _asking(self, count: int) -> Asking:
        """How scans are told what is asked for; a model that knows covariates is told that nothing is asked."""
        if not self.covariates and self.tokens is None and self.guidance != 1:
            raise InputError(
                f"guidance = {self.guidance} needs something to guide to: ask for covariates, or give tokens"
            )
        numbers, sequences = None, None
        if self.tokens is not None:
            every = [self.tokens] if isinstance(self.tokens, np.ndarray) else self.tokens
            if every is self.tokens and len(every) != count:
                raise InputError(f"tokens has {len(every)} sequences for {count} scans: give one for each")
            values, there = padded(every)
            sequences = self.model.checked_tokens(values).expand(count, -1, -1), there.expand(count, -1)
        if self.covariates or self.model.covariates is not None:
            asked = self.model.known_covariates()
            numbers = asked.encode(asked.asked(count, self.covariates or {}).to(self.model.device))

        def told(known: Known, places: Tensor) -> Known:
            if sequences is not None:
                known = known.told(*(one[places] for one in sequences))
            return known if numbers is None else known.asked(numbers[places.to(numbers.device)])

        return told

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

    def _run(self, streams: Streams, known: Known, solve: Solve) -> list[np.ndarray]:
        """Scans [X, Y, Z], one for each stream, batch by batch."""
        found: list[np.ndarray] = []
        for rows in torch.arange(len(streams)).split(self.batch_size):
            found.extend(self._batch(rows, streams, known, solve))
            if self.progress is not None:
                self.progress(len(found))
        return found

    @torch.no_grad()
    def _batch(self, rows: Tensor, streams: Streams, known: Known, solve: Solve) -> np.ndarray:
        """Scans [B, X, Y, Z] of some of the streams."""
        part = known.take(rows).to(self.model.device)
        space, x_hat = solve(rows, streams.take(rows), part)
        found: np.ndarray = self.model.scans(x_hat, space, part)[:, 0].cpu().numpy()
        return found


def as_batch(prepared: Sequence[Prepared], volumes: Sequence[Volume]) -> VolumeBatch:
    """Scans that were prepared, as a model takes them."""
    data = torch.stack([torch.from_numpy(scan.volume.data)[None] for scan in prepared])
    mask = torch.stack([torch.from_numpy(scan.mask)[None] for scan in prepared])
    names = [volume.provenance.get("source", "") for volume in volumes]
    return VolumeBatch(data, mask, torch.arange(len(volumes)), names)


def _some(scans: Sequence[object]) -> None:
    if not scans:
        raise InputError("no scans are given: at least one is needed to start from")


def _warn_of_crop(volume: Volume, rest: str) -> None:
    name = volume.provenance.get("source", "a scan")
    warnings.warn(f"{name} reaches beyond the model's grid: {rest}.", stacklevel=4)


def on_own_grid(data: np.ndarray, prepared: Prepared, own: Volume, note: dict[str, str]) -> Volume:
    """A scan on the model's grid, [X, Y, Z] in [-1, 1], on the grid and in the units of the one it was made from."""
    scan = replace(prepared.volume, data=prepared.intensities(data), provenance={**own.provenance, **note})
    return scan.resample(like=own, value=prepared.window[0])


def centred_box(extent: list[int], shape: tuple[int, int, int]) -> Tensor:
    """bool [X, Y, Z]: a box of ``extent`` voxels where Grid.prepare puts a scan of that size."""
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[tuple(slice((n - e) // 2, (n - e) // 2 + e) for e, n in zip(extent, shape, strict=True))] = True
    return mask
