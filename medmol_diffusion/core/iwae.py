"""The importance-weighted bound: -log of a mean of weights of whole trajectories, tighter than the mean of their logs.

Source: Burda et al. 2016, Importance Weighted Autoencoders, eq. 8 and theorem 1.
"""

import itertools
import math
from typing import Any

import torch

from medmol_diffusion.core.denoiser import Denoiser, Prediction, check_zero_snr
from medmol_diffusion.core.elbo import Elbo, diffuse
from medmol_diffusion.core.noise import Randomness
from medmol_diffusion.core.observation import Observation
from medmol_diffusion.core.schedule import Schedule, log_sigma_squared, per_example
from medmol_diffusion.core.shapes import PerExample, State
from medmol_diffusion.core.space import Space


def prior_log_ratio(x: State, eps: State, gamma_1: PerExample, space: Space) -> PerExample:
    """[B] log q(z_1 | x) - log N(z_1; 0, I) at z_1 = alpha_1 x + sigma_1 eps; its mean over eps is ``prior_kl``.

    (|z_1|^2 - |eps|^2 - dim log sigma_1^2) / 2.
    """
    z = diffuse(x, eps, gamma_1)
    return 0.5 * (space.sum(z.square() - eps.square()) - space.dim() * log_sigma_squared(gamma_1))


def transition_log_ratio(prediction: Prediction, x: State, eps: State, fresh: State, gamma_s: PerExample) -> State:
    """log q(z_s | z_t, x) - log p(z_s | z_t) per element, of the state's shape; its mean over ``fresh`` is
    ``transition_kl``.

    q has the mean (alpha_s / alpha_t)(z_t - c sigma_t eps) and the variance v = sigma_s^2 c, c = 1 - e^(gamma_s -
    gamma_t); p has eps_hat for eps and the variance r v. At z_s = mean + sqrt(v) fresh,

        1/2 [(fresh - d)^2 / r - fresh^2 + log r],
        d = -w^(1/2) (x - x_hat) = expm1(gamma_t - gamma_s)^(1/2) (eps - eps_hat),

    w = e^(-gamma_s) c = SNR_s - SNR_t, with r = 1 + w Var[x | z_t] where the denoiser knows that variance, and 1
    elsewhere. The form in x is finite at zero terminal SNR (gamma_t = inf).
    """
    w = per_example(-torch.exp(-gamma_s) * torch.expm1(gamma_s - prediction.gamma), fresh)
    d = -w.sqrt() * prediction.x_error(x, eps)
    if prediction.x_variance is None:
        return 0.5 * d * (d - 2 * fresh)
    excess = w * prediction.x_variance
    return 0.5 * (((fresh - d).square() - fresh.square() * (1 + excess)) / (1 + excess) + torch.log1p(excess))


def iwae(
    denoiser: Denoiser,
    schedule: Schedule,
    space: Space,
    x: State,
    observation: Observation,
    data: Any,
    generator: Randomness,
    transitions: int,
    draws: int = 16,
    condition: Any = None,
) -> Elbo:
    """-log (1/K) sum_k w_k, with w_k the weight of one trajectory z_1, ..., z_0 ~ q(z_1, ..., z_0 | x):

        log w = log N(z_1; 0, I) / q(z_1 | x) + sum over the T steps of log p(z_s | z_t) / q(z_s | z_t, x)
                + log p(data | z_0).

    In expectation it is the T-step bound for K = 1, falls with K, and is never below -log p(data) of the reverse
    process: by about Var[w] / (2 K E[w]^2) above it once the weights' spread is of order one. K weights whose logs
    spread by s nats need K of order e^(s^2 / 2) to get there.

    The terms are the means of the K bounds, and ``importance`` = total - mean of the bounds, at most zero. The draw
    variance is the jackknife's: (K - 1) / K times the sum of squares by which the estimates without one trajectory each
    differ from their mean. It holds where a single weight outweighs the others, too.

    Args:
        denoiser: the model.
        schedule: gives gamma_0, gamma_1 and the path between them.
        space: where x lives.
        x: [B, ...] the clean state.
        observation: p(data | z_0).
        data: what ``observation`` reads.
        generator: draws the noise.
        transitions: T; the denoiser is called K T times, once more each where the observation needs it.
        draws: K.
        condition: passed on to the denoiser.

    Raises:
        ValueError: ``transitions`` or ``draws`` is not positive; or gamma_1 = inf and the denoiser predicts eps.
    """
    check_zero_snr(denoiser, schedule.gamma_1)
    if transitions < 1:
        raise ValueError(f"transitions = {transitions}: importance weights are those of a discrete chain, T at least 1")
    if draws < 1:
        raise ValueError(f"draws = {draws} must be at least 1")
    times = torch.arange(transitions, -1, -1, dtype=torch.float64, device=x.device) / transitions
    gammas = schedule.gamma(times)[:, None].expand(-1, len(x))
    names = ("prior", "diffusion", "reconstruction")
    weights = []
    for _ in range(draws):
        # z_t = alpha_t x + sigma_t eps all along: the posterior step is eps <- sqrt(1 - c) eps + sqrt(c) fresh.
        eps = space.noise(x, generator)
        prior = prior_log_ratio(x, eps, gammas[0], space).double()
        diffusion = torch.zeros_like(prior)
        for gamma, gamma_s in itertools.pairwise(gammas):
            prediction = denoiser(diffuse(x, eps, gamma), gamma, space, condition)
            fresh = space.noise(x, generator)
            diffusion = diffusion + space.sum(transition_log_ratio(prediction, x, eps, fresh, gamma_s))
            c = -torch.expm1(gamma_s - gamma)
            eps = per_example((1 - c).sqrt(), eps) * eps + per_example(c.sqrt(), eps) * fresh
        z_0, x_hat, x_variance = diffuse(x, eps, gammas[-1]), None, None
        if observation.needs_denoiser:
            prediction = denoiser(z_0, gammas[-1], space, condition)
            x_hat, x_variance = prediction.x, prediction.x_variance
        reconstruction = observation.nll(data, z_0, gammas[-1], space, x_hat, x_variance).double()
        weights.append(torch.stack([prior, diffusion, reconstruction]))
    bounds = torch.stack(weights, 1)  # [terms, K, B]
    log_w = -bounds.sum(0)
    total = math.log(draws) - torch.logsumexp(log_w, 0)
    variance = torch.full_like(total, torch.nan)
    if draws > 1:  # the jackknife: the estimate without each trajectory in turn
        itself = torch.eye(draws, dtype=torch.bool, device=log_w.device)[..., None]
        others = log_w.expand(draws, *log_w.shape).masked_fill(itself, -torch.inf)
        without = math.log(draws - 1) - torch.logsumexp(others, 1)
        variance = (draws - 1) / draws * (without - without.mean(0)).square().sum(0)
    return Elbo(
        terms={**dict(zip(names, bounds.mean(1), strict=True)), "importance": total + log_w.mean(0)},
        dim=space.dim(),
        draw_variance=variance.detach(),
        settings={
            "gamma_0": schedule.gamma_0,
            "gamma_1": schedule.gamma_1,
            "transitions": float(transitions),
            "draws": float(draws),
        },
        method="iwae",
    )
