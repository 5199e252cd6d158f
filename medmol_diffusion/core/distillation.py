r"""Few-step models: a student learns to do in one DDIM step what its teacher does in several (Salimans & Ho 2022).

Along levels gamma_0 > gamma_1 > ... > gamma_k, deterministic DDIM is Euler's rule on the probability flow, written
twice: $z_i / \sigma_i - z_0 / \sigma_0 = \sum \hat x_j \Delta(\alpha / \sigma)_j$ and
$z_i / \alpha_i - z_0 / \alpha_0 = \sum \hat\epsilon_j \Delta(\sigma / \alpha)_j$. One step over the whole stretch that
lands on the same z_k therefore needs the averages

$x = \sum_j w_j \hat x_j,\ w_j \propto \Delta e^{-\gamma_j / 2}, \qquad
\epsilon = \sum_j v_j \hat\epsilon_j,\ v_j \propto \Delta e^{\gamma_j / 2}$

of the teacher's predictions on the way. They are convex, so nothing is divided by alpha, sigma or a short step, and the
target of a category is itself a distribution; and $z_0 = \alpha_0 x + \sigma_0 \epsilon$ holds. With k = 2 this is the
target of Salimans & Ho 2022, algorithm 2, $x = (z_2 - (\sigma_2 / \sigma_0) z_0) / (\alpha_2 - (\sigma_2 / \sigma_0)
\alpha_0)$.
"""

from typing import Any

import torch

from medmol_diffusion.core.denoiser import Denoiser, Prediction
from medmol_diffusion.core.elbo import diffuse
from medmol_diffusion.core.noise import Randomness, stratified_uniforms
from medmol_diffusion.core.objective import error_per_dim
from medmol_diffusion.core.sampler import grid
from medmol_diffusion.core.schedule import Schedule, alpha, per_example, sigma
from medmol_diffusion.core.shapes import Path, PerExample, State, Stretches
from medmol_diffusion.core.space import Space
from medmol_diffusion.core.weighting import Native, Weighting


def ddim_weights(gammas: Path) -> tuple[Stretches, Stretches]:
    r"""(w, v), [k, B] float64 each, of the averages of x_hat and of eps_hat over a falling path of levels [k + 1, B].

    $w_j = (e^{-\gamma_{j+1} / 2} - e^{-\gamma_j / 2}) / (e^{-\gamma_k / 2} - e^{-\gamma_0 / 2})$ and
    $v_j = (e^{\gamma_j / 2} - e^{\gamma_{j+1} / 2}) / (e^{\gamma_0 / 2} - e^{\gamma_k / 2})$, by expm1. Each is
    positive and sums to one. At gamma_0 = inf, v is all on the first step.
    """
    falls = gammas.diff(dim=0)
    step, whole = -torch.expm1(falls / 2), -torch.expm1((gammas[-1:] - gammas[:1]) / 2)
    since = torch.cat([torch.zeros_like(falls[:1]), falls[:-1]]).cumsum(0)  # gamma_j - gamma_0
    return torch.exp((gammas[-1:] - gammas[1:]) / 2) * step / whole, torch.exp(since / 2) * step / whole


@torch.no_grad()
def ddim_target(teacher: Denoiser, space: Space, z: State, gammas: Path, condition: Any = None) -> tuple[State, State]:
    """(x, eps) for which one DDIM step from z lands where the teacher's DDIM steps over ``gammas`` land.

    Args:
        teacher: one call for each of the k steps; no gradient.
        space: where z lives.
        z: [B, ...] the state at gammas[0].
        gammas: [k + 1, B] float64, falling: two steps are the levels t, m, s.
        condition: passed on to the teacher.
    """
    x, eps = torch.zeros_like(z), torch.zeros_like(z)
    for gamma, after, w, v in zip(gammas, gammas[1:], *ddim_weights(gammas), strict=False):
        prediction = teacher(z, gamma, space, condition)
        x = x + per_example(w, z) * prediction.x
        eps = eps + per_example(v, z) * prediction.eps
        z = per_example(alpha(after), z) * prediction.x + per_example(sigma(after), z) * prediction.eps
    return x, eps


def draw_transition(
    student: Denoiser,
    teacher: Denoiser,
    schedule: Schedule,
    steps: int,
    substeps: int,
    space: Space,
    x: State,
    generator: Randomness,
    condition: Any = None,
) -> tuple[Prediction, State, State]:
    """The student's prediction at the head of one of its transitions per example, and what it should be.

    Args:
        student: what learns; it is asked at gamma_t alone.
        teacher: what it learns from.
        schedule: its grid, uniform in t, is the student's at ``steps`` and the teacher's at ``steps * substeps``.
        steps: N, the transitions of the student's sampler; each is drawn as often as any other (stratified).
        substeps: k, the teacher's steps to one of the student's.
        space: where x lives.
        x: [B, ...] clean states, noised to the head of the transition.
        generator: of the transitions and of the noise.
        condition: passed on to both.

    Returns:
        (prediction, x_target, eps_target).

    Raises:
        ValueError: steps or substeps is below 1.
    """
    if substeps < 1:
        raise ValueError(f"substeps = {substeps} must be at least 1: the teacher's steps to one of the student's")
    levels = grid(schedule, steps * substeps).detach().to(x.device)  # a learned schedule stays as it is
    u = stratified_uniforms(len(x), 1, generator)[0].to(x.device)
    first = (u * steps).long().clamp(max=steps - 1) * substeps
    path = levels[first + torch.arange(substeps + 1, device=x.device)[:, None]]
    z = diffuse(x, space.noise(x, generator), path[0])
    target = ddim_target(teacher, space, z, path, condition)
    return student(z, path[0], space, condition), *target


def distillation_loss(
    student: Denoiser,
    teacher: Denoiser,
    schedule: Schedule,
    steps: int,
    space: Space,
    x: State,
    generator: Randomness,
    weighting: Weighting | None = None,
    condition: Any = None,
    substeps: int = 2,
) -> PerExample:
    """[B] squared error per degree of freedom of the student's output against ``ddim_target``.

    The weighting is Native unless given. A sampler of few steps begins at pure noise and cannot mend there later, so
    the weight on x_hat must not vanish with the SNR, as that of Simple does (Salimans & Ho 2022, section 4). Native is
    their SNR + 1 for V, and SNR + 1 / s^2 for Preconditioned on data of standard deviation s; for X it is constant. A
    student that predicts Eps says nothing of x at pure noise and is not for few steps.

    Args: as for ``draw_transition``.
    """
    prediction, x_target, eps_target = draw_transition(
        student, teacher, schedule, steps, substeps, space, x, generator, condition
    )
    return error_per_dim(prediction, x_target, eps_target, weighting or Native())
