r"""Inpainting with a model that was never trained for it: replacement, and RePaint, round any stepper on any grid.

What is known of x is P x, P the orthogonal projection onto the vectors of the space that vanish outside the given
voxels or atoms (`Space.restrict`). Its noisy version P z = alpha P x + sigma P eps has a law that needs no model, and
z - P z is left to the sampler. Where P is a choice of coordinates that is the usual mask. On points of zero centre of
mass it is the given points about their own centre: 3 (n - 1) degrees of freedom, and the centre of the given points,
which depends on the others, stays where the sampler put it. This is the alignment of centres of mass of DiffSBDD
(Schneuing et al. 2024), and exact: the same as a mask in an orthonormal basis of the subspace.

Neither method samples p(x | P x) exactly. Replacement (Song et al. 2021, appendix I.2) lets every P z be drawn afresh,
so that the rest never gets to agree with it (Trippe et al. 2023, section 3). RePaint (Lugmayr et al. 2022) goes up and
down again, which is a Markov chain at each level whose bias falls with the noise level: many rounds of small steps at
the data end, and a gamma_0 far below the data's variance, lead to the true conditional.
"""

from collections.abc import Callable
from typing import Any

import torch

from medmol_diffusion.core.denoiser import Denoiser
from medmol_diffusion.core.elbo import diffuse
from medmol_diffusion.core.noise import Randomness
from medmol_diffusion.core.sampler import sample
from medmol_diffusion.core.schedule import log_alpha_squared, per_example, sigma
from medmol_diffusion.core.shapes import Grid, Mask, PerExample, State
from medmol_diffusion.core.space import Space
from medmol_diffusion.core.stepper import DrawNoise, Past, Predict, Stepper


def put_back(z: State, x: State, space: Space, known: Mask) -> State:
    """z with its known part taken from x: z + P (x - z)."""
    return z + space.restrict(x - z, known)


def renoise(z: State, gamma_s: PerExample, gamma_t: PerExample, eps: State) -> State:
    """z_t ~ q(z_t | z_s), gamma_t > gamma_s [B]: (alpha_t / alpha_s) z_s + sigma_t sqrt(1 - e^(gamma_s - gamma_t)) eps.

    Kingma et al. 2021, eq. 20.
    """
    shrink = torch.exp(0.5 * (log_alpha_squared(gamma_t) - log_alpha_squared(gamma_s)))
    fresh = sigma(gamma_t) * torch.sqrt(-torch.expm1(gamma_s - gamma_t))
    return per_example(shrink, z) * z + per_example(fresh, z) * eps


class Replacement(Stepper):
    """A step of another stepper, after which the known part is replaced by alpha_s P x + sigma_s P eps.

    Args:
        stepper: any.
        space: where states live.
        x: [B, ...] clean states, of which only the known part is read.
        known: bool, of the shape of a localised state.
    """

    inverts = False

    def __init__(self, stepper: Stepper, space: Space, x: State, known: Mask) -> None:
        self.stepper, self.space, self.x, self.known = stepper, space, x, known

    def __call__(
        self, z: State, gamma_t: PerExample, gamma_s: PerExample, predict: Predict, noise: DrawNoise, past: Past | None
    ) -> tuple[State, Past | None]:
        z_s, past = self.stepper(z, gamma_t, gamma_s, predict, noise, past)
        return put_back(z_s, diffuse(self.x, noise(), gamma_s), self.space, self.known), past


def inpaint(
    denoiser: Denoiser,
    stepper: Stepper,
    gammas: Grid,
    space: Space,
    x: State,
    known: Mask,
    generator: Randomness,
    resamples: int = 1,
    jump: int = 10,
    condition: Any = None,
    progress: Callable[[int], None] | None = None,
    start: State | None = None,
) -> State:
    """z at gammas[-1] whose known part is that of x, noised (Lugmayr et al. 2022, algorithm 1).

    The grid is cut into stretches of ``jump`` steps. Each is run ``resamples`` times; in between, the whole state is
    noised from its lower end back to its upper one. The known part of a decoded state is exact after `put_back`.

    Args:
        denoiser: the model.
        stepper: one step; what it remembers of earlier ones is forgotten at the end of a stretch.
        gammas: [steps + 1] falling grid.
        space: where x lives.
        x: [B, ...] clean states, finite, of which only the known part is read.
        known: bool, of the shape of a localised state: true at the voxels or atoms that are given.
        generator: source of the noise.
        resamples: how often every stretch is run; 1 is plain replacement, in a single stretch.
        jump: steps of a stretch.
        condition: passed on to the denoiser.
        progress: called with the number of steps done, of steps * resamples.
        start: [B, ...] clean states whose rest, noised to gammas[0], is begun from; None begins from noise alone, which
            is right where gammas[0] leaves nothing else.

    Raises:
        ValueError: resamples or jump is below 1, or known is not boolean.
    """
    if resamples < 1:
        raise ValueError(f"resamples = {resamples} must be at least 1: how often a stretch of the grid is run")
    if jump < 1:
        raise ValueError(f"jump = {jump} must be at least 1: the steps between two resamplings")
    if known.dtype != torch.bool:
        raise ValueError(f"known must be boolean, not {known.dtype}: true at the voxels or atoms that are given")
    steps = len(gammas) - 1
    stride = steps if resamples == 1 else jump
    levels = gammas.to(x.device)[:, None].expand(-1, len(x))
    held = Replacement(stepper, space, x, known)
    z = space.noise(x, generator)
    if start is not None:
        z = diffuse(start, z, levels[0])
    z = put_back(z, diffuse(x, space.noise(x, generator), levels[0]), space, known)
    done = 0
    for first in range(0, steps, stride):
        last = min(first + stride, steps)
        for repeat in range(resamples):
            if repeat:
                z = renoise(z, levels[last], levels[first], space.noise(z, generator))
            z = sample(denoiser, held, gammas[first : last + 1], space, z, generator, condition)
            done += last - first
            if progress is not None:
                progress(done)
    return z
