"""How a model is sampled where nothing is said: the settings that the figures of its card were made with."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from medmol_diffusion.core import DDIM, GRIDS, DPMSolver3M, Stepper, Tempered, stepper_named
from medmol_diffusion.errors import InputError
from medmol_diffusion.training.sampling import SamplingOptions

WITH_ETA: dict[str, Callable[[float], Stepper]] = {"ddim": DDIM, "dpm++3m-sde": DPMSolver3M}
"""The samplers that are told how much fresh noise to draw."""


@dataclass(frozen=True)
class Recipe:
    """Steps, sampler and grid.

    Attributes:
        steps: transitions of the sampler.
        sampler: a name in core.STEPPERS.
        spacing: of the grid, a name in core.GRIDS.
        eta: how much fresh noise, of the samplers WITH_ETA; None for their own.
        noise_scale: factor on the fresh noise (core.Tempered); None for 1.
    """

    steps: int
    sampler: str
    spacing: str = "time"
    eta: float | None = None
    noise_scale: float | None = None

    @classmethod
    def of(cls, given: dict[str, Any] | None, steps: int, sampler: str) -> Self:
        """What a config says, and the domain's own steps and sampler where it does not.

        Raises:
            InputError: a name that is none of the attributes, or a value that the sampler cannot have.
        """
        given = given or {}
        names = [field.name for field in fields(cls)]
        if unknown := [name for name in given if name not in names]:
            raise InputError(f"sampling.{unknown[0]} is unknown: it has {', '.join(names)}")
        arguments: dict[str, Any] = {"steps": steps, "sampler": sampler} | given
        recipe = cls(**arguments)
        if not isinstance(recipe.steps, int) or recipe.steps < 1 or recipe.spacing not in GRIDS:
            raise InputError(
                f"sampling.steps = {recipe.steps} must be 1 or more, and spacing = {recipe.spacing} one of "
                f"{', '.join(GRIDS)}"
            )
        recipe.stepper()
        return recipe

    def instead(self, **given: Any) -> Self:
        """With what is given in the place of what is not None. Another sampler has its own eta and noise."""
        given = {name: value for name, value in given.items() if value is not None}
        if given.get("sampler", self.sampler) != self.sampler:
            given = {"eta": None, "noise_scale": None} | given
        return replace(self, **given)

    def stepper(self) -> Stepper:
        """The sampler itself.

        Raises:
            InputError: an unknown sampler, or an eta or noise scale that it has no use for or cannot have.
        """
        if self.eta is not None and self.sampler not in WITH_ETA:
            raise InputError(f"eta = {self.eta:g} is for {' and '.join(WITH_ETA)}, not for the sampler {self.sampler}")
        try:
            stepper = stepper_named(self.sampler) if self.eta is None else WITH_ETA[self.sampler](self.eta)
            return stepper if self.noise_scale is None else Tempered(stepper, self.noise_scale)
        except ValueError as error:
            raise InputError(f"sampler {self.sampler}: {error}") from error

    def options(self) -> SamplingOptions:
        """Keyword arguments of the generating methods."""
        return {"steps": self.steps, "sampler": self.stepper(), "spacing": self.spacing}
