"""Method: a named way to find anomalies, composed of stages that can be swapped."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from medmol_diffusion.mri.anomaly.calibrate import QUANTILE, Calibrate
from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.postprocess import CLEANED
from medmol_diffusion.mri.anomaly.residual import l1
from medmol_diffusion.mri.anomaly.score import TOP_SHARE
from medmol_diffusion.mri.anomaly.setting import Setting


@dataclass(frozen=True)
class Restored:
    """Healthy versions of B scans.

    Attributes:
        scans: (B, 1, X, Y, Z) in [-1, 1].
        earlier: versions on the way there, whose maps are joined with the last one's by a harmonic mean (THOR).
        weight: (B, 1, X, Y, Z), which multiplies the map; None for 1 everywhere.
    """

    scans: Tensor
    earlier: tuple[Tensor, ...] = ()
    weight: Tensor | None = None


Restore = Callable[[Setting, Exam], Restored]
"""Scans -> their healthy versions."""
Residual = Callable[[Setting, Exam, Tensor], Tensor]
"""(setting, scans, healthy versions) -> how far they are apart, (B, 1, X, Y, Z), never below 0."""
Postprocess = Callable[[Exam, Tensor], Tensor]
"""A map -> the map that is shown, 0 outside of what is looked at."""
Score = Callable[[Setting, Exam, Tensor], Tensor]
"""(setting, scans, maps) -> one number for each scan, [B]: the higher, the less healthy."""


@runtime_checkable
class Learner(Protocol):
    """A stage that has to see healthy scans first."""

    def fitted(self, setting: Setting, healthy: Sequence[Exam]) -> Self:
        """The stage, having measured on healthy scans what it has to know."""


@runtime_checkable
class Comparing(Protocol):
    """A residual that has to see healthy scans and what the method makes of them."""

    def compared(self, setting: Setting, healthy: Iterable[tuple[Exam, Tensor]]) -> Residual:
        """The residual, having measured on (scans, their healthy versions) what it has to know."""


@dataclass(frozen=True)
class Answer:
    """What a method says of B scans: maps (B, 1, X, Y, Z), healthy versions (B, 1, X, Y, Z), scores [B]."""

    maps: Tensor
    restored: Tensor
    scores: Tensor


@dataclass(frozen=True)
class Method:
    """restore -> residual -> postprocess -> calibrate -> score.

    A stage is a function of the signatures above, or an object that can be called so; one that has to see healthy scans
    first has ``fitted`` (Learner), or as a residual ``compared`` (Comparing).

    Attributes:
        restore: a scan -> its healthy version.
        residual: both -> the map.
        postprocess: of the map.
        score: of the scan, from the map or from the model itself.
        calibrate: what the threshold of a map is.
    """

    restore: Restore
    residual: Residual = l1
    postprocess: Postprocess = CLEANED
    score: Score = TOP_SHARE
    calibrate: Calibrate = QUANTILE

    def with_postprocess(self, postprocess: Postprocess) -> Self:
        """The method with another one."""
        return replace(self, postprocess=postprocess)

    @property
    def learns(self) -> bool:
        """Whether a stage has to see healthy scans first."""
        return any(isinstance(stage, (Learner, Comparing)) for stage in vars(self).values())

    def fitted(self, setting: Setting, healthy: Sequence[Exam]) -> Self:
        """The method whose stages have seen healthy scans, each as an exam of its own."""
        learnt = replace(self, **_fitted({one.name: getattr(self, one.name) for one in fields(self)}, setting, healthy))
        if not isinstance(learnt.residual, Comparing):
            return learnt
        restored = ((exam, learnt.restore(setting, exam).scans) for exam in healthy)
        return replace(learnt, residual=learnt.residual.compared(setting, restored))

    @torch.no_grad()
    def __call__(self, setting: Setting, exam: Exam) -> Answer:
        restored = self.restore(setting, exam)
        versions = [self.residual(setting, exam, version) for version in (restored.scans, *restored.earlier)]
        found = versions[0] if len(versions) == 1 else harmonic_mean(versions)
        if restored.weight is not None:
            found = found * restored.weight
        maps = self.postprocess(exam, found)
        return Answer(maps, restored.scans, self.score(setting, exam, maps))


def harmonic_mean(maps: Sequence[Tensor]) -> Tensor:
    """n / sum 1 / a: high where all maps are."""
    return len(maps) / torch.stack([1 / a.clamp(min=1e-6) for a in maps]).sum(0)


def _fitted(stages: dict[str, Any], setting: Setting, healthy: Sequence[Exam]) -> dict[str, Any]:
    return {
        name: stage.fitted(setting, healthy) if isinstance(stage, Learner) else stage for name, stage in stages.items()
    }
