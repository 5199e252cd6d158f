"""What a model of scans measures on its training scans, once, before it is trained."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from medmol_diffusion.core import Streams
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.batch import VolumeBatch
from medmol_diffusion.mri.extents import training_extents

if TYPE_CHECKING:
    from medmol_diffusion.mri.model import VolumeDiffusion

SHRINKAGE = 4
"""The mean of a voxel leans on that of all voxels as if so many more scans had it there."""


def measure(model: "VolumeDiffusion", data: Any) -> None:
    """Measure on the training scans of ``data`` and write into the buffers of ``model``: their sizes, the mean of each
    voxel round the task's guess, what the first stage, the covariates and the given images need to know.

    Raises:
        InputError: the scans have other shapes or intensities than the model's.
    """
    model.grid.check_shape(data.train[0][0])
    _check_intensities(model, data)
    if model.covariates is not None:
        model.covariates.fit(data.train.covariates)
    if model.task is not None:
        for batch in _each(data.train):
            model.task.fit(batch, Streams(0, batch.index))
        model.task.fitted()
    count, total = torch.zeros(2, *model.data_mean.shape, dtype=torch.float64)
    model.data_mean.zero_()
    for batch in _each(data.train):
        known = model.known(batch, Streams(0, batch.index))
        made = known.made(batch.mask) & batch.kept
        count += made[0]
        total += (batch.data[0] - known.guess[0]) * made[0]
    model.data_mean.copy_((total + SHRINKAGE * total.sum() / count.sum()) / (count + SHRINKAGE))
    if model.task is not None and model.network.images is not None:
        model.network.images.fit(model.task.given(batch, Streams(0, batch.index)) for batch in _each(data.train))
    model.first_stage.fit(_to_be_made(model, batch) for batch in _each(data.train))
    model.extents.copy_(training_extents(batch.mask[0, 0] for batch in _each(data.train)))


def _to_be_made(model: "VolumeDiffusion", batch: VolumeBatch) -> tuple[VolumeBatch, Tensor]:
    """What is excluded counts as if it were as guessed."""
    known = model.known(batch, Streams(0, batch.index))
    data = torch.where(batch.kept.to(known.guess.device), batch.data.to(known.guess), known.guess)
    return known.of(replace(batch, data=data)), known.guess


def _check_intensities(model: "VolumeDiffusion", data: Any) -> None:
    """The intensities of the data, if they come from files or phantoms, mean what the model's mean."""
    from medmol_diffusion.mri.volume_module import VolumeModule

    if not isinstance(data, VolumeModule):
        return
    for name, theirs, name_here, ours in (
        ("levels", data.levels, "intensity_levels", model.grid.levels),
        ("upper_percentile", data.upper_percentile, "upper_percentile", model.grid.upper),
    ):
        if theirs != ours:
            raise InputError(
                f"scans of {name} {theirs:g} do not fit a model of {name_here} {ours:g}: "
                f"give data.{name} and model.model.{name_here} the same value"
            )


def _each(scans: Any) -> Iterator[VolumeBatch]:
    """Every scan as it was read, a batch of one."""
    from medmol_diffusion.mri.volume_set import collate

    return (collate([scans[i]]) for i in range(len(scans)))
