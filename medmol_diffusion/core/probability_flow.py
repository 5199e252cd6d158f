"""-log p by the probability flow: the deterministic twin of the reverse process, and its change of volume.

The flow that carries the marginals of z is d(z / alpha) = eps_hat d(sigma / alpha). In gamma itself,

    dz/dgamma = f = (sigma / 2)(eps_hat - sigma z),   div f = (sigma / 2)(tr d eps_hat / dz - sigma dim),

which divides by nothing, and whose Jacobian has eigenvalues in [-1/2, 1/2] whatever Gaussian the data are: gamma is the
variable to integrate in, with steps of equal length. Along the flow d log p(z) / dgamma = -div f, on the subspace.
Sources: Song et al. 2021, Score-Based Generative Modeling through SDEs, eqs. 13, 39; Chen et al. 2018, theorem 1.
"""

import math
from typing import Any

import torch
from torch import Tensor

from medmol_diffusion.core.denoiser import Denoiser
from medmol_diffusion.core.elbo import Elbo, diffuse
from medmol_diffusion.core.noise import Randomness
from medmol_diffusion.core.observation import Observation
from medmol_diffusion.core.ode import FixedGrid, Solver
from medmol_diffusion.core.schedule import Schedule, log_sigma_squared, per_example, sigma
from medmol_diffusion.core.shapes import PerExample, PerProbe, Probes, State
from medmol_diffusion.core.space import Space

PROBES = ("rademacher", "gaussian")
DATA_ENDS = ("bound", "z")
LOG_2_PI = math.log(2 * math.pi)


def draw_probes(space: Space, like: State, count: int, kind: str, generator: Randomness) -> Probes:
    """[count, B, ...] probes v on the space with E[v v^T] its projection, so that E[v^T J v] is the trace there.

    "rademacher" are random signs, "gaussian" is noise (Hutchinson 1990); both masked and projected.

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in PROBES:
        raise ValueError(f"unknown probe '{kind}': choose one of {', '.join(PROBES)}")
    one = space.signs if kind == "rademacher" else space.noise
    return torch.stack([one(like, generator) for _ in range(count)])


def flow(
    denoiser: Denoiser,
    space: Space,
    z: State,
    start: PerExample,
    end: PerExample,
    solver: Solver,
    probes: Probes | None = None,
    condition: Any = None,
) -> tuple[State, PerProbe]:
    """Carry z from gamma = ``start`` to gamma = ``end``: (z there, [K, B] integral of div f dgamma, one row per probe).

    Then log p_start(z_start) = log p_end(z_end) + the integral. Both are integrated together in float64; the denoiser
    sees z in its own type. The result can be differentiated wherever gradients are enabled.

    Args:
        denoiser: the model.
        space: where z lives.
        z: [B, ...] the state at ``start``.
        start, end: [B] float64.
        solver: of the equation.
        probes: [K, B, ...] probes, the same all along the way; None takes the exact trace (K = 1), with one
            vector-Jacobian product for each element of the state.
        condition: passed on to the denoiser.
    """
    shape, size = z.shape, z[0].numel()
    count = 1 if probes is None else len(probes)
    differentiable = torch.is_grad_enabled()

    def field(gamma: PerExample, y: Tensor) -> Tensor:
        state = y[:, :size].reshape(shape)
        if not state.requires_grad:
            state = state.detach()
        b = per_example(sigma(gamma), state)
        with torch.enable_grad():
            state.requires_grad_()
            eps = denoiser(state.to(z.dtype), gamma, space, condition).eps
            velocity = 0.5 * b * (eps.to(state) - b * state)

        def product(v: Tensor) -> Tensor:
            """[B] v^T J v."""
            (back,) = torch.autograd.grad(velocity, state, v, retain_graph=True, create_graph=differentiable)
            return space.sum(v * back)

        if probes is None:
            divergence = torch.zeros(1, len(z), dtype=state.dtype, device=state.device)
            for i in range(size):
                unit = torch.zeros(len(z), size, dtype=state.dtype, device=state.device)
                unit[:, i] = 1
                divergence = divergence + product(space.project(unit.reshape(shape)))
        else:
            # The linear part of f has a known trace: what a probe says of it is replaced by that.
            known = torch.stack([space.squared_norm(v) for v in probes.to(state)]) - space.dim()
            divergence = torch.stack([product(v) for v in probes.to(state)])
            divergence = divergence + 0.5 * sigma(gamma).square() * known
        rates = torch.cat([velocity.flatten(1), divergence.T], 1)
        return rates if differentiable else rates.detach()

    y = torch.cat([z.double().flatten(1), torch.zeros(len(z), count, dtype=torch.float64, device=z.device)], 1)
    y = solver(field, y, start, end)
    return y[:, :size].reshape(shape), y[:, size:].T


def probability_flow_nll(
    denoiser: Denoiser,
    schedule: Schedule,
    space: Space,
    x: State,
    observation: Observation | None = None,
    data: Any = None,
    generator: Randomness | None = None,
    draws: int = 1,
    probes: int = 0,
    probe: str = "rademacher",
    data_end: str = "bound",
    solver: Solver | None = None,
    condition: Any = None,
) -> Elbo:
    """-log p of the model whose density is N(0, I) at gamma_1, carried to gamma_0 by the probability flow.

    With data_end = "z" it is -log p(z_0) at z_0 = x, a density of the noisy state: prior = -log N(z_1; 0, I) and
    divergence = -(integral of div f). With data_end = "bound" it is

        E_q(z_0 | x) [-log p(z_0) + log q(z_0 | x) - log p(data | z_0)],

    whose last two terms are ``encoder`` and ``reconstruction``: an upper bound on -log p(data) of *that* model, for
    discrete data too, as exact as its solver. It is another model than the reverse process of ``elbo``, equal to it
    only for the exact denoiser. Probes leave it unbiased.

    Args:
        denoiser: the model.
        schedule: gives gamma_0 and gamma_1; the path between them does not matter.
        space: where x lives.
        x: [B, ...] the clean state; with data_end = "z" the state whose density at gamma_0 is asked for.
        observation, data: p(data | z_0), and what it reads; for data_end = "bound".
        generator: draws z_0 and the probes; not needed for the exact trace of data_end = "z".
        draws: independent draws of z_0 and of the probes.
        probes: K of each draw; 0 takes the exact trace.
        probe: "rademacher" or "gaussian".
        data_end: "bound" or "z".
        solver: 64 steps of "rk4" when left out.
        condition: passed on to the denoiser.

    Raises:
        ValueError: an unknown data_end or probe, a count out of range, no observation or generator where one is
            needed, or gamma_1 = inf.
    """
    if data_end not in DATA_ENDS:
        raise ValueError(f"unknown data_end '{data_end}': choose one of {', '.join(DATA_ENDS)}")
    if draws < 1 or probes < 0:
        raise ValueError(f"draws = {draws} must be at least 1, and probes = {probes} at least 0 (0: the exact trace)")
    if data_end == "bound" and observation is None:
        raise ValueError("data_end = 'bound' needs an observation: give one, or data_end = 'z'")
    if generator is None and (data_end == "bound" or probes):
        raise ValueError("probes and draws of z_0 need a generator")
    if not math.isfinite(schedule.gamma_1):
        raise ValueError("the flow is integrated in gamma: it needs a schedule with a finite gamma_1")
    solver = FixedGrid() if solver is None else solver
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64, device=x.device)
    gamma_0, gamma_1 = (schedule.gamma(end).expand(len(x)) for end in ends)
    found: list[dict[str, Tensor]] = []
    spread = torch.full_like(gamma_0, torch.nan)
    for _ in range(draws):
        z_0, terms = x, {}
        if data_end == "bound":
            assert observation is not None
            assert generator is not None
            eps = space.noise(x, generator)
            z_0 = diffuse(x, eps, gamma_0)
            x_hat, x_variance = None, None
            if observation.needs_denoiser:
                prediction = denoiser(z_0, gamma_0, space, condition)
                x_hat, x_variance = prediction.x, prediction.x_variance
            width = space.dim() * (log_sigma_squared(gamma_0) + LOG_2_PI)
            terms["encoder"] = -0.5 * (space.squared_norm(eps).double() + width)
            terms["reconstruction"] = observation.nll(data, z_0, gamma_0, space, x_hat, x_variance).double()
        v = None if generator is None or not probes else draw_probes(space, x, probes, probe, generator)
        z_1, integral = flow(denoiser, space, z_0, gamma_0, gamma_1, solver, v, condition)
        prior = 0.5 * (space.squared_norm(z_1) + space.dim() * LOG_2_PI)
        found.append({"prior": prior, "divergence": -integral.mean(0), **terms})
        if data_end == "z" and draws == 1 and probes != 1:
            spread = integral.var(0) / probes if probes else torch.zeros_like(spread)
    if draws > 1:
        spread = torch.stack([torch.stack(list(terms.values())).sum(0) for terms in found]).var(0) / draws
    return Elbo(
        terms={name: torch.stack([terms[name] for terms in found]).mean(0) for name in found[0]},
        dim=space.dim(),
        draw_variance=spread.detach(),
        settings={
            "gamma_0": schedule.gamma_0,
            "gamma_1": schedule.gamma_1,
            **solver.settings,
            "draws": float(draws),
            "probes": float(probes),
        },
        method="flow",
    )
