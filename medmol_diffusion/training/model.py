"""What training and the command line see of a model, whatever its domain."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from medmol_diffusion.core import (
    Autoguidance,
    Denoiser,
    Elbo,
    FixedGrid,
    Native,
    Prediction,
    Schedule,
    Space,
    Streams,
    Weighting,
    draw_transition,
    elbo,
    iwae,
    probability_flow_nll,
)
from medmol_diffusion.core.guidance import Interval
from medmol_diffusion.core.noise import Randomness
from medmol_diffusion.core.objective import error_per_dim
from medmol_diffusion.core.observation import Observation
from medmol_diffusion.errors import InputError
from medmol_diffusion.training.generative import GenerativeModel
from medmol_diffusion.training.recipe import Recipe

METHODS = ("bound", "iwae", "flow")
"""Ways to take -log p: ``elbo``, ``iwae`` and ``probability_flow_nll`` of the core."""
IWAE_TRANSITIONS = 1000
"""T of the importance-weighted bound where the model's own bound is in continuous time."""
FLOW_STEPS = 64
"""Fourth-order steps of the probability flow, on a fixed grid: the same for every example and every rank."""


@dataclass(frozen=True)
class Observed:
    """A batch as a likelihood reads it.

    Attributes:
        space: where the states live.
        x: [B, ...] the clean states.
        observation: p(data | z_0).
        data: what ``observation`` reads.
        streams: the examples' random numbers, fixed by a seed and their places in the whole set; where the state is
            drawn itself, that has been done.
        terms: the domain's own terms, nats.
        condition: what the examples are known to be, for a model of p(x | condition); None for p(x).
        dim: [B] degrees of freedom of the data, where the state has others.
    """

    space: Space
    x: Tensor
    observation: Observation
    data: Any
    streams: Streams
    terms: dict[str, Tensor]
    condition: Any = None
    dim: Tensor | None = None

    def complete(self, found: Elbo, **settings: float) -> Elbo:
        """What the core says of the state, as what it says of the data."""
        found = found.with_terms(**self.terms)
        return replace(found, settings=found.settings | settings, dim=found.dim if self.dim is None else self.dim)


class DiffusionModel(GenerativeModel):
    """A diffusion model of one domain, composed of the core's parts."""

    default_transitions: int = 0
    """T of the bound that is comparable in this domain; 0 for continuous time."""

    schedule: Schedule
    recipe: Recipe
    """How it is sampled where nothing is said."""

    @property
    @abstractmethod
    def denoiser(self) -> Denoiser:
        """The network and the reading of its output."""

    @abstractmethod
    def training_example(self, batch: Any, generator: Randomness) -> tuple[Space, Tensor, Any]:
        """(space, clean state x [B, ...], what the network is told of the batch in training: None without a
        condition). What is left to chance, which questions are left out for example, is drawn by ``generator``."""

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
        the weighting's offset. Args: as for core.objective.weighted_error."""
        return error_per_dim(prediction, x, eps, weighting, gamma_derivative)

    def distillation_loss(
        self, batch: Any, teacher: "DiffusionModel", steps: int, substeps: int, generator: Randomness
    ) -> Tensor:
        """[B] error against what one DDIM step must say to land where ``substeps`` steps of the teacher land.

        The model learns the ``steps`` transitions of its own sampler (core.distillation_loss, Salimans & Ho 2022), with
        the weight that does not vanish at pure noise.
        """
        space, x, condition = self.training_example(batch, generator)
        prediction, x_target, eps_target = draw_transition(
            self.denoiser, teacher.denoiser, self.schedule, steps, substeps, space, x, generator, condition
        )
        return self.error(prediction, x_target, eps_target, Native())

    def learn_from(self, teacher: GenerativeModel, name: str) -> None:
        """Begin as ``teacher``, called ``name``: its weights, and what was measured on its training data.

        Raises:
            InputError: the teacher is a model of another kind, of other things, or of another architecture.
        """
        self._check_kin(teacher, f"the teacher {name}")
        try:
            self.load_state_dict(teacher.state_dict())
        except RuntimeError as error:
            raise InputError(
                f"the teacher {name} has another architecture than the model: copy model.model from its config.yaml "
                f"({str(error).splitlines()[-1].strip()})"
            ) from error

    def start_from(self, other: GenerativeModel, name: str) -> None:
        """Begin with the weights of ``other``, called ``name``, to be trained on. What the model has and ``other`` has
        not, the layers of a condition for example, stays as it is.

        Raises:
            InputError: ``other`` is a model of another kind, of other things, or its weights have no place here.
        """
        self._check_kin(other, f"model.start {name}", but=("questions",))
        own, weights = self.state_dict(), self.fitted_to(other.state_dict())
        if lost := sorted(key for key, value in weights.items() if key not in own or own[key].shape != value.shape):
            raise InputError(
                f"model.start {name} has weights that fit nowhere in the model, {lost[0]} for one: copy model.model "
                "from its config.yaml, and add to it only"
            )
        self.load_state_dict(own | weights)

    def fitted_to(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Weights of a model that is told less than this one, with zeros for what it is not told."""
        return weights

    def away_from(
        self, worse: "DiffusionModel", scale: float, interval: Interval | None = None, name: str = "the worse model"
    ) -> Callable[[Denoiser], Denoiser]:
        """A guide for ``sample`` that moves the samples away from what ``worse`` would make (core.Autoguidance).

        Args:
            worse: a model of the same data, smaller or less trained; ``name`` is what errors call it.
            scale: w; 1 is the model alone.
            interval: levels (gamma_low, gamma_high) inside which it holds.

        Raises:
            InputError: ``worse`` is a model of another kind or of other things.
        """
        self._check_kin(worse, name)
        return lambda denoiser: Autoguidance(denoiser, worse.denoiser, scale, interval)

    def _check_kin(self, other: GenerativeModel, name: str, but: tuple[str, ...] = ()) -> None:
        if type(other) is not type(self):
            raise InputError(f"{name} is a {type(other).__name__}, not a {type(self).__name__}")
        for field, value in self.vocabulary.items():
            if field not in but and (theirs := other.vocabulary[field]) != value:
                raise InputError(f"{name} has {field} {theirs}, the model {value}: give the model the same")

    @abstractmethod
    def observed(self, batch: Any, seed: int = 0) -> Observed:
        """What a likelihood of the batch needs to know; ``seed`` with each example's index fixes its noise.

        Raises:
            InputError: an example that the model gives no likelihood.
        """

    def observed_with_condition(self, batch: Any, seed: int = 0) -> Observed:
        """The same of p(x | condition), the condition being the examples' own values of ``questions``.

        Raises:
            InputError: the model takes no condition.
        """
        raise InputError(f"a {type(self).__name__} without a condition has one likelihood only, p(x)")

    @torch.no_grad()
    def elbo(
        self,
        batch: Any,
        transitions: int | None = None,
        draws: int | None = 1,
        seed: int = 0,
        conditional: bool = False,
    ) -> Elbo:
        """The bound on -log p of every example, nats.

        Args:
            batch: examples.
            transitions: T of the discrete-time bound; 0 for the continuous one; ``default_transitions`` when None.
            draws: noise draws per example; None for the exact sum over T.
            seed: with each example's index, fixes its noise.
            conditional: of p(x | the example's own values of ``questions``) instead of p(x).

        Raises:
            InputError: an example that the model gives no likelihood, an exact sum in continuous time, or a
                conditional one of a model that takes no condition.
        """
        steps = self.default_transitions if transitions is None else transitions
        if draws is None and not steps:
            raise InputError("the exact sum is over T transitions: give steps, 1000 for example")
        seen = self._seen(batch, conditional, seed)
        found = elbo(
            self.denoiser,
            self.schedule,
            seen.space,
            seen.x,
            seen.observation,
            seen.data,
            seen.streams,
            steps,
            draws,
            seen.condition,
        )
        return seen.complete(found, exact=float(draws is None), conditional=float(conditional))

    @torch.no_grad()
    def nll(
        self,
        batch: Any,
        method: str = "bound",
        steps: int | None = None,
        draws: int | Literal["exact"] | None = None,
        seed: int = 0,
        conditional: bool = False,
    ) -> Elbo:
        """-log p of every example, nats, by one of METHODS.

        "bound" is ``elbo``. "iwae" is the importance-weighted bound of the reverse process over ``draws`` trajectories.
        "flow" is the probability flow's own model, a fixed grid and one z_0 ~ q(z_0 | x) and one Hutchinson probe for
        each of ``draws``: no bound on what the others bound.

        Args:
            batch: examples.
            method: "bound", "iwae" or "flow".
            steps: T of the bounds, steps of the flow; default_transitions (IWAE_TRANSITIONS for an iwae of a model in
                continuous time) or FLOW_STEPS when None.
            draws: per example; ``default_draws`` when None; "exact" for the bound's sum over all T.
            seed: with each example's index, fixes its noise.
            conditional: as for ``elbo``.

        Raises:
            InputError: an unknown method, a count out of range, or what ``elbo`` raises.
        """
        if method not in METHODS:
            raise InputError(f"unknown method '{method}': choose one of {', '.join(METHODS)}")
        if draws == "exact":
            if method != "bound":
                raise InputError(f"the exact sum is the bound's: {method} needs a number of draws")
            return self.elbo(batch, steps, None, seed, conditional)
        draws = self.default_draws if draws is None else draws
        least = 0 if method == "bound" else 1
        if draws < 1 or (steps is not None and steps < least):
            raise InputError(
                f"{method} with steps = {steps} and draws = {draws}: give at least {least} step(s) and 1 draw"
            )
        if method == "bound":
            return self.elbo(batch, steps, draws, seed, conditional)
        seen = self._seen(batch, conditional, seed)
        place = (self.denoiser, self.schedule, seen.space, seen.x, seen.observation, seen.data)
        if method == "iwae":
            transitions = steps or self.default_transitions or IWAE_TRANSITIONS
            found = iwae(*place, seen.streams, transitions, draws, seen.condition)
        else:
            solver = FixedGrid(steps or FLOW_STEPS)
            found = probability_flow_nll(*place, seen.streams, draws, probes=1, solver=solver, condition=seen.condition)
        return seen.complete(found, conditional=float(conditional))

    def _seen(self, batch: Any, conditional: bool, seed: int) -> Observed:
        return self.observed_with_condition(batch, seed) if conditional else self.observed(batch, seed)
