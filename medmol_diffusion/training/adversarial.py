"""Models that are trained against a second network."""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from medmol_diffusion.training.generative import GenerativeModel


@dataclass(frozen=True)
class Attempt:
    """What a model makes of a batch in training.

    Attributes:
        made: what the critic is to tell from ``real``, of the same shape.
        real: the examples.
        terms: the model's own terms of the loss, [B] each.
    """

    made: Tensor
    real: Tensor
    terms: dict[str, Tensor]

    def detached(self) -> "Attempt":
        """The same for the critic's step, which does not reach the model."""
        return replace(self, made=self.made.detach())


class AdversarialModel(GenerativeModel):
    """A model with a critic, or discriminator: a network that tells what it makes from examples.

    Attributes:
        critic_start: the step at which the critic begins.
        critic_steps: its steps for every one of the model's, on the same examples, against other draws of the model.
    """

    critic_start: int = 0
    critic_steps: int = 1

    @abstractmethod
    def critic(self) -> nn.Module | None:
        """A new critic, which belongs to the run and not to the model; None of a model that is trained alone."""

    @abstractmethod
    def attempt(self, batch: Any, generator: torch.Generator) -> Attempt:
        """What the model makes of a batch, and its own terms of the loss."""

    @abstractmethod
    def critic_loss(self, critic: nn.Module, attempt: Attempt, generator: torch.Generator) -> Tensor:
        """[B] what the critic is trained on."""

    @abstractmethod
    def adversarial_term(self, critic: nn.Module, attempt: Attempt) -> Tensor:
        """[B] what the model loses to the critic."""
