"""One model, many frames: z = a x + s eps with a / s = e^(-gamma / 2), each a rescale of the variance-preserving one.

A state of another frame is z_frame = scale(gamma) z, scale = sqrt(a^2 + s^2). The latents are rescaled and not the
data, so no log-volume belongs to it: prior, diffusion and reconstruction are those of the common frame, whose prior
N(0, I) is N(0, scale^2 I) in the frame's own units. Sources: Karras et al. 2022, section 2 and appendix B; Kingma et
al. 2021, section 3.1.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from medmol_diffusion.core.denoiser import Denoiser, Prediction
from medmol_diffusion.core.parameterization import Eps, Parameterization, V, X
from medmol_diffusion.core.schedule import alpha, per_example, sigma
from medmol_diffusion.core.shapes import PerExample, State
from medmol_diffusion.core.space import Space


class Frame(ABC):
    """z = a x + s eps at every gamma, and the frame's own name for the noise level. All tensors are [B], float64.

    Attributes:
        needs_signal: it has no state at zero SNR (gamma = inf).
    """

    needs_signal: bool = False

    @abstractmethod
    def coefficients(self, gamma: PerExample) -> tuple[PerExample, PerExample]:
        """a and s."""

    @abstractmethod
    def level(self, gamma: PerExample) -> PerExample:
        """What the frame calls this noise level, and its networks are told."""

    def scale(self, gamma: PerExample) -> PerExample:
        """c = sqrt(a^2 + s^2), z_frame = c z."""
        return torch.hypot(*self.coefficients(gamma))


class VPFrame(Frame):
    """z = alpha x + sigma eps, the package's own; its level is gamma."""

    def coefficients(self, gamma: PerExample) -> tuple[PerExample, PerExample]:
        return alpha(gamma), sigma(gamma)

    def level(self, gamma: PerExample) -> PerExample:
        return gamma


class VEFrame(Frame):
    """z = x + s eps, s = e^(gamma / 2): variance exploding (Song et al. 2021), EDM (Karras et al. 2022).

    The level is s. At zero SNR the state is infinite.
    """

    needs_signal = True

    def coefficients(self, gamma: PerExample) -> tuple[PerExample, PerExample]:
        return torch.ones_like(gamma), self.level(gamma)

    def level(self, gamma: PerExample) -> PerExample:
        return torch.exp(gamma / 2)


class FlowFrame(Frame):
    """z = (1 - t) x + t eps, t = sigmoid(gamma / 2): rectified flow (Liu et al. 2022). The level is t."""

    def coefficients(self, gamma: PerExample) -> tuple[PerExample, PerExample]:
        return torch.sigmoid(-gamma / 2), self.level(gamma)

    def level(self, gamma: PerExample) -> PerExample:
        return torch.sigmoid(gamma / 2)


class SubVPFrame(Frame):
    """z = e^(-B / 2) x + (1 - e^-B) eps (Song et al. 2021, eq. 29); the level is B, the integral of beta.

    gamma = 2 log(2 sinh(B / 2)), so B = 2 asinh(e^(gamma / 2) / 2).
    """

    def coefficients(self, gamma: PerExample) -> tuple[PerExample, PerExample]:
        b = self.level(gamma)
        return torch.exp(-b / 2), -torch.expm1(-b)

    def level(self, gamma: PerExample) -> PerExample:
        return 2 * torch.asinh(torch.exp(gamma / 2) / 2)


NativeDenoiser = Callable[[Tensor, Tensor, Any], Tensor]
OUTPUTS = ("x", "eps", "velocity", "score")


class FramedDenoiser(Denoiser):
    """A denoiser written in another frame, as one of ours: native(z_frame, level, condition) -> output.

    | output | is | read here as |
    |---|---|---|
    | x | E[x given z] | X |
    | eps | E[eps given z] | Eps |
    | score | grad log p(z_frame) = -eps / s | Eps |
    | velocity | E[eps - x given z], rectified flow's dz / dt | V |

    With u = eps - x and z_frame = a x + s eps, alpha eps - sigma x = ((alpha - sigma) z_frame + c u) / (a + s): nothing
    divides by alpha or by sigma.

    Args:
        native: the function or network; z_frame [B, ...], level [B] in the dtype of z_frame.
        frame: where it was written.
        output: what it returns, one of OUTPUTS.

    Raises:
        ValueError: an unknown output.
    """

    def __init__(self, native: NativeDenoiser | nn.Module, frame: Frame, output: str = "x") -> None:
        super().__init__()
        if output not in OUTPUTS:
            raise ValueError(f"unknown output '{output}': choose one of {', '.join(OUTPUTS)}")
        self.native, self.frame, self.output = native, frame, output

    @property
    def needs_signal(self) -> bool:
        return self.frame.needs_signal or self.output in ("eps", "score")

    def forward(self, z: State, gamma: PerExample, space: Space, condition: Any = None) -> Prediction:
        state = per_example(self.frame.scale(gamma), z) * z
        told = self.native(state, self.frame.level(gamma).to(z), condition)
        output, parameterization = self._read(told, state, gamma)
        return Prediction(output, z, gamma, parameterization, space)

    def _read(self, told: Tensor, state: Tensor, gamma: Tensor) -> tuple[Tensor, Parameterization]:
        a, s = self.frame.coefficients(gamma)
        if self.output == "x":
            return told, X()
        if self.output == "eps":
            return told, Eps()
        if self.output == "score":
            return -per_example(s, told) * told, Eps()
        of_state = per_example((alpha(gamma) - sigma(gamma)) / (a + s), told)
        return of_state * state + per_example(self.frame.scale(gamma) / (a + s), told) * told, V()
