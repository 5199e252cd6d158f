"""Ensemble: several methods, whose maps are joined."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly.calibrate import QUANTILE, Calibrate
from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.method import Answer, Learner, Method, Postprocess, Score, harmonic_mean
from medmol_diffusion.mri.anomaly.score import TOP_SHARE
from medmol_diffusion.mri.anomaly.setting import Setting


def mean(maps: Tensor) -> Tensor:
    """[M, ...] -> [...]."""
    return maps.mean(0)


def harmonic(maps: Tensor) -> Tensor:
    """The harmonic mean, exactly zero where a map is: high where all are (Bercea et al. 2024, for the maps of THOR)."""
    return torch.where(maps.amin(0) > 0, harmonic_mean(maps.unbind()), 0.0)


JOINS: dict[str, Callable[[Tensor], Tensor]] = {"mean": mean, "harmonic": harmonic, "z": mean}
"""What is done to the maps of the members, stacked; "z" divides each by its spread first."""


@dataclass(frozen=True)
class Ensemble:
    r"""Several methods as one: it is fitted and called as a Method is.

    "z" is the mean of z-scores $(a_m - \mu_m) / \sigma_m$ of the members' maps a_m, with mean and standard deviation
    over the voxels that are looked at in healthy scans, and the constant $\sum_m \mu_m / \sigma_m$ added to their sum:
    it is then the mean of $a_m / \sigma_m$, in the same order, never below 0, and 0 where nothing is looked at. Maps of
    different units are so made alike; for "mean" and "harmonic" they should be in the same ones.

    Attributes:
        members: the methods.
        join: "mean", "harmonic" or "z".
        score: of the scan, from the joined map or from the model itself.
        calibrate: what the threshold of a joined map is.
        spreads: [M] sigma_m, once fitted.

    Raises:
        InputError: no members, or an unknown join.
    """

    members: tuple["Method | Ensemble", ...]
    join: str = "z"
    score: Score = TOP_SHARE
    spreads: tuple[float, ...] | None = None
    calibrate: Calibrate = QUANTILE

    def __post_init__(self) -> None:
        if not self.members:
            raise InputError("an ensemble needs at least one member")
        if self.join not in JOINS:
            raise InputError(f"unknown join '{self.join}' of an ensemble: choose one of {', '.join(JOINS)}")

    def with_postprocess(self, postprocess: Postprocess) -> Self:
        """The ensemble whose members have another one."""
        return replace(self, members=tuple(member.with_postprocess(postprocess) for member in self.members))

    @property
    def learns(self) -> bool:
        """Whether it has to see healthy scans first."""
        return self.join == "z" or isinstance(self.score, Learner) or any(member.learns for member in self.members)

    def fitted(self, setting: Setting, healthy: Sequence[Exam]) -> Self:
        """The ensemble whose members have seen healthy scans, each as an exam of its own."""
        members = tuple(member.fitted(setting, healthy) for member in self.members)
        found = replace(self, members=members)
        if self.join == "z":
            found = replace(found, spreads=tuple(_spread(member, setting, healthy) for member in members))
        stage = self.score
        return replace(found, score=stage.fitted(setting, healthy)) if isinstance(stage, Learner) else found

    @torch.no_grad()
    def __call__(self, setting: Setting, exam: Exam) -> Answer:
        answers = [member(setting, exam) for member in self.members]
        maps = torch.stack([answer.maps for answer in answers])
        if self.join == "z":
            if self.spreads is None:
                raise InputError("an ensemble of z-scores needs healthy scans: call fit, or give --healthy")
            maps = maps / maps.new_tensor(self.spreads).view(-1, 1, 1, 1, 1, 1)
        joined = JOINS[self.join](maps)
        restored = torch.stack([answer.restored for answer in answers]).mean(0)
        return Answer(joined, restored, self.score(setting, exam, joined))


def _spread(member: "Method | Ensemble", setting: Setting, healthy: Sequence[Exam]) -> float:
    """The standard deviation of a map over the voxels that are looked at in all healthy scans."""
    count, total, squares = 0, 0.0, 0.0
    for exam in healthy:
        values = member(setting, exam).maps[exam.inside].double()
        count, total = count + len(values), total + values.sum().item()
        squares += values.square().sum().item()
    if count == 0:
        raise InputError("an ensemble of z-scores needs at least one healthy scan")
    return max((squares / count - (total / count) ** 2) ** 0.5, 1e-6)
