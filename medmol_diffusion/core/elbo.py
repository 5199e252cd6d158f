"""The evidence lower bound, term by term, in nats per example.

-log p(data) <= prior + diffusion + reconstruction - log_volume + the domain's own terms.
Sources: Kingma et al. 2021 (eqs. 11-18) for the continuous bound, Ho et al. 2020 (eq. 5) for the discrete one.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from medmol_diffusion.core.denoiser import Denoiser, Prediction, check_zero_snr
from medmol_diffusion.core.noise import Randomness, stratified_uniforms
from medmol_diffusion.core.observation import Observation
from medmol_diffusion.core.observation import Product as ProductObservation
from medmol_diffusion.core.schedule import (
    Schedule,
    alpha,
    log_sigma_squared,
    per_example,
    sigma,
)
from medmol_diffusion.core.shapes import PerExample, State
from medmol_diffusion.core.space import Product, Space

LN2 = math.log(2)
SUBTRACTED = ("log_volume", "latent_entropy")
"""The terms of a bound that are subtracted in its total."""


@dataclass(frozen=True)
class Elbo:
    """-log p of every example, term by term: the bound, or one of the other ways to take it (``method``).

    Attributes:
        terms: name -> [B] nats, each averaged over the draws; those in SUBTRACTED are subtracted, the others are added.
        dim: [B] degrees of freedom.
        draw_variance: [B] variance of the total over repeated draws; NaN where it cannot be told: for one draw, and
            for the sum over all T, which holds one draw of noise at every level.
        settings: what the figure depends on: gamma_0, gamma_1, draws, and those of the method.
        map: 1/2 w(gamma) (eps - eps_hat)^2 before it is summed, where the elements of the space lie (Space.localise): a
            score of each voxel or atom. With the fixed reverse variance its sum is the diffusion term.
        blocks: "diffusion/name" and "reconstruction/name" -> [B] nats of every block of a product space, whose sums are
            these two terms of the bound; empty for any other space.
        method: "bound" (``elbo``), "iwae" (``iwae``), or "flow" (``probability_flow_nll``, an estimate and no bound).
    """

    terms: dict[str, Tensor]
    dim: PerExample
    draw_variance: PerExample
    settings: dict[str, float] = field(default_factory=dict)
    map: Tensor | None = None
    method: str = "bound"
    blocks: dict[str, Tensor] = field(default_factory=dict)

    @property
    def total(self) -> PerExample:
        """[B] nats."""
        return torch.stack([-v if name in SUBTRACTED else v for name, v in self.terms.items()]).sum(0)

    @property
    def bits_per_dim(self) -> PerExample:
        """[B] total / (dim log 2)."""
        return self.total / (self.dim * LN2)

    @property
    def nats_per_dim(self) -> PerExample:
        """[B] total / dim."""
        return self.total / self.dim

    @property
    def draw_error(self) -> float:
        """Standard error of the mean total that comes from the draws alone, nats; NaN where it cannot be told."""
        return self.draw_variance.sum().sqrt().item() / len(self.draw_variance)

    def with_terms(self, **terms: Tensor) -> "Elbo":
        """The same with the domain's own terms added."""
        return replace(self, terms={**self.terms, **terms})

    def summary(self) -> dict[str, tuple[float, float]]:
        """name -> (mean over the examples, its standard error), for every term, the total, and the total per dimension.

        The spread over examples holds the spread over draws; for a single example it is NaN.
        """
        rows = {**self.terms, "total": self.total, "nats_per_dim": self.nats_per_dim, "bits_per_dim": self.bits_per_dim}
        return _means(rows)

    def block_summary(self) -> dict[str, tuple[float, float]]:
        """The same for ``blocks``."""
        return _means(self.blocks)

    @staticmethod
    def concatenate(parts: Sequence["Elbo"]) -> "Elbo":
        """One result over the examples of all ``parts``; maps are left out."""
        return replace(
            parts[0],
            terms={name: torch.cat([p.terms[name] for p in parts]) for name in parts[0].terms},
            dim=torch.cat([p.dim for p in parts]),
            draw_variance=torch.cat([p.draw_variance for p in parts]),
            map=None,
            blocks={name: torch.cat([p.blocks[name] for p in parts]) for name in parts[0].blocks},
        )


def _means(rows: dict[str, Tensor]) -> dict[str, tuple[float, float]]:
    """name -> (mean over the examples, its standard error)."""
    return {
        name: (v.mean().item(), (v.std() / math.sqrt(len(v))).item() if len(v) > 1 else math.nan)
        for name, v in rows.items()
    }


def prior_kl(x: State, gamma_1: PerExample, space: Space) -> PerExample:
    """[B] KL(q(z_1 | x) || N(0, I)) = (alpha_1^2 |x|^2 + dim (sigma_1^2 - 1 - log sigma_1^2)) / 2, sigma_1^2 - 1 =
    -alpha_1^2."""
    alpha2 = torch.sigmoid(-gamma_1)
    spread = -alpha2 - log_sigma_squared(gamma_1)
    return 0.5 * (alpha2 * space.squared_norm(x) + space.dim() * spread)


def transition_kl(prediction: Prediction, x: State, eps: State, gamma_s: PerExample) -> State:
    """KL(q(z_s | z_t, x) || p(z_s | z_t)) per element, of the state's shape; sum it with the space.

    With fixed variance, 1/2 w (x - x_hat)^2 where w = e^(-gamma_s) (1 - e^(gamma_s - gamma_t)) = SNR_s - SNR_t, which
    is 1/2 expm1(gamma_t - gamma_s) (eps - eps_hat)^2 and finite at zero terminal SNR (gamma_t = inf) besides. Where
    Var[x | z_t] = C is known, the reverse variance is r = 1 + w C times as large and the KL is
    1/2 [1/r - 1 + log r + w (x - x_hat)^2 / r].
    """
    error2 = prediction.x_error(x, eps).square()
    weight = per_example(-torch.exp(-gamma_s) * torch.expm1(gamma_s - prediction.gamma), error2)
    kl = 0.5 * weight * error2
    if prediction.x_variance is None:
        return kl
    excess = weight * prediction.x_variance
    return kl / (1 + excess) + 0.5 * (torch.log1p(excess) - excess / (1 + excess))


def continuous_integrand(prediction: Prediction, x: State, eps: State, gamma_derivative: PerExample) -> State:
    """1/2 gamma'(t) (eps - eps_hat)^2 per element, of the state's shape; its mean over t and eps is the diffusion
    term."""
    error2 = prediction.eps_error(x, eps).square()
    return 0.5 * per_example(gamma_derivative, error2) * error2


def diffuse(x: State, eps: State, gamma: PerExample) -> State:
    """z = alpha x + sigma eps, gamma [B]."""
    return per_example(alpha(gamma), x) * x + per_example(sigma(gamma), x) * eps


def elbo(
    denoiser: Denoiser,
    schedule: Schedule,
    space: Space,
    x: State,
    observation: Observation,
    data: Any,
    generator: Randomness,
    transitions: int = 0,
    draws: int | None = 1,
    condition: Any = None,
) -> Elbo:
    """Prior, diffusion and reconstruction terms of the bound at ``x``.

    Args:
        denoiser: the model.
        schedule: gives gamma_0, gamma_1 and the path between them.
        space: where x lives.
        x: [B, ...] the clean state.
        observation: p(data | z_0).
        data: what ``observation`` reads.
        generator: draws the noise and the times (stratified over draws and examples).
        transitions: T of the discrete-time bound; 0 for the continuous-time bound.
        draws: noise draws per example; None sums over all T transitions, with one draw of noise for each.
        condition: passed on to the denoiser.

    Raises:
        ValueError: ``draws`` is None for the continuous bound, or not positive; or gamma_1 = inf and the denoiser
            predicts eps.
    """
    check_zero_snr(denoiser, schedule.gamma_1)
    if draws is None and not transitions:
        raise ValueError("the exact sum is over the transitions of a discrete-time bound: give transitions, or draws")
    if transitions < 0:
        raise ValueError(f"transitions = {transitions} must be positive, or 0 for the continuous bound")
    if draws is not None and draws < 1:
        raise ValueError(f"draws = {draws} must be at least 1")
    batch, device = len(x), x.device
    exact = draws is None
    repeats = transitions if draws is None else draws
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64, device=device)
    gamma_0, gamma_1 = (schedule.gamma(end).expand(batch) for end in ends)

    # The exact sum visits t = 1/T, ..., T/T once each, and its mean is scaled like any other average of T L_t.
    uniform = None if exact else stratified_uniforms(batch, repeats, generator).to(device)
    total = torch.zeros(repeats, batch, dtype=torch.float64, device=device)
    reconstruction = torch.zeros(1 if exact else repeats, batch, dtype=torch.float64, device=device)
    local = torch.zeros_like(space.localise(x))
    blocks: dict[str, Tensor] = defaultdict(lambda: torch.zeros(batch, dtype=torch.float64, device=device))
    for k in range(repeats):
        eps = space.noise(x, generator)
        if transitions:
            step = torch.full((batch,), float(k + 1), dtype=torch.float64, device=device)
            if uniform is not None:
                step = 1 + (uniform[k] * transitions).floor().clamp(max=transitions - 1)
            gamma = schedule.gamma(step / transitions)
            prediction = denoiser(diffuse(x, eps, gamma), gamma, space, condition)
            gamma_s = schedule.gamma((step - 1) / transitions)
            weight = transitions * torch.exp(-gamma_s) * -torch.expm1(gamma_s - gamma)
            integrand = transitions * transition_kl(prediction, x, eps, gamma_s)
            error = prediction.x_error(x, eps)
        else:
            assert uniform is not None
            gamma = schedule.gamma(uniform[k])
            prediction = denoiser(diffuse(x, eps, gamma), gamma, space, condition)
            weight = schedule.derivative(uniform[k])
            integrand = continuous_integrand(prediction, x, eps, weight)
            error = prediction.eps_error(x, eps)
        total[k] = space.sum(integrand)
        if isinstance(space, Product):
            for name, part in space.split(integrand).items():
                blocks[f"diffusion/{name}"] += space.blocks[name].sum(part) / repeats
        local += 0.5 * per_example(weight, local) * space.localise(error).square()
    for k in range(len(reconstruction)):
        z_0 = diffuse(x, space.noise(x, generator), gamma_0)
        x_hat, x_variance = None, None
        if observation.needs_denoiser:
            prediction = denoiser(z_0, gamma_0, space, condition)
            x_hat, x_variance = prediction.x, prediction.x_variance
        if isinstance(observation, ProductObservation):
            named = observation.named_nll(data, z_0, gamma_0, space, x_hat, x_variance)
            for name, nats in named.items():
                blocks[f"reconstruction/{name}"] += nats / len(reconstruction)
            reconstruction[k] = torch.stack(list(named.values())).sum(0)
        else:
            reconstruction[k] = observation.nll(data, z_0, gamma_0, space, x_hat, x_variance)

    known = repeats > 1 and not exact
    # Draw k has its times in stratum k: what neighbours differ by is the spread inside a stratum, or little more.
    apart = (total + reconstruction).diff(dim=0).square()
    draw_variance = apart.mean(0) / (2 * repeats) if known else total[0] * torch.nan
    return Elbo(
        terms={
            "prior": prior_kl(x, gamma_1, space).double(),
            "diffusion": total.mean(0),
            "reconstruction": reconstruction.mean(0),
        },
        dim=space.dim(),
        draw_variance=draw_variance,
        settings={
            "gamma_0": schedule.gamma_0,
            "gamma_1": schedule.gamma_1,
            "transitions": float(transitions),
            "draws": float(repeats),
        },
        map=local / repeats,
        blocks=dict(blocks),
    )
