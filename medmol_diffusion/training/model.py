"""What training and the command line see of a model, whatever its domain."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Self

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from medmol_diffusion.core import (
    Denoiser,
    Elbo,
    Native,
    Prediction,
    Randomness,
    Schedule,
    Space,
    Weighting,
    draw_transition,
)
from medmol_diffusion.core.objective import weighted_error
from medmol_diffusion.errors import InputError


class DiffusionModel(nn.Module, ABC):
    """A diffusion model of one domain, composed of the core's parts."""

    unit: str
    """What one example and its degrees of freedom are, for the likelihood table."""
    default_transitions: int = 0
    """T of the bound that is comparable in this domain; 0 for continuous time."""
    default_draws: int = 4
    """Noise draws per example that make a table worth reading."""

    schedule: Schedule

    baseline_name: str = ""
    """The simple model of the same data that a bound must beat to say anything."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    @abstractmethod
    def denoiser(self) -> Denoiser:
        """The network and the reading of its output."""

    @property
    @abstractmethod
    def vocabulary(self) -> dict[str, Any]:
        """What a state stands for, by the names of the constructor: models that differ in it speak of other things."""

    def prepare(self, data: Any) -> None:
        """Measure on the training data what the model needs to know of them before training; called once."""

    @abstractmethod
    def open_data(self, path: str) -> pl.LightningDataModule:
        """A data module that brings all of ``path``, as this model needs it, in its training part."""

    @abstractmethod
    def encode(self, batch: Any) -> tuple[Space, Tensor]:
        """(space, clean state x [B, ...])."""

    @abstractmethod
    def loss(self, batch: Any, generator: Randomness) -> Tensor:
        """[B] training loss."""

    def error(
        self,
        prediction: Prediction,
        x: Tensor,
        eps: Tensor,
        weighting: Weighting,
        gamma_derivative: Tensor | None = None,
    ) -> Tensor:
        """[B] how far a prediction is from (x, eps): weighted squared error of the output per degree of freedom, plus
        the weighting's offset. gamma_derivative: as for core.objective.weighted_error."""
        space = prediction.space
        error = space.sum(weighted_error(prediction, x, eps, weighting, gamma_derivative)) / space.dim().to(x)
        return error + weighting.offset(prediction.gamma).to(error)

    def distillation_loss(
        self, batch: Any, teacher: "DiffusionModel", steps: int, substeps: int, generator: Randomness
    ) -> Tensor:
        """[B] error against what one DDIM step must say to land where ``substeps`` steps of the teacher land.

        The model learns the ``steps`` transitions of its own sampler (core.distillation_loss, Salimans & Ho 2022), with
        the weight that does not vanish at pure noise.
        """
        space, x = self.encode(batch)
        prediction, x_target, eps_target = draw_transition(
            self.denoiser, teacher.denoiser, self.schedule, steps, substeps, space, x, generator
        )
        return self.error(prediction, x_target, eps_target, Native())

    def learn_from(self, teacher: "DiffusionModel", name: str) -> None:
        """Begin as ``teacher``, called ``name``: its weights, and what was measured on its training data.

        Raises:
            InputError: the teacher is a model of another kind, of other things, or of another architecture.
        """
        if type(teacher) is not type(self):
            raise InputError(f"the teacher {name} is a {type(teacher).__name__}, not a {type(self).__name__}")
        for field, value in self.vocabulary.items():
            if (other := teacher.vocabulary[field]) != value:
                raise InputError(
                    f"the teacher {name} has {field} {other}, the model {value}: give the model the teacher's"
                )
        try:
            self.load_state_dict(teacher.state_dict())
        except RuntimeError as error:
            raise InputError(
                f"the teacher {name} has another architecture than the model: copy model.model from its config.yaml "
                f"({str(error).splitlines()[-1].strip()})"
            ) from error

    @abstractmethod
    def elbo(self, batch: Any, transitions: int = 0, draws: int | None = 1, seed: int = 0) -> Elbo:
        """The bound on -log p of every example, nats."""

    def baseline(self, batch: Any) -> Tensor | None:
        """[B] nats of ``baseline_name``, on the same data and the same degrees of freedom as ``elbo``; None without
        one."""
        return None

    @classmethod
    def from_pretrained(cls, source: str | Path) -> Self:
        """Load an exported folder or a run folder.

        Raises:
            InputError: nothing is found there, or it is a model of another kind.
        """
        from medmol_diffusion.training.saved import load_model

        model = load_model(source)
        if not isinstance(model, cls):
            raise InputError(f"{source} is a {type(model).__name__}, not a {cls.__name__}")
        return model
