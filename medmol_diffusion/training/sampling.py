"""How samples of a model are drawn: the arguments that its generating methods share, in both domains."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypedDict, TypeVar

import torch
from torch import Tensor

from medmol_diffusion.core import Stepper
from medmol_diffusion.core.guidance import Interval
from medmol_diffusion.training.solver import Guide

Item = TypeVar("Item")


@dataclass(frozen=True)
class Part(Generic[Item]):
    """Samples that are made in one go.

    Which items a part has follows from what is asked for, not from who makes it: a part that is made again, by another
    process too, is the same to the last bit on a machine of the same kind.

    Attributes:
        number: of the part, from 0.
        places: of the items among all that are asked for, from 0.
        items: molecules or scans.
    """

    number: int
    places: list[int]
    items: list[Item]


Wanted = Callable[[int], bool]
"""Whether the part of this number is to be made."""


def everything(number: int) -> bool:
    """All parts."""
    return True


def batches(count: int, size: int) -> Iterator[Tensor]:
    """The places 0 to ``count`` - 1, at most ``size`` at a time."""
    for start in range(0, count, size):
        yield torch.arange(start, min(start + size, count))


def in_order(parts: Iterable[Part[Item]]) -> Iterator[Item]:
    """The items of parts by their places 0, 1, 2, ..., each as soon as those before it are there; ends before the first
    that is missing."""
    waiting: dict[int, Item] = {}
    place = 0
    for part in parts:
        waiting.update(zip(part.places, part.items, strict=True))
        while place in waiting:
            yield waiting.pop(place)
            place += 1


class SamplingOptions(TypedDict, total=False):
    """Keyword arguments of every generating method; what is left out has the default of ``Sampling``.

    Keys:
        steps: transitions of the sampler; one more network call reads x_hat off z_0.
        sampler: a name in core.STEPPERS, or a stepper, core.DDIM(eta=0.5) for example.
        seed: of the random streams.
        spacing: of the grid, a name in core.GRIDS.
        progress: called with the number of samples finished, after every batch.
        guide: wraps the model's denoiser (core.Autoguidance, core.Classifier, ...).
        guidance: scale of classifier-free guidance (core.ClassifierFree); 1 is the conditional model.
        interval: levels (gamma_low, gamma_high) inside which guidance holds; everywhere when left out.
    """

    steps: int
    sampler: str | Stepper
    seed: int
    spacing: str
    progress: Callable[[int], None] | None
    guide: Guide | None
    guidance: float
    interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """SamplingOptions, each with its default."""

    steps: int
    sampler: str | Stepper
    seed: int = 0
    spacing: str = "time"
    progress: Callable[[int], None] | None = None
    guide: Guide | None = None
    guidance: float = 1.0
    interval: Interval | None = None
