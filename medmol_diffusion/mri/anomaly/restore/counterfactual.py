"""counterfactual: the scan's own noise, denoised towards the healthy."""

from dataclasses import dataclass, replace

from torch import Tensor

from medmol_diffusion.core import Classifier, Denoiser, sample, stepper_named
from medmol_diffusion.core.guidance import LogProb
from medmol_diffusion.core.schedule import alpha, per_example
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.method import Restored
from medmol_diffusion.mri.anomaly.setting import Setting, State
from medmol_diffusion.mri.known import Known


@dataclass(frozen=True)
class Counterfactual:
    r"""DDIM inversion of the scan to ``gamma``, and DDIM back guided to the healthy: what the scan would be if it were
    healthy, all else equal (Wolleb et al. 2022; Sanchez et al. 2022 for guidance without a classifier).

    The flow begins at $z_0 = \alpha_0 x$ and what it brings back is $z_0 / \alpha_0$, so that without guidance, by the
    exact flow, the scan itself returns. The map is what guidance changes.

    Attributes:
        gamma: how far up; 2.46 is t = 500 of 1000.
        steps: in each direction; each step back calls the network twice.
        guidance: scale of classifier-free guidance, where the setting has none of its own.
        classifier: log p(healthy | z), (z, gamma [B], space, known) -> [B], of noisy states; it guides a model of any
            covariates or none in the place of classifier-free guidance.
        classifier_scale: of that guidance.
        told: whether the scan's own covariates are told on the way up; nothing is when left out.
        sampler: a name in core.STEPPERS that draws no noise.

    Raises:
        InputError: a sampler that draws noise, or neither a classifier nor a word on what healthy is.
    """

    gamma: float = 2.46
    steps: int = 50
    guidance: float = 3.0
    classifier: LogProb | None = None
    classifier_scale: float = 100.0
    told: bool = False
    sampler: str = "ddim"

    def __post_init__(self) -> None:
        if not stepper_named(self.sampler).inverts:
            raise InputError(f"sampler {self.sampler} draws noise and cannot invert: take ddim, heun or unipc")

    def __call__(self, setting: Setting, exam: Exam) -> Restored:
        streams = setting.streams(exam)
        state = setting.state(exam, streams)
        back = self._guided(setting, state)
        gammas, stepper = setting.gammas(self.gamma, self.steps), stepper_named(self.sampler)
        scale = per_example(alpha(gammas[-1:]), state.x)
        own = self._own(setting, exam, state.known)
        z = sample(setting.model.denoiser, stepper, gammas.flip(0), state.space, scale * state.x, streams, own)
        z = sample(back, stepper, gammas, state.space, z, streams, state.known)
        return Restored(setting.scans(z / scale, state))

    def _guided(self, setting: Setting, state: State) -> Denoiser:
        if self.classifier is not None:
            return Classifier(setting.model.denoiser, self.classifier, self.classifier_scale)
        if not setting.healthy:
            raise InputError(
                "counterfactual guides to the healthy: give a model of covariates and what is healthy, or a classifier"
            )
        guidance = self.guidance if setting.guidance == 1 else setting.guidance
        return replace(setting, guidance=guidance).denoiser(state.known)

    def _own(self, setting: Setting, exam: Exam, known: Known) -> Known:
        """What is told on the way up."""
        if not self.told:
            return known.plain()
        asked = setting.model.known_covariates()
        if not exam.batch.covariates:
            raise InputError("told = True tells the scans' own covariates, and they bring none: leave it out")
        numbers: Tensor = asked.encode(asked.of(exam.batch.covariates).to(setting.model.device))
        return known.asked(numbers)
