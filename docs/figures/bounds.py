"""The bounds of docs/theory/likelihood.md on Gaussian data, drawn: python docs/figures/bounds.py (half a minute).

Lines are closed forms, points are what the core's functions return.
"""

import itertools
import math
from pathlib import Path

import matplotlib
import torch
from torch import Tensor

from medmol_diffusion import core
from medmol_diffusion.core import Dense, Elbo, GaussianDenoiser, LinearGamma
from medmol_diffusion.core.observation import Gaussian

matplotlib.use("Agg")
from matplotlib import pyplot as plt

OUT = Path(__file__).resolve().parents[1] / "images" / "bounds.png"
EIGENVALUES = torch.tensor([0.09, 0.5, 1.0, 2.3], dtype=torch.float64)
ORACLE = GaussianDenoiser(EIGENVALUES)
SCHEDULE = LinearGamma(-2.5, 6.0)
POINTS = (4, 8, 16, 32, 64)
TRAJECTORIES = {4: "#5aa7c7", 64: "#0b4f6c"}


def gammas(steps: int) -> Tensor:
    """gamma at t = 1, ..., 0."""
    return core.grid(SCHEDULE, steps)


def error(gamma: Tensor) -> Tensor:
    """h(gamma) = E |eps - eps_hat|^2 of the exact denoiser."""
    signal = EIGENVALUES * torch.exp(-gamma[..., None])
    return (signal / (1 + signal)).sum(-1)


def discrete(steps: int) -> float:
    """The diffusion term of T = ``steps``."""
    t, s = gammas(steps)[:-1], gammas(steps)[1:]
    return (0.5 * torch.expm1(t - s) * error(t)).sum().item()


def continuous() -> float:
    """V1: the diffusion term in continuous time."""
    start, end = gammas(1)[1], gammas(1)[0]
    return 0.5 * torch.log((1 + EIGENVALUES * torch.exp(-start)) / (1 + EIGENVALUES * torch.exp(-end))).sum().item()


def leading() -> float:
    """V3: T times (discrete - continuous), to first order."""
    end, start = gammas(1)
    return ((end - start) / 4 * (2 * continuous() - (error(start) - error(end)))).item()


def process_nll(steps: int) -> float:
    """E[-log p(x)] of the reverse process of T = ``steps``, a Gaussian, with the decoder N(x_hat(z_0), e^gamma_0)."""
    variance = torch.ones_like(EIGENVALUES)

    def marginal(gamma: Tensor) -> Tensor:
        return core.alpha(gamma) ** 2 * EIGENVALUES + core.sigma(gamma) ** 2

    for t, s in itertools.pairwise(gammas(steps)):
        c = -torch.expm1(s - t)
        gain = core.alpha(s) / core.alpha(t) * (1 - c * core.sigma(t) ** 2 / marginal(t))
        variance = gain**2 * variance + core.sigma(s) ** 2 * c
    last = gammas(steps)[-1]
    variance = (core.alpha(last) * EIGENVALUES / marginal(last)) ** 2 * variance + last.exp()
    return 0.5 * (EIGENVALUES / variance + variance.log() + math.log(2 * math.pi)).sum().item()


def measured(found: Elbo, x: Tensor) -> tuple[float, float]:
    """Mean and standard error, the spread of log p(x) itself taken out."""
    gap = found.total + ORACLE.log_prob(x)
    return ORACLE.entropy() + gap.mean().item(), gap.std().item() / len(gap) ** 0.5


def draw() -> None:
    generator = torch.Generator().manual_seed(0)
    x = ORACLE.sample(torch.zeros(4000, 4, dtype=torch.float64), generator)
    place = (ORACLE, SCHEDULE, Dense(x), x, Gaussian(), x, generator)
    # Prior and decoder, whose gaps V2 states: the same in every bound.
    end, start = gammas(1)
    marginal = core.alpha(end) ** 2 * EIGENVALUES + core.sigma(end) ** 2
    shrink = EIGENVALUES / (EIGENVALUES + start.exp())
    gap = 0.5 * ((marginal - 1 - marginal.log()) + (shrink - 1 - shrink.log())).sum().item()
    limit = ORACLE.entropy() + gap
    steps = [round(2 ** (k / 4)) for k in range(8, 41)]

    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.3), layout="constrained")
    left.plot(steps, [limit + discrete(t) - continuous() for t in steps], color="#b5412b", lw=1.8)
    left.plot(steps, [process_nll(t) for t in steps], color="0.35", lw=1.4, ls=(0, (4, 2)))
    left.axhline(limit, color="#b5412b", lw=1.1, ls=":")
    left.axhline(ORACLE.entropy(), color="black", lw=1.4)
    bounds = [measured(core.elbo(*place, t, None), x) for t in POINTS]
    left.errorbar(POINTS, *zip(*bounds, strict=True), fmt="o", ms=4.5, color="#b5412b", label="discrete bound, T steps")
    for draws, colour in TRAJECTORIES.items():
        found = [measured(core.iwae(*place, t, draws), x) for t in POINTS]
        left.errorbar(
            POINTS, *zip(*found, strict=True), fmt="s-", ms=4, lw=0.8, color=colour, label=f"IWAE, K = {draws}"
        )
    with torch.no_grad():
        flow = measured(core.probability_flow_nll(*place), x)
    left.errorbar([1400], [flow[0]], [flow[1]], fmt="D", ms=5, color="#3c7a3f", label="probability flow (no T)")
    left.plot([], [], color="0.35", lw=1.4, ls=(0, (4, 2)), label="exact -log p of the T-step process")
    left.plot([], [], color="#b5412b", lw=1.1, ls=":", label="continuous bound")
    left.plot([], [], color="black", lw=1.4, label="entropy of the data")
    left.set(xscale="log", xlabel="T", ylabel="mean -log p, nats", ylim=(ORACLE.entropy() - 0.35, limit + 4))
    left.set_title("Bounds over the entropy", loc="left", fontsize=11)
    left.legend(frameon=False, fontsize=9, loc="upper right")

    right.plot(
        steps, [leading() / t for t in steps], color="0.35", lw=1.4, ls=(0, (4, 2)), label="leading term, slope -1"
    )
    right.plot(
        steps, [discrete(t) - continuous() for t in steps], color="#b5412b", lw=1.8, label="discrete - continuous"
    )
    right.set(xscale="log", yscale="log", xlabel="T", ylabel="nats")
    right.set_title("What a step costs (V3)", loc="left", fontsize=11)
    right.legend(frameon=False, fontsize=9)
    for axes in (left, right):
        axes.grid(color="0.92", lw=0.8)
        axes.set_axisbelow(True)
    figure.savefig(OUT, dpi=150)


if __name__ == "__main__":
    draw()
