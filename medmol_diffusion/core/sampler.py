"""The one sampling loop and the grids it runs on.

A grid is a vector of gammas; the loop visits its consecutive pairs (t, s). A rising grid is inversion.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from medmol_diffusion.core.denoiser import Denoiser, Prediction
from medmol_diffusion.core.noise import Randomness
from medmol_diffusion.core.schedule import Schedule
from medmol_diffusion.core.space import Space
from medmol_diffusion.core.stepper import Past, Stepper

GRIDS = ("time", "gamma")


def grid(schedule: Schedule, steps: int, kind: str = "time", start: float = 1.0, end: float = 0.0) -> Tensor:
    """[steps + 1] gammas from t = ``start`` to t = ``end``, uniform in t ("time") or in gamma ("gamma").

    Raises:
        ValueError: fewer than one step, or an unknown kind.
    """
    if steps < 1:
        raise ValueError(f"steps = {steps} must be at least 1")
    if kind not in GRIDS:
        raise ValueError(f"unknown grid '{kind}': choose one of {', '.join(GRIDS)}")
    if kind == "time":
        return schedule.gamma(torch.linspace(start, end, steps + 1, dtype=torch.float64))
    first, last = schedule.gamma(torch.tensor([start, end], dtype=torch.float64)).tolist()
    return torch.linspace(first, last, steps + 1, dtype=torch.float64)


def sample(
    denoiser: Denoiser,
    stepper: Stepper,
    gammas: Tensor,
    space: Space,
    z: Tensor,
    generator: Randomness,
    condition: Any = None,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Run ``stepper`` over the consecutive pairs of ``gammas`` from the state z at gammas[0]; returns z at gammas[-1].

    Args:
        denoiser: the model.
        stepper: one step.
        gammas: [steps + 1] grid.
        space: where z lives; also draws the fresh noise.
        z: [B, ...] the state at gammas[0].
        generator: source of the fresh noise.
        condition: passed on to the denoiser.
        progress: called with the number of steps done.
    """

    def predict(state: Tensor, gamma: Tensor) -> Prediction:
        return denoiser(state, gamma, space, condition)

    def noise() -> Tensor:
        return space.noise(like, generator)

    levels = gammas.to(z.device)[:, None].expand(-1, len(z))
    like = z
    past: Past | None = None
    for i in range(len(gammas) - 1):
        z, past = stepper(z, levels[i], levels[i + 1], predict, noise, past)
        if progress is not None:
            progress(i + 1)
    return z
