"""Image to image from partial noise."""

from collections.abc import Callable
from typing import Any

from medmol_diffusion.core.denoiser import Denoiser
from medmol_diffusion.core.elbo import diffuse
from medmol_diffusion.core.noise import Randomness
from medmol_diffusion.core.sampler import sample
from medmol_diffusion.core.shapes import Grid, State
from medmol_diffusion.core.space import Space
from medmol_diffusion.core.stepper import Stepper


def edit(
    denoiser: Denoiser,
    stepper: Stepper,
    gammas: Grid,
    space: Space,
    x: State,
    generator: Randomness,
    condition: Any = None,
    progress: Callable[[int], None] | None = None,
) -> State:
    """Noise x to gammas[0] and sample from there, z at gammas[-1] (SDEdit, Meng et al. 2022, algorithm 1).

    What of x outlives the noise is kept: its large features at low gammas[0], nothing at the noise end of the schedule.
    With the exact denoiser and a sampler that is exact, x ~ p(x) gives z ~ p(z) at gammas[-1] whatever gammas[0] is.

    Args:
        denoiser: the model.
        stepper: one step.
        gammas: [steps + 1] grid, the part of the schedule to be run; a single gamma noises only.
        space: where x lives.
        x: [B, ...] clean states.
        generator: source of the noise.
        condition: passed on to the denoiser.
        progress: called with the number of steps done.
    """
    z = diffuse(x, space.noise(x, generator), gammas[0].to(x.device).expand(len(x)))
    return sample(denoiser, stepper, gammas, space, z, generator, condition, progress)
