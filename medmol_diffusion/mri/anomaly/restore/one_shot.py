"""one_shot: the healthy version in one call of the network."""

from dataclasses import dataclass

import torch

from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.method import Restored
from medmol_diffusion.mri.anomaly.setting import Setting


@dataclass(frozen=True)
class OneShot:
    """E[v | z] at one noise level, or the mean over several (Kascenas et al. 2023; Behrendt et al. 2024).

    Attributes:
        gammas: the noise levels; 2.46 is t = 500 of 1000.
    """

    gammas: tuple[float, ...] = (2.46,)

    def __call__(self, setting: Setting, exam: Exam) -> Restored:
        streams = setting.streams(exam)
        state = setting.state(exam, streams)
        found = []
        for gamma in self.gammas:
            solver = setting.solver(setting.gammas(gamma, 0), "ddim", state.known)
            found.append(setting.scans(solver.vary(state.space, state.x, streams, state.known), state))
        return Restored(torch.stack(found).mean(0))
