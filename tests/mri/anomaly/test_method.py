"""Stages of anomaly methods: each by itself, and composed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pytest
import torch
from torch import Tensor

from medmol_diffusion.mri import HaarStage, UNet3D, VolumeBatch, VolumeDiffusion
from medmol_diffusion.mri.anomaly import METHODS, Exam, Method, Restored, Setting
from medmol_diffusion.mri.anomaly.method import harmonic_mean
from medmol_diffusion.mri.anomaly.postprocess import Cleaned
from medmol_diffusion.mri.anomaly.residual import l1, l2
from medmol_diffusion.mri.anomaly.restore.one_shot import OneShot
from medmol_diffusion.mri.anomaly.restore.partial import Partial
from medmol_diffusion.mri.anomaly.score import TopShare

OF_OTHER_MODELS = {"autoencoder", "counterfactual", "counterfactual_otsu", "translate"}
SHAPE = [8, 8, 8]


def white(covariates: dict[str, list[str] | None] | None = None) -> Setting:
    """A model that knows scans as white noise round -0.3 of standard deviation 0.2, before any training."""
    torch.manual_seed(0)
    told = 2 if covariates else 0
    model = VolumeDiffusion(
        SHAPE, HaarStage(1), network=UNet3D(16, 16, [8], 1, embedding_dim=told), covariates=covariates
    )
    model.first_stage.spectrum.std.fill_(0.2)
    model.data_mean.fill_(-0.3)
    return Setting(model.eval())


def exam(count: int = 2, seed: int = 0) -> Exam:
    generator = torch.Generator().manual_seed(seed)
    data = -0.3 + 0.2 * torch.randn(count, 1, *SHAPE, generator=generator)
    mask = torch.ones_like(data, dtype=torch.bool)
    return Exam(VolumeBatch(data, mask, torch.arange(count), ["scan"] * count), mask)


def slope(restored: Tensor, exam: Exam) -> float:
    centred = exam.data + 0.3
    return float(((restored.detach() + 0.3) * centred).sum() / centred.square().sum())


@pytest.mark.parametrize("gammas", [(-2.0,), (-2.0, 1.0)])
def test_one_shot_is_the_posterior_mean(gammas: tuple[float, ...]) -> None:
    """E[v | z] at gamma of N(m, s^2): m + s^2 alpha / (alpha^2 s^2 + sigma^2) (z - alpha m)."""
    gain = np.mean([0.2**2 / (0.2**2 + math.exp(gamma)) for gamma in gammas])
    setting, scans = white(), exam(4)
    found = OneShot(gammas)(setting, scans)
    assert slope(found.scans, scans) == pytest.approx(gain, abs=0.06)


def test_partial_noise_keeps_what_its_level_keeps() -> None:
    """Sampled from q(z | v) back to p(v), a Gaussian is correlated with what it was by alpha^2 s^2 / (alpha^2 s^2 +
    sigma^2), squeezed through one z: the mean of draws has that slope."""
    gamma = -3.0
    gain = 0.2**2 / (0.2**2 + math.exp(gamma))
    setting, scans = white(), exam(2)
    found = Partial(gamma, steps=40, repeats=4)(setting, scans)
    assert slope(found.scans, scans) == pytest.approx(gain, abs=0.06)


def test_a_scan_is_restored_alike_alone_and_among_others() -> None:
    setting, scans = white(), exam(3)
    for restore in (OneShot(), Partial(steps=3)):
        together = restore(setting, scans).scans
        alone = restore(setting, Exam(scans.batch.take(torch.tensor([1])), scans.inside[1:2])).scans
        torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=0)


def test_repeats_have_noise_of_their_own() -> None:
    setting, scans = white(), exam(1)
    one, two = setting.streams(scans.repeated(2)).normals([4, 4], 1, torch.float64)
    assert not torch.equal(one, two)
    (alone,) = setting.streams(scans).normals([4], 1, torch.float64)
    assert torch.equal(one, alone)


def test_what_is_asked_of_the_healthy_reaches_the_network_and_guidance_doubles_it() -> None:
    setting = white({"age": None})
    covariates = setting.model.known_covariates()
    covariates.mean.fill_(0.0)
    covariates.std.fill_(1.0)
    with torch.no_grad():  # untrained, the network says nothing
        for weight in setting.model.network.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    scans = exam(1)

    def told(**asked: float) -> Tensor:
        known = Setting(setting.model, asked).known(scans, setting.streams(scans))
        assert known.numbers is not None
        return known.numbers

    assert told()[0, -1] == 0
    assert told(age=1.5)[0].tolist() == [1.5, 1.0]
    asked, guided, plain = (
        OneShot()(Setting(setting.model, healthy, guidance), scans).scans
        for healthy, guidance in (({"age": 1.5}, 1.0), ({"age": 1.5}, 2.0), ({}, 1.0))
    )
    assert (asked - plain).abs().max() > 1e-4
    torch.testing.assert_close(guided - asked, asked - plain, atol=1e-4, rtol=0)


def test_a_method_composes_its_stages_and_those_that_learn_see_the_healthy() -> None:
    @dataclass(frozen=True)
    class Mean:
        """The mean of the healthy scans."""

        scan: Tensor | None = None

        def fitted(self, setting: Setting, healthy: Sequence[Exam]) -> Self:
            return type(self)(torch.cat([one.data for one in healthy]).mean(0, keepdim=True))

        def __call__(self, setting: Setting, exam: Exam) -> Restored:
            assert self.scan is not None
            return Restored(self.scan.expand_as(exam.data), weight=torch.full_like(exam.data, 3.0))

    setting, scans, healthy = white(), exam(2), [exam(1, seed) for seed in (5, 6, 7)]
    method = Method(Mean(), l2, lambda exam, maps: maps + 1, TopShare(1.0)).fitted(setting, healthy)
    answer = method(setting, scans)
    mean = torch.cat([one.data for one in healthy]).mean(0, keepdim=True)
    torch.testing.assert_close(answer.maps, 3 * (scans.data - mean).square() + 1)
    torch.testing.assert_close(answer.scores, answer.maps.mean((1, 2, 3, 4)))


def test_versions_on_the_way_join_the_map_by_a_harmonic_mean() -> None:
    setting, scans = white(), exam(1)
    first, last = scans.data - 0.5, scans.data - 0.25
    method = Method(lambda setting, exam: Restored(last, (first,)), l1, lambda exam, maps: maps)
    torch.testing.assert_close(method(setting, scans).maps, torch.full_like(scans.data, 2 / (1 / 0.5 + 1 / 0.25)))
    assert harmonic_mean([torch.zeros(1), torch.ones(1)]).item() == pytest.approx(0, abs=1e-5)


def test_a_map_is_rid_of_specks_and_of_everything_outside() -> None:
    inside = np.zeros((50, 50, 50), dtype=bool)
    inside[10:40, 10:40, 10:40] = True
    anomaly = np.zeros(inside.shape, dtype=np.float32)
    anomaly[25, 25, 25] = 1.0  # a speck
    anomaly[20:26, 15:21, 15:21] = 1.0  # a lesion
    anomaly[:5] = 1.0  # outside
    found = Cleaned().clean(anomaly, inside)
    assert found[25, 25, 25] == 0
    assert found[22, 18, 18] == 1
    assert found[:10].max() == 0
    assert found[10:12].max() == 0  # 50 / 25 = 2 voxels are eroded


def test_the_score_is_the_mean_of_the_highest_share() -> None:
    values = torch.arange(1000.0).reshape(1, 1, 10, 10, 10)
    scans = Exam(VolumeBatch(values, values > -1, torch.arange(1), ["scan"]), values >= 10)
    assert TopShare()(white(), scans, values).item() == np.arange(990, 1000).mean()
    assert TopShare(1.0)(white(), scans, values).item() == np.arange(10, 1000).mean()


def test_every_method_has_a_name_and_an_answer() -> None:
    setting, scans, healthy = white(), exam(1), [exam(1, seed) for seed in (5, 6, 7)]
    for name in sorted(set(METHODS) - OF_OTHER_MODELS):
        method = METHODS[name]
        answer = method.fitted(setting, healthy)(setting, scans)
        assert answer.maps.shape == answer.restored.shape == scans.data.shape
        assert answer.scores.shape == (1,)
        assert answer.maps.min() >= 0
