"""What the command line sees of a model that makes examples, whatever its domain and its family."""

import hashlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from torch import Tensor, nn

from medmol_diffusion.core import Elbo
from medmol_diffusion.errors import InputError

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule


class GenerativeModel(nn.Module, ABC):
    """A model of p(data): it makes examples, and most families give a likelihood."""

    unit: str
    """What one example and its degrees of freedom are, for the likelihood table."""
    default_draws: int = 4
    """Noise draws per example that make a table worth reading."""
    baseline_name: str = ""
    """The simple model of the same data that a bound must beat to say anything."""
    without_likelihood: str = ""
    """Of a family that has none: the sentence that says so, and what to do instead."""

    @property
    def reads_beside(self) -> bool:
        """Whether an example comes with others, scans of other contrasts for example, which only the data config of the
        model's run can name."""
        return False

    @property
    def questions(self) -> tuple[str, ...]:
        """The names of what the model can be asked for; none of a model of p(x) alone."""
        return ()

    def fingerprint(self) -> str:
        """SHA-256 of all weights and buffers with their names: which model it is."""
        digest = hashlib.sha256()
        for name, value in sorted(self.state_dict().items()):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    @abstractmethod
    def vocabulary(self) -> dict[str, Any]:
        """What a state stands for, by the names of the constructor: models that differ in it speak of other things."""

    def prepare(self, data: Any) -> None:
        """Measure on the training data what the model needs to know of them before training; called once."""

    @abstractmethod
    def open_data(self, path: str, skip: bool = False) -> "LightningDataModule":
        """A data module that brings all of ``path``, as this model needs it, in its training part; with ``skip``,
        without the examples that the model cannot hold."""

    def open_conditional_data(self, path: str, skip: bool = False) -> "LightningDataModule":
        """The same with the examples' own values of ``questions``.

        Raises:
            InputError: the model has none.
        """
        raise InputError(f"a {type(self).__name__} without a condition has one likelihood only, p(x)")

    @abstractmethod
    def nll(
        self,
        batch: Any,
        method: str = "bound",
        steps: int | None = None,
        draws: int | Literal["exact"] | None = None,
        seed: int = 0,
        conditional: bool = False,
    ) -> Elbo:
        """-log p of every example, nats, term by term.

        Raises:
            InputError: the family has no likelihood, not by this method, or the arguments are out of range.
        """

    def baseline(self, batch: Any, seed: int = 0) -> Tensor | None:
        """[B] nats of ``baseline_name``, on the same data, the same degrees of freedom and, what is drawn of them, by
        the same seed as ``nll``; None without one."""
        return None

    def measures(self, batch: Any, seed: int = 0) -> dict[str, Tensor]:
        """Figures beside the likelihood, [B] each, by a name that holds the unit; none as a rule."""
        return {}

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
