"""translate: the scan that other contrasts of the same head foretell."""

from dataclasses import dataclass

from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.method import Restored
from medmol_diffusion.mri.anomaly.setting import Setting
from medmol_diffusion.mri.tasks.translation import Translation


@dataclass(frozen=True)
class Translate:
    """E[v | other contrasts], by a model of Translation of healthy heads: of the scan itself nothing is used, so that
    what only it shows stands out. In one call from pure noise (t = 1), or as the mean of draws from p(v | contrasts).

    Attributes:
        steps: of a draw; 0 for the one call.
        draws: how many draws are averaged.
        sampler: a name in core.STEPPERS.

    Raises:
        InputError: a model of something else, or a scan without the contrasts that it translates.
    """

    steps: int = 0
    draws: int = 1
    sampler: str = "ddim"

    def __call__(self, setting: Setting, exam: Exam) -> Restored:
        setting.task(Translation)
        copies = exam.repeated(self.draws)
        streams = setting.streams(copies)
        state = setting.state(copies, streams)
        solver = setting.solver(setting.from_noise(self.steps), self.sampler, state.known)
        made = setting.scans(solver.sample(state.space, state.x, streams, state.known), state)
        return Restored(made.unflatten(0, (self.draws, len(exam))).mean(0))
