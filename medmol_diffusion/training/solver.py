"""What sampling, varying and inpainting share in both domains: a denoiser, a sampler and the levels it visits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor

from medmol_diffusion.core import (
    Denoiser,
    Randomness,
    Schedule,
    Space,
    Stepper,
    edit,
    grid,
    inpaint,
    put_back,
    sample,
    stepper_named,
)
from medmol_diffusion.errors import InputError

Guide = Callable[[Denoiser], Denoiser]
"""Wraps a model's denoiser, for example in core.Autoguidance or core.Classifier."""


@dataclass(frozen=True)
class Solver:
    """From noise, or from something noised, to x_hat. Every method ends with one more network call, which reads x_hat
    off the state at gammas[-1]; ``condition`` is passed on to the denoiser."""

    denoiser: Denoiser
    stepper: Stepper
    gammas: Tensor

    @classmethod
    def named(
        cls,
        denoiser: Denoiser,
        schedule: Schedule,
        steps: int,
        sampler: str | Stepper,
        spacing: str,
        guide: Guide | None = None,
        strength: float = 1.0,
    ) -> Self:
        """The solver of these names, from t = ``strength`` to the data.

        Raises:
            InputError: an unknown sampler or spacing, fewer than one step, or a strength outside (0, 1].
        """
        if not 0 < strength <= 1:
            raise InputError(f"strength = {strength} must lie in (0, 1]: near 0 little changes, at 1 everything does")
        try:
            stepper = sampler if isinstance(sampler, Stepper) else stepper_named(sampler)
            gammas = grid(schedule, steps, spacing, start=strength)
        except ValueError as error:
            raise InputError(str(error)) from error
        return cls(denoiser if guide is None else guide(denoiser), stepper, gammas)

    def sample(self, space: Space, like: Tensor, streams: Randomness, condition: Any = None) -> Tensor:
        """x_hat of pure noise; ``like`` has the dtype and the device of a state."""
        return self.denoise(space, space.noise(like, streams), streams, condition)

    def denoise(self, space: Space, z: Tensor, streams: Randomness, condition: Any = None) -> Tensor:
        """x_hat of a state at gammas[0]."""
        z = sample(self.denoiser, self.stepper, self.gammas, space, z, streams, condition)
        return self.x_hat(z, space, condition)

    def vary(self, space: Space, x: Tensor, streams: Randomness, condition: Any = None) -> Tensor:
        """x_hat of x noised to gammas[0] (core.edit)."""
        z = edit(self.denoiser, self.stepper, self.gammas, space, x, streams, condition)
        return self.x_hat(z, space, condition)

    def inpaint(
        self,
        space: Space,
        x: Tensor,
        known: Tensor,
        streams: Randomness,
        resamples: int,
        jump: int,
        condition: Any = None,
        start: Tensor | None = None,
    ) -> Tensor:
        """x_hat whose known part is that of x, the rest from noise, or from ``start`` noised (core.inpaint).

        Raises:
            InputError: resamples or jump is below 1.
        """
        if min(resamples, jump) < 1:
            raise InputError(f"resamples = {resamples} and jump = {jump} must both be at least 1")
        how = {"condition": condition, "start": start}
        z = inpaint(self.denoiser, self.stepper, self.gammas, space, x, known, streams, resamples, jump, **how)
        return put_back(self.x_hat(z, space, condition), x, space, known)

    def x_hat(self, z: Tensor, space: Space, condition: Any = None) -> Tensor:
        """E[x | z] at gammas[-1]."""
        return self.denoiser(z, self.gammas[-1].to(z.device).expand(len(z)), space, condition).x
