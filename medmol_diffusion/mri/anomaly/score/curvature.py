"""How much the path from a scan to noise bends."""

from dataclasses import dataclass

import torch
from torch import Tensor

from medmol_diffusion.core import DDPMLinear
from medmol_diffusion.core.schedule import alpha, per_example
from medmol_diffusion.core.stepper import flow_step
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.setting import Setting


@dataclass(frozen=True)
class Curvature:
    r"""The root mean square of $d\hat\epsilon / dt$ along the probability flow from the scan to noise.

    In the coordinates $\bar z = z / \alpha$, $s = \sigma / \alpha$ the flow is $d\bar z / ds = \hat\epsilon$, so that
    $\hat\epsilon$ is the path's direction and the rate at which it changes its curvature; it is zero where the path is
    straight. With n steps of DDIM inversion at levels t_0 < ... < t_n,

    $\Big[ \frac1{n D} \sum_{k < n} \big| (\hat\epsilon_{k+1} - \hat\epsilon_k) / (t_{k+1} - t_k) \big|^2 \Big]^{1/2}$,

    the statistic of DiffPath-1D (Heng, Thiery & Soh 2024, $\sqrt{\sum_t |\partial_t \epsilon_\theta|^2}$), divided by
    $\sqrt{n D}$, D the degrees of freedom, so that neither the steps nor the size of a scan set its scale. t in [0, 1]
    is the time of the DDPM-linear schedule whatever the model's own is, cut to the levels that the model knows. The
    path begins at alpha x, without noise: nothing is drawn but the latents of an autoencoder.

    The statistic of what is not healthy may be higher or lower: the paper scores its density under a kernel estimate on
    healthy data, here Deviation(Curvature()) its distance from the healthy mean.

    Attributes:
        steps: n; n + 1 calls of the network.

    Raises:
        InputError: fewer than 1 step.
    """

    steps: int = 10

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"steps = {self.steps} of a path must be at least 1")

    @torch.no_grad()
    def __call__(self, setting: Setting, exam: Exam, maps: Tensor) -> Tensor:
        state, model = setting.state(exam, setting.streams(exam)), setting.model
        times, gammas = self.levels(model.schedule.gamma_0, model.schedule.gamma_1)
        levels = gammas.to(state.x.device)[:, None].expand(-1, len(exam))
        z = per_example(alpha(levels[0]), state.x) * state.x
        squares, before = torch.zeros(len(exam), dtype=torch.float64, device=z.device), None
        for k in range(len(levels)):
            prediction = model.denoiser(z, levels[k], state.space, state.known)
            if before is not None:
                step = float(times[k] - times[k - 1])
                squares += state.space.squared_norm(prediction.eps - before).double() / step**2
            before = prediction.eps
            if k + 1 < len(levels):
                z = flow_step(prediction, levels[k + 1])
        return (squares / (self.steps * state.space.dim())).sqrt()

    def levels(self, gamma_0: float, gamma_1: float) -> tuple[Tensor, Tensor]:
        """(t, gamma), [steps + 1] float64 each, between the ends of a schedule."""
        linear = DDPMLinear()
        ends = linear.time(torch.tensor([gamma_0, gamma_1], dtype=torch.float64))
        times = torch.linspace(float(ends[0]), float(ends[1]), self.steps + 1, dtype=torch.float64)
        return times, linear.gamma(times).clamp(gamma_0, gamma_1)
