"""The bound on -log p of a scan, voxel by voxel, over a band of noise levels."""

from dataclasses import dataclass

import torch
from torch import Tensor

from medmol_diffusion.core.elbo import diffuse
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.setting import Setting


@dataclass(frozen=True)
class BoundMap:
    r"""The diffusion term of the bound over a band of noise levels, in nats of every voxel.

    $\tfrac12 \int_{low}^{high} E_\epsilon (\epsilon - \hat\epsilon)_i^2 \, d\gamma$, where i is a voxel (Kingma et al.
    2021, section 5, whose integral over the whole schedule is the diffusion term; Pinaya et al. 2022 take the band).
    The sum over voxels is the band's share of the term, the same on every schedule. Each of ``draws`` midpoints of
    equal parts of the band has noise of its own. The healthy version is not looked at; the model is asked for
    the healthy, without guidance, under which there is no bound.

    The latents of an autoencoder lie in blocks of voxels: the nats of a latent are shared evenly by its block.

    Attributes:
        low, high: gammas; 1.42 and 3.63 are t = 400 and 600 of 1000.
        draws: calls of the network.

    Raises:
        InputError: an empty band, or no draw.
    """

    low: float = 1.42
    high: float = 3.63
    draws: int = 8

    def __post_init__(self) -> None:
        if not self.low < self.high or self.draws < 1:
            raise InputError(f"a band from {self.low} to {self.high} of {self.draws} draws: low < high, and at least 1")

    def __call__(self, setting: Setting, exam: Exam, restored: Tensor) -> Tensor:
        streams = setting.streams(exam)
        state = setting.state(exam, streams)
        width = (self.high - self.low) / self.draws
        found = torch.zeros_like(exam.data)
        for k in range(self.draws):
            eps = state.space.noise(state.x, streams)
            gamma = torch.full((len(exam),), self.low + (k + 0.5) * width, dtype=torch.float64, device=state.x.device)
            prediction = setting.model.denoiser(diffuse(state.x, eps, gamma), gamma, state.space, state.known)
            error = state.space.localise(prediction.eps_error(state.x, eps))
            found += 0.5 * width * self._of_voxels(error.square().sum(1, keepdim=True), exam)
        return found

    def _of_voxels(self, local: Tensor, exam: Exam) -> Tensor:
        """(B, 1, x, y, z) places -> (B, 1, X, Y, Z) voxels, the sums kept."""
        factor = -(-exam.data.shape[2] // local.shape[2])
        for axis in (2, 3, 4):
            local = local.repeat_interleave(factor, axis)
        return local / factor**3
