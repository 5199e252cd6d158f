"""partial: noised part of the way, and denoised again."""

from dataclasses import dataclass

from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.method import Restored
from medmol_diffusion.mri.anomaly.setting import Setting


@dataclass(frozen=True)
class Partial:
    """Noise to ``gamma`` and sample from there to the data; the mean of ``repeats``, which run as one batch (AnoDDPM,
    Wyatt et al. 2022).

    Attributes:
        gamma: the noise level; -0.09 is t = 250 of 1000.
        steps: of the sampler.
        sampler: a name in core.STEPPERS.
        repeats: how often, with noise of its own each time.
    """

    gamma: float = -0.09
    steps: int = 25
    sampler: str = "ancestral"
    repeats: int = 3

    def __call__(self, setting: Setting, exam: Exam) -> Restored:
        copies = exam.repeated(self.repeats)
        streams = setting.streams(copies)
        state = setting.state(copies, streams)
        solver = setting.solver(setting.gammas(self.gamma, self.steps), self.sampler, state.known)
        restored = setting.scans(solver.vary(state.space, state.x, streams, state.known), state)
        return Restored(restored.unflatten(0, (self.repeats, len(exam))).mean(0))
