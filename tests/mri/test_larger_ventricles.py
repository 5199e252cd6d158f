"""A small model, trained here on the middle of ageing heads: asking for larger ventricles gives larger ventricles."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from medmol_diffusion.mri import HaarStage, UNet3D, VolumeDiffusion
from medmol_diffusion.mri.batch import VolumeBatch
from medmol_diffusion.mri.judge.anatomy import ventricle_volume
from medmol_diffusion.mri.phantom import head_phantom
from medmol_diffusion.mri.transforms import Augmentation, Grid
from medmol_diffusion.mri.volume_module import VolumeModule
from medmol_diffusion.mri.volume_set import Scans
from medmol_diffusion.training.validation import validate_model

SHAPE, SPACING = (12, 16, 12), 8.0  # the middle 96 x 128 x 96 mm of a head
HEADS, STEPS, RATE = 200, 300, 3e-3
SMALL, LARGE, SEEDS = 20.0, 70.0, 6  # ml, near the 10th and the 90th percentile of the training heads


class Middles(VolumeModule):
    """T1w phantoms of all ages, and the ventricles that each truly has."""

    def load(self) -> Scans:
        ages = np.random.default_rng(0).uniform(size=HEADS)
        heads = [head_phantom(i, SHAPE, SPACING, noise=0.01, bias=0.0, atrophy=age) for i, age in enumerate(ages)]
        grid, names = Grid(SHAPE, upper=100), [f"head-{i:03d}" for i in range(HEADS)]
        scans = Scans.stack([grid.prepare(head.volume) for head in heads], names, names, 256)
        scans.covariates = [{"ventricles": str(head.ventricles)} for head in heads]
        return scans

    def batches(self) -> Iterator[VolumeBatch]:
        """Epoch after epoch."""
        loader = self.train_dataloader()
        while True:
            yield from loader


@pytest.fixture(scope="module")
def heads() -> Middles:
    data = Middles(list(SHAPE), 256, 0.0, 0.2, 0, 8, Augmentation((0,)), 0, upper_percentile=100)
    data.setup()
    return data


@pytest.fixture(scope="module")
def trained(heads: Middles) -> VolumeDiffusion:
    torch.manual_seed(0)
    shape = list(SHAPE)
    # One window, the whole grid: the network is told where each place lies.
    model = VolumeDiffusion(
        shape,
        HaarStage(1),
        network=UNet3D(16 + 3, 16, [48], 1, embedding_dim=2),
        spacing=SPACING,
        gamma_mean=1.0,
        gamma_std=2.5,
        covariates={"ventricles": None},
        window=shape,
        upper_percentile=100,
    )
    model.prepare(heads)
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=0)
    for step, batch in zip(range(STEPS), heads.batches(), strict=False):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        optimiser.zero_grad()
        model.loss(batch, torch.Generator().manual_seed(step)).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    return model.eval()


@pytest.mark.parametrize(("guidance", "least"), [(1.0, 4.0), (2.0, 8.0)])
def test_asking_for_larger_ventricles_gives_larger_ventricles(
    trained: VolumeDiffusion, guidance: float, least: float
) -> None:
    """50 ml are asked for, of which so brief a training gives a part. Every seed gains; the mean gain is above 0 by
    three standard errors over the seeds."""
    how = {"steps": 12, "seed": 1, "batch_size": SEEDS}
    small, large = (
        np.array([ventricle_volume(scan, "T1w") for scan in scans])
        for scans in (
            trained.sample(SEEDS, covariates={"ventricles": ml}, guidance=guidance, **how) for ml in (SMALL, LARGE)
        )
    )
    gain = large - small
    assert gain.min() > 0
    assert gain.mean() > least
    assert gain.mean() > 3 * gain.std(ddof=1) / SEEDS**0.5


def test_the_bound_of_heads_is_lower_where_their_ventricles_are_known(trained: VolumeDiffusion, heads: Middles) -> None:
    plain, given = (
        validate_model(trained, heads, "test", steps=0, draws=4, seed=0, conditional=conditional).total
        for conditional in (False, True)
    )
    gain = plain - given
    assert gain.mean() > 2 * gain.std() / len(gain) ** 0.5
