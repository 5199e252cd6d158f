"""Models of scans whose denoiser is exact, and scans with something in them that these do not know."""

import torch
from torch import Tensor

from medmol_diffusion.core import Denoiser, GaussianDenoiser
from medmol_diffusion.mri import HaarStage, IdentityStage, UNet3D, VolumeBatch, VolumeDiffusion
from medmol_diffusion.mri.anomaly import Exam, Setting
from medmol_diffusion.mri.tasks.task import Task

SHAPE = [8, 8, 8]
MEAN, STD = -0.25, 0.02


class Exact(VolumeDiffusion):
    """Voxels round MEAN, diffused as they are, in float64; the denoiser is given."""

    def __init__(self, oracle: Denoiser, covariates: dict[str, list[str] | None] | None = None) -> None:
        network = UNet3D(1, 1, [8], 1, embedding_dim=2 if covariates else 0)
        super().__init__(SHAPE, IdentityStage(), network=network, covariates=covariates)
        self.data_mean.fill_(MEAN)
        self.double().eval().requires_grad_(False)
        self.oracle = oracle

    @property
    def denoiser(self) -> Denoiser:  # type: ignore[override]
        return self.oracle


def gaussian(low: float = 0.005, high: float = 0.05) -> GaussianDenoiser:
    """Independent voxels of different variances."""
    return GaussianDenoiser(torch.linspace(low, high, 512, dtype=torch.float64))


def drawn(denoiser: GaussianDenoiser, count: int = 2) -> Exam:
    """Scans that the model is exact for."""
    x = denoiser.sample(torch.empty(count, 512, dtype=torch.float64), torch.Generator().manual_seed(0))
    return exam_of(MEAN + x.view(count, 1, *SHAPE))


def exam_of(data: Tensor, images: dict[str, Tensor] | None = None) -> Exam:
    mask = torch.ones_like(data, dtype=torch.bool)
    count = len(data)
    return Exam(VolumeBatch(data, mask, torch.arange(count), ["scan"] * count, images=images or {}), mask)


def certain(task: Task | None = None) -> Setting:
    """A model that expects STD round MEAN, or round what a task guesses, and so takes for healthy little else."""
    torch.manual_seed(0)
    channels = 16 + (0 if task is None else 8 * task.channels)
    model = VolumeDiffusion(SHAPE, HaarStage(1), network=UNet3D(channels, 16, [8], 1), task=task)
    model.first_stage.spectrum.std.fill_(STD)
    if task is None:
        model.data_mean.fill_(MEAN)
    return Setting(model.eval().requires_grad_(False))


BLOB = (slice(None), slice(None), slice(2, 6), slice(2, 6), slice(3, 6))


def scans(count: int = 2, seed: int = 0, blob: float = 0.0) -> Exam:
    """Scans of MEAN and STD, brighter in BLOB."""
    data = MEAN + STD * torch.randn(count, 1, *SHAPE, generator=torch.Generator().manual_seed(seed))
    data[BLOB] += blob
    return exam_of(data)


def healthy() -> list[Exam]:
    return [scans(1, seed) for seed in (5, 6, 7)]


def in_blob(data: Tensor) -> Tensor:
    """bool, of the shape of scans."""
    mask = torch.zeros_like(data, dtype=torch.bool)
    mask[BLOB] = True
    return mask
