"""What training and the command line see of a model, whatever its domain."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Self

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from medmol_diffusion.core import Elbo
from medmol_diffusion.core.noise import Randomness
from medmol_diffusion.errors import InputError


class DiffusionModel(nn.Module, ABC):
    """A diffusion model of one domain, composed of the core's parts."""

    unit: str
    """What one example and its degrees of freedom are, for the likelihood table."""
    default_transitions: int = 0
    """T of the bound that is comparable in this domain; 0 for continuous time."""
    default_draws: int = 4
    """Noise draws per example that make a table worth reading."""

    baseline_name: str = ""
    """The simple model of the same data that a bound must beat to say anything."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def prepare(self, data: Any) -> None:
        """Measure on the training data what the model needs to know of them before training; called once."""

    @abstractmethod
    def open_data(self, path: str) -> pl.LightningDataModule:
        """A data module that brings all of ``path``, as this model needs it, in its training part."""

    @abstractmethod
    def loss(self, batch: Any, generator: Randomness) -> Tensor:
        """[B] training loss."""

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
