"""Setting: the model of an anomaly method, and what it is told that healthy is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar

import torch
from torch import Tensor

from medmol_diffusion.core import ClassifierFree, Denoiser, Space, Stepper, Streams, grid, stepper_named
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.autoencoder import Autoencoder
from medmol_diffusion.mri.covariates import Value
from medmol_diffusion.mri.known import Known
from medmol_diffusion.mri.model import VolumeDiffusion
from medmol_diffusion.mri.tasks.inpainting import Inpainting
from medmol_diffusion.mri.tasks.task import Task
from medmol_diffusion.training.solver import Solver

SCANS = 1_000_000
"""More than a data set has: the repeats of scan i draw as scans i + SCANS, i + 2 SCANS, ... would."""
Kind = TypeVar("Kind", bound=Task)


@dataclass(frozen=True)
class State:
    """Scans as the model diffuses them: clean states x [B, ...] in their space, and what the network is told."""

    space: Space
    x: Tensor
    known: Known


@dataclass(frozen=True)
class Setting:
    """What a stage may use besides the scans themselves.

    Noise levels are given as gamma = log sigma^2 / alpha^2, so that they mean the same for every schedule: t = 250 and
    500 of the DDPM-linear schedule with 1000 steps are gamma = -0.09 and 2.46.

    Attributes:
        model: of healthy scans, or of scans of all kinds that can be asked for the healthy ones.
        healthy: column -> value, what the healthy version of every scan is asked to be.
        guidance: scale of classifier-free guidance to it; 1 is the conditional model.
        seed: of the noise. That of a scan depends on (seed, its index) alone.
        autoencoder: of healthy scans, for the baseline of that name; that of the model's first stage when left out.
    """

    model: VolumeDiffusion
    healthy: Mapping[str, Value] = field(default_factory=lambda: MappingProxyType({}))
    guidance: float = 1.0
    seed: int = 0
    autoencoder: Autoencoder | None = None

    def streams(self, exam: Exam) -> Streams:
        """A stream of random numbers for each scan. The repeats of a scan (Exam.repeated) have numbers of their own."""
        index = exam.batch.index.cpu()
        repeat = torch.tensor([int((index[:i] == index[i]).sum()) for i in range(len(index))], dtype=index.dtype)
        return Streams(self.seed, index + repeat * SCANS)

    def state(self, exam: Exam, streams: Streams) -> State:
        """The scans as the model diffuses them, told that they are healthy.

        Raises:
            InputError: a model of Inpainting, which knows regions of scans and no whole ones.
        """
        if isinstance(self.model.task, Inpainting):
            raise InputError("the model makes regions of scans, not whole ones: choose the method patched or inpaint")
        return self.encoded(exam, self.known(exam, streams), streams)

    def encoded(self, exam: Exam, known: Known, streams: Streams) -> State:
        """The scans as the model diffuses them, told what is known."""
        space, x = self.model.first_stage.encode(known.of(exam.batch), known.guess, streams)
        return State(space, x, known)

    def known(self, exam: Exam, streams: Streams) -> Known:
        """What the model is told of the scans."""
        return self.asked(self.model.known(exam.batch, streams))

    def asked(self, known: Known) -> Known:
        """What is known of scans, and that they are healthy."""
        if not self.healthy and self.model.covariates is None:
            return known
        asked = self.model.known_covariates()
        return known.asked(asked.encode(asked.asked(len(known.guess), self.healthy).to(self.model.device)))

    def concealed(self, exam: Exam, region: Tensor, streams: Streams) -> State:
        """The boxes round regions, bool (B, 1, X, Y, Z), as a model of Inpainting diffuses them: the rest is given.

        Raises:
            InputError: a model of something else, or a part of a region that touches no known voxel.
        """
        batch, task = exam.batch, self.task(Inpainting)
        known = self.asked(self.model.given(task.conceal(batch.data, region, batch.mask), batch.mask))
        return self.encoded(exam, known, streams)

    def task(self, kind: type[Kind]) -> Kind:
        """The model's task; raises InputError if it is of another kind."""
        if not isinstance(self.model.task, kind):
            has = "scans alone" if self.model.task is None else type(self.model.task).__name__
            raise InputError(f"the method needs a model of {kind.__name__}, and this is one of {has}: train such a one")
        return self.model.task

    def denoiser(self, known: Known) -> Denoiser:
        """The model's, guided to the healthy."""
        if self.guidance == 1:
            return self.model.denoiser
        return ClassifierFree(self.model.denoiser, self.guidance, known.plain())

    def solver(self, gammas: Tensor, sampler: str | Stepper, known: Known) -> Solver:
        """From gammas[0] to gammas[-1], and on to x_hat."""
        stepper = sampler if isinstance(sampler, Stepper) else stepper_named(sampler)
        return Solver(self.denoiser(known), stepper, gammas)

    def gammas(self, gamma: float, steps: int) -> Tensor:
        """[steps + 1] from ``gamma`` to the clean end of the schedule, uniform in gamma; with no step, gamma alone."""
        return torch.linspace(gamma, float(self.model.schedule.gamma_0), steps + 1, dtype=torch.float64)

    def from_noise(self, steps: int) -> Tensor:
        """[steps + 1] gammas from pure noise to the clean end, uniform in t; with no step, that of pure noise alone."""
        if not steps:
            return torch.tensor([self.model.schedule.gamma_1], dtype=torch.float64)
        return grid(self.model.schedule, steps)

    def scans(self, x_hat: Tensor, state: State) -> Tensor:
        """Scans (B, 1, X, Y, Z) of denoised states, in [-1, 1]."""
        return self.model.scans(x_hat, state.space, state.known)
