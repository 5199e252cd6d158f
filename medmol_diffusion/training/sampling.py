"""How samples of a model are drawn: the arguments that its generating methods share, in both domains."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

from medmol_diffusion.core import Stepper
from medmol_diffusion.core.guidance import Interval
from medmol_diffusion.training.solver import Guide


class SamplingOptions(TypedDict, total=False):
    """Keyword arguments of every generating method; what is left out has the default of ``Sampling``.

    Keys:
        steps: transitions of the sampler; one more network call reads x_hat off z_0.
        sampler: a name in core.STEPPERS, or a stepper, core.DDIM(eta=0.5) for example.
        seed: of the random streams.
        spacing: of the grid, a name in core.GRIDS.
        progress: called with the number of samples finished, after every batch.
        guide: wraps the model's denoiser (core.Autoguidance, core.Classifier, ...).
        guidance: scale of classifier-free guidance (core.ClassifierFree); 1 is the conditional model.
        interval: levels (gamma_low, gamma_high) inside which guidance holds; everywhere when left out.
    """

    steps: int
    sampler: str | Stepper
    seed: int
    spacing: str
    progress: Callable[[int], None] | None
    guide: Guide | None
    guidance: float
    interval: Interval | None


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """SamplingOptions, each with its default."""

    steps: int
    sampler: str | Stepper
    seed: int = 0
    spacing: str = "time"
    progress: Callable[[int], None] | None = None
    guide: Guide | None = None
    guidance: float = 1.0
    interval: Interval | None = None
