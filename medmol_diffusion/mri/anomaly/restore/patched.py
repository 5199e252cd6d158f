"""patched: one box after the other is noised, in the clean context of the rest."""

from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from torch import Tensor

from medmol_diffusion.core import Streams, diffuse
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.method import Restored
from medmol_diffusion.mri.anomaly.restore.region import remade
from medmol_diffusion.mri.anomaly.setting import Setting
from medmol_diffusion.mri.known import box_round
from medmol_diffusion.mri.tasks.inpainting import Inpainting


@dataclass(frozen=True)
class Patched:
    r"""The box round what is looked at is cut into boxes; each is restored in one call, and they are pasted together
    (pDDPM, Behrendt et al. 2023, Patched diffusion models for unsupervised anomaly detection in brain MRI).

    A model of Inpainting is given the rest of the scan as it was in training, and the box at ``gamma``. For one of
    scans alone the box is noised in the state, $z = \alpha x + \sigma P \varepsilon$ with P the projection onto what
    lives in the box; a state that is noisy in one place only is nothing it has seen in training.

    Attributes:
        gamma: the noise level; 1.42 is t = 400 of 1000.
        boxes: along each axis: boxes^3 network calls.

    Raises:
        InputError: fewer than one box.
    """

    gamma: float = 1.42
    boxes: int = 3

    def __post_init__(self) -> None:
        if self.boxes < 1:
            raise InputError(f"boxes = {self.boxes} must be at least 1: how many along each axis")

    def __call__(self, setting: Setting, exam: Exam) -> Restored:
        restored = self._of_the_rest if isinstance(setting.model.task, Inpainting) else self._in_the_state
        return Restored(restored(setting, exam, setting.streams(exam)))

    def _of_the_rest(self, setting: Setting, exam: Exam, streams: Streams) -> Tensor:
        found = exam.data
        for box in self.cut(exam.inside):
            found = torch.where(box, remade(exam, box, streams, partial(self._box, setting)), found)
        return found

    def _box(self, setting: Setting, exam: Exam, box: Tensor, streams: Streams) -> Tensor:
        state = setting.concealed(exam, box, streams)
        solver = setting.solver(setting.gammas(self.gamma, 0), "ddim", state.known)
        return setting.scans(solver.vary(state.space, state.x, streams, state.known), state)

    def _in_the_state(self, setting: Setting, exam: Exam, streams: Streams) -> Tensor:
        state = setting.state(exam, streams)
        solver = setting.solver(setting.gammas(self.gamma, 0), "ddim", state.known)
        eps = state.space.noise(state.x, streams)
        level = solver.gammas[0].to(eps.device).expand(len(eps))
        found = exam.data
        for box in self.cut(exam.inside):
            noisy = ~setting.model.first_stage.known(~box)
            z = diffuse(state.x, state.space.restrict(eps, noisy), level)
            made = setting.scans(solver.denoise(state.space, z, streams, state.known), state)
            found = torch.where(box, made, found)
        return found

    def cut(self, inside: Tensor) -> list[Tensor]:
        """The boxes^3 parts, bool (B, 1, X, Y, Z), of the boxes round masks of that shape. Together they hold every
        voxel of these once; one is empty where a side has fewer voxels than there are boxes."""
        whole = box_round(inside)
        sides = []
        for axis in (2, 3, 4):
            along = whole.amax([a for a in (2, 3, 4) if a != axis], keepdim=True)
            place, length = along.cumsum(axis) - 1, along.sum(axis, keepdim=True)
            sides.append(place * self.boxes // length.clamp(min=1))
        x, y, z = sides
        return [whole & (x == i) & (y == j) & (z == k) for i, j, k in product(range(self.boxes), repeat=3)]
