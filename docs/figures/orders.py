"""Error of the deterministic samplers against steps and against network calls: python docs/figures/orders.py

Gaussian data of variances 0.09, 0.5, 1 and 2.3, from |z| = 1 at gamma = 3 to gamma = -3 in even steps of gamma, against
the exact flow map. Writes docs/images/orders.png.
"""

import math
from pathlib import Path
from typing import Any

import torch
from matplotlib import pyplot as plt
from torch import Tensor

from medmol_diffusion import core

STEPPERS: dict[str, core.Stepper] = {
    "DDIM": core.DDIM(),
    "Euler": core.Euler(),
    "Heun": core.Heun(),
    "DPM-Solver++ 2M": core.DPMSolver2M(),
    "DPM-Solver++ 3M": core.DPMSolver3M(eta=0.0),
    "UniPC-2": core.UniPC(),
    "PLMS": core.PLMS(),
}
STEPS = (2, 3, 5, 8, 12, 20, 32, 50, 80, 125, 200, 400, 800)
EIGENVALUES = torch.tensor([0.09, 0.5, 1.0, 2.3], dtype=torch.float64)


class Counted(core.GaussianDenoiser):
    """The oracle, and how often it was asked."""

    calls = 0

    def forward(self, z: Tensor, gamma: Tensor, space: core.Space, condition: Any = None) -> core.Prediction:
        self.calls += 1
        return super().forward(z, gamma, space, condition)


def error(stepper: core.Stepper, steps: int) -> tuple[int, float]:
    """(network calls, the largest error over the four directions)."""
    oracle, z = Counted(EIGENVALUES), torch.ones(1, 4, dtype=torch.float64)
    gammas = core.grid(core.LinearGamma(-3.0, 3.0), steps)
    found = core.sample(oracle, stepper, gammas, core.Dense(z), z, torch.Generator())
    return oracle.calls, (found - core.gaussian_flow(z, EIGENVALUES, 3.0, -3.0)).abs().max().item()


def main() -> None:
    plt.rcParams.update({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False})
    figure, (by_steps, by_calls) = plt.subplots(1, 2, figsize=(11, 4.8), sharey=True, layout="constrained")
    for marker, (name, stepper) in zip("osDv^PX", STEPPERS.items(), strict=True):
        calls, errors = zip(*(error(stepper, steps) for steps in STEPS), strict=True)
        slope = math.log(errors[-2] / errors[-1]) / math.log(STEPS[-1] / STEPS[-2])
        style: dict[str, Any] = {"marker": marker, "markersize": 4.5, "linewidth": 1.4}
        by_steps.loglog(STEPS, errors, label=f"{name}, slope {slope:.2f}", **style)
        by_calls.loglog(calls, errors, **style)
    for order, at in ((1, 3e-2), (2, 2.5e-4), (3, 5e-6)):
        ends = (150, 800)
        by_steps.loglog(ends, [at * (n / ends[0]) ** -order for n in ends], color="0.6", linestyle="--", linewidth=1)
        last = at * (ends[1] / ends[0]) ** -order
        by_steps.annotate(f" order {order}", (ends[1], last), color="0.4", fontsize=9, va="center")
    by_steps.set(xlabel="steps", xlim=(1.5, 2000), ylabel="largest error against the exact flow", title="by steps")
    by_calls.set(xlabel="network calls", title="by network calls")
    by_steps.legend(frameon=False, fontsize=9, loc="lower left")
    for axes in (by_steps, by_calls):
        axes.grid(True, which="major", color="0.92")
    figure.savefig(Path(__file__).parent.parent / "images" / "orders.png", dpi=130)


if __name__ == "__main__":
    main()
