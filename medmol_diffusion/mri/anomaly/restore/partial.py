"""partial: noised part of the way, and denoised again."""

from dataclasses import dataclass

from torch import Tensor

from medmol_diffusion.core import Streams, diffuse
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.method import Restored
from medmol_diffusion.mri.anomaly.setting import Setting, State
from medmol_diffusion.mri.anomaly.simplex import Simplex


@dataclass(frozen=True)
class Partial:
    """Noise to ``gamma`` and sample from there to the data; the mean of ``repeats``, which run as one batch (AnoDDPM,
    Wyatt et al. 2022).

    Simplex noise is one of voxels and goes through the first stage's orthonormal map to the state. Wyatt et al. train
    their network on it; a model trained on Gaussian noise does not know it. Its coarse octaves hold most of its
    variance, far above that of white noise at those frequencies, and such a model takes a part of them for anatomy and
    keeps it. Later steps of a random sampler draw Gaussian noise.

    Attributes:
        gamma: the noise level; -0.09 is t = 250 of 1000.
        steps: of the sampler.
        sampler: a name in core.STEPPERS.
        repeats: how often, with noise of its own each time.
        noise: what the scan is noised with; Gaussian when left out.

    Raises:
        InputError: simplex noise, and a model of latents.
    """

    gamma: float = -0.09
    steps: int = 25
    sampler: str = "ancestral"
    repeats: int = 3
    noise: Simplex | None = None

    def __call__(self, setting: Setting, exam: Exam) -> Restored:
        copies = exam.repeated(self.repeats)
        streams = setting.streams(copies)
        state = setting.state(copies, streams)
        solver = setting.solver(setting.gammas(self.gamma, self.steps), self.sampler, state.known)
        level = solver.gammas[0].to(state.x.device).expand(len(copies))
        z = diffuse(state.x, self._eps(state, copies, streams), level)
        restored = setting.scans(solver.denoise(state.space, z, streams, state.known), state)
        return Restored(restored.unflatten(0, (self.repeats, len(exam))).mean(0))

    def _eps(self, state: State, exam: Exam, streams: Streams) -> Tensor:
        space = state.space
        if self.noise is None:
            return space.noise(state.x, streams)
        if space.localise(state.x).shape != exam.data.shape:
            raise InputError("simplex noise is one of voxels and the model diffuses latents: choose the method partial")
        _, _, x, y, z = exam.data.shape
        return space.project(space.delocalise(self.noise((x, y, z), streams).to(state.x)))
