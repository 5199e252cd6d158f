"""The one sampling loop and the grids it runs on.

A grid is a vector of gammas; the loop visits its consecutive pairs (t, s). A rising grid is inversion.
"""

import math
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from medmol_diffusion.core.denoiser import Denoiser, Prediction, check_zero_snr
from medmol_diffusion.core.noise import Randomness
from medmol_diffusion.core.schedule import Schedule, Tabulated
from medmol_diffusion.core.shapes import Grid, PerExample, State
from medmol_diffusion.core.space import Space
from medmol_diffusion.core.stepper import Past, Stepper

GRIDS = ("time", "trailing", "gamma", "karras")
KARRAS_RHO = 7.0
# Noise is drawn this many steps ahead, fewer where the states have more numbers than this.
_AHEAD, _AHEAD_NUMBERS = 16, 2**18


def grid(schedule: Schedule, steps: int, kind: str = "time", start: float = 1.0, end: float = 0.0) -> Grid:
    """[steps + 1] gammas from t = ``start`` to t = ``end``; with start < end, those of inversion.

    "time": uniform in t. "trailing": the same, but on the levels of a discrete-time model with T transitions, t_i =
    round(T (1 - i / steps)) / T (Lin et al. 2024, section 3.3): the first call is at pure noise, the last step goes to
    gamma_0. On a continuous schedule every t is a level, and it is "time". "gamma": uniform in gamma. "karras": uniform
    in (sigma / alpha)^(1 / rho) = e^(gamma / (2 rho)), rho = 7 (Karras et al. 2022, eq. 5).

    Raises:
        ValueError: fewer than one step, a time outside [0, 1], an unknown kind, more steps than a discrete-time model
            has levels, or a grid in gamma from or to an infinite one.
    """
    if steps < 1:
        raise ValueError(f"steps = {steps} must be at least 1")
    if not (0 <= start <= 1 and 0 <= end <= 1):
        raise ValueError(f"start = {start} and end = {end} are times: both must lie in [0, 1]")
    if kind not in GRIDS:
        raise ValueError(f"unknown grid '{kind}': choose one of {', '.join(GRIDS)}")
    if kind in ("gamma", "karras"):
        first, last = schedule.gamma(torch.tensor([start, end], dtype=torch.float64)).tolist()
        if not (math.isfinite(first) and math.isfinite(last)):
            raise ValueError(f"a '{kind}' grid cannot run from gamma = {first} to {last}: choose time or trailing")
        if kind == "gamma":
            return torch.linspace(first, last, steps + 1, dtype=torch.float64)
        scale = 2 * KARRAS_RHO
        roots = torch.linspace(math.exp(first / scale), math.exp(last / scale), steps + 1, dtype=torch.float64)
        return scale * roots.log()
    times = torch.linspace(start, end, steps + 1, dtype=torch.float64)
    if kind == "trailing" and isinstance(schedule, Tabulated):
        times = torch.round(schedule.transitions * times) / schedule.transitions
        if not times.diff().all():
            raise ValueError(
                f"steps = {steps} must be at most {schedule.transitions}, the levels of the model: choose fewer"
            )
    return schedule.gamma(times)


def sample(
    denoiser: Denoiser,
    stepper: Stepper,
    gammas: Grid,
    space: Space,
    z: State,
    generator: Randomness,
    condition: Any = None,
    progress: Callable[[int], None] | None = None,
) -> State:
    """Run ``stepper`` over the consecutive pairs of ``gammas`` from the state z at gammas[0]; returns z at gammas[-1].

    Nothing here or in a stepper waits for the device. A generator on the CPU draws there, and its noise is copied.
    Streams are asked for the noise of several steps at once; how many changes no sample.

    Args:
        denoiser: the model.
        stepper: one step.
        gammas: [steps + 1] grid, on the CPU.
        space: where z lives; also draws the fresh noise.
        z: [B, ...] the state at gammas[0].
        generator: source of the fresh noise.
        condition: passed on to the denoiser.
        progress: called with the number of steps done.

    Raises:
        ValueError: the grid starts at gamma = inf and the denoiser's x_hat divides by alpha, or it rises and the
            stepper draws fresh noise.
    """

    def predict(state: State, gamma: PerExample) -> Prediction:
        return denoiser(state, gamma, space, condition)

    def noise() -> State:
        if not drawn:
            drawn.extend(space.noises(like, generator, min(ahead, steps - done)))
        return drawn.popleft()

    ends = gammas.tolist()
    check_zero_snr(denoiser, max(ends))
    if ends[0] < ends[-1] and not stepper.inverts:
        raise ValueError(f"{type(stepper).__name__} draws fresh noise and cannot invert: take ddim, heun or unipc")
    levels = gammas.to(z.device)[:, None].expand(-1, len(z))
    steps, ahead = len(gammas) - 1, max(1, min(_AHEAD, _AHEAD_NUMBERS // z.numel()))
    like, drawn = z, deque[Tensor]()
    past: Past | None = None
    for done in range(steps):
        z, past = stepper(z, levels[done], levels[done + 1], predict, noise, past)
        if progress is not None:
            progress(done + 1)
    return z
