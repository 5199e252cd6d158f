"""Draws docs/images/schedules.png: every schedule of the core, as gamma(t) and as the shares of signal and noise.

python docs/figures/schedules.py
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes

from medmol_diffusion.core import (
    Cosine,
    DDPMLinear,
    Dense,
    GaussianDenoiser,
    Karras,
    LearnedSchedule,
    LinearGamma,
    Polynomial,
    RectifiedFlow,
    ScaledLinear,
    Schedule,
    Sigmoid,
    SubVP,
    UniformTime,
    schedule_loss,
)
from medmol_diffusion.core.objective import draw

OUT = Path(__file__).parents[1] / "images" / "schedules.png"
ENDS = (-10.0, 8.0)
INK, GREY = "#222222", "#8a8a8a"


def trained() -> LearnedSchedule:
    """The learned schedule after 300 steps on the Gaussian of tests/core/test_learned_schedule.py."""
    oracle = GaussianDenoiser(torch.linspace(0.05, 2.0, 54, dtype=torch.float64))
    schedule, generator = LearnedSchedule(*ENDS), torch.Generator().manual_seed(0)
    optimiser, levels = torch.optim.Adam(schedule.parameters(), lr=0.03), UniformTime(schedule)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 300)
    for _ in range(300):
        x = oracle.sample(torch.zeros(128, 54, dtype=torch.float64), generator)
        prediction, eps, gamma_derivative = draw(oracle, levels, Dense(x), x, generator)
        optimiser.zero_grad()
        schedule_loss(levels, prediction, x, eps, gamma_derivative).mean().backward()
        optimiser.step()
        decay.step()
    return schedule.requires_grad_(False)


def column(top: Axes, bottom: Axes, title: str, curves: list[tuple[str, Schedule, str, str]]) -> None:
    """gamma(t) above; alpha^2 (solid) and sigma^2 (faint) below; one legend under both."""
    t = torch.linspace(0, 1, 1501, dtype=torch.float64)
    for name, schedule, colour, style in curves:
        gamma = schedule.gamma(t)
        line = {"color": colour, "linestyle": style, "linewidth": 1.9, "solid_capstyle": "round"}
        top.plot(t, gamma, label=name, **line)
        bottom.plot(t, torch.sigmoid(-gamma), **line)
        bottom.plot(t, torch.sigmoid(gamma), **{**line, "linewidth": 1.0}, alpha=0.35)
    top.set_title(title, loc="left", fontsize=11.5, fontweight="bold", color=INK, pad=10)
    top.axhline(0, color=GREY, linewidth=0.8, linestyle=(0, (2, 3)), zorder=0)
    top.set_ylim(-19, 13)
    top.set_yticks([-15, -10, -5, 0, 5, 10])
    bottom.set_ylim(-0.02, 1.02)
    bottom.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "¼", "½", "¾", "1"])
    bottom.set_xlabel("t", color=INK)
    top.tick_params(labelbottom=False)
    for axes in (top, bottom):
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0\ndata", "¼", "½", "¾", "1\nnoise"])
        axes.grid(color="#e9e9e9", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, labelsize=9, colors=INK)
        for side in axes.spines.values():
            side.set_visible(False)
    bottom.legend(
        *top.get_legend_handles_labels(), loc="upper center", bbox_to_anchor=(0.5, -0.24), ncols=3, fontsize=9.2,
        frameon=False, handlelength=2.2, columnspacing=1.6,
    )  # fmt: skip


def main() -> None:
    low, high = (torch.tensor(end / 2).exp().item() for end in ENDS)
    dashed, dotted = (0, (5, 2)), (0, (1, 1.6))
    same = [
        ("LinearGamma, VE", LinearGamma(*ENDS), INK, "-"),
        ("Cosine", Cosine(*ENDS), "#0072b2", "-"),
        ("Sigmoid", Sigmoid(*ENDS), "#56b4e9", dashed),
        ("RectifiedFlow", RectifiedFlow(*ENDS), "#009e73", "-"),
        ("Karras, ρ = 7", Karras(low, high), "#d55e00", "-"),
        ("LearnedSchedule", trained(), "#cc79a7", "-"),
    ]
    own = [
        ("DDPMLinear", DDPMLinear(), "#0072b2", "-"),
        ("with zero SNR", DDPMLinear(zero_snr=True), "#0072b2", dotted),
        ("ScaledLinear", ScaledLinear(), "#d55e00", "-"),
        ("with zero SNR", ScaledLinear(zero_snr=True), "#d55e00", dotted),
        ("Polynomial", Polynomial(), "#009e73", "-"),
        ("SubVP", SubVP(), "#cc79a7", "-"),
    ]
    figure, axes = plt.subplots(2, 2, figsize=(10.5, 8.2), dpi=160, gridspec_kw={"height_ratios": [1.25, 1]})
    column(axes[0, 0], axes[1, 0], "Between the same two end points", same)
    column(axes[0, 1], axes[1, 1], "Between end points of their own", own)
    axes[0, 0].set_ylabel("γ(t) = −log SNR", color=INK)
    axes[1, 0].set_ylabel("α² (bold) and σ² (faint)", color=INK)
    figure.subplots_adjust(left=0.07, right=0.975, top=0.95, bottom=0.16, hspace=0.1, wspace=0.16)
    figure.savefig(OUT, facecolor="white")


if __name__ == "__main__":
    main()
