"""Generation round what is given, by a model that is shown it."""

from typing import Any

from medmol_diffusion.core.denoiser import Denoiser, Prediction
from medmol_diffusion.core.schedule import alpha, per_example
from medmol_diffusion.core.shapes import PerExample, State
from medmol_diffusion.core.space import Space


class Given(Denoiser):
    r"""A denoiser of x whose part P x is given, as one of the rest, (I - P) x.

    The rest is diffused in its own space, which carries no noise where something is given; the denoiser inside sees
    z + alpha P x: a state whose given part is clean. If it was trained to, x_hat is E[(I - P) x | z, P x], and every
    sampler and every bound on that space is one of p(rest | given), with no correction (contrast core.inpaint, which
    any denoiser serves and which is not exact).

    Args:
        denoiser: of whole states.
        given: P x [B, ...].
    """

    def __init__(self, denoiser: Denoiser, given: State) -> None:
        super().__init__()
        self.denoiser, self.given = denoiser, given

    def forward(self, z: State, gamma: PerExample, space: Space, condition: Any = None) -> Prediction:
        """Args: z and space of the rest."""
        return self.denoiser(z + per_example(alpha(gamma), z) * self.given, gamma, space, condition)
