"""Scores of a scan, and ensembles of methods: each against its closed form."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly import Exam, Method, Restored, Setting
from medmol_diffusion.mri.anomaly.ensemble import Ensemble
from medmol_diffusion.mri.anomaly.method import harmonic_mean
from medmol_diffusion.mri.anomaly.postprocess import Cleaned
from medmol_diffusion.mri.anomaly.residual import l1, l2, structure
from medmol_diffusion.mri.anomaly.restore.one_shot import OneShot
from medmol_diffusion.mri.anomaly.restore.partial import Partial
from medmol_diffusion.mri.anomaly.score import Bound, Curvature, Deviation, MultiStart, TopShare
from tests.mri.anomaly.test_method import exam, white

AS_IT_IS = Cleaned(median=1, rim=0.0)


def one_of(scans: Exam, row: int) -> Exam:
    rows = torch.tensor([row])
    return Exam(scans.batch.take(rows), scans.inside[rows])


def healthy(count: int = 4) -> list[Exam]:
    return [exam(1, seed) for seed in range(20, 20 + count)]


SCORES = {
    "bound": Bound(draws=2),
    "curvature": Curvature(steps=3),
    "deviation": Deviation(Curvature(steps=3)),
    "many starts": MultiStart((Partial(-2.0, 2, "plms", 1), OneShot((1.0,)))),
}


@pytest.mark.parametrize("name", sorted(SCORES))
def test_a_scan_has_the_same_score_alone_and_among_others(name: str) -> None:
    setting, scans = white(), exam(3)
    method = Method(OneShot(), score=SCORES[name]).fitted(setting, healthy())
    together, alone = method(setting, scans).scores, method(setting, one_of(scans, 1)).scores
    assert together.shape == (3,)
    torch.testing.assert_close(together[1:2], alone, atol=1e-4, rtol=1e-4)


def test_the_bound_is_that_of_the_model_in_bits_of_every_counted_voxel() -> None:
    setting, scans = white(), exam(2)
    found = Bound(draws=4)(setting, scans, scans.data)
    torch.testing.assert_close(found, setting.model.elbo(scans.batch, draws=4).bits_per_dim)


def test_the_bound_is_that_of_a_scan_that_is_healthy() -> None:
    setting = white({"age": None})
    with torch.no_grad():  # untrained, the network says nothing
        for weight in setting.model.network.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    scans = exam(1)
    plain, old = (Bound(draws=2)(Setting(setting.model, asked), scans, scans.data) for asked in ({}, {"age": 2.0}))
    assert (plain - old).abs().max() > 1e-4


def test_a_louder_scan_takes_more_bits() -> None:
    setting, scans = white(), exam(1)
    loud = Exam(exam(1).batch, scans.inside)
    loud.batch.data.add_(0.3).mul_(2).sub_(0.3)
    quiet, found = (Bound(draws=40)(setting, one, one.data).item() for one in (scans, loud))
    # 1/2 (v - m)^2 / s^2 with a variance of 4 s^2 instead of s^2: 3/2 nats a voxel.
    assert found - quiet == pytest.approx(1.5 / math.log(2), rel=0.1)


def test_a_path_of_one_point_is_straight() -> None:
    """Data that are all the mean: eps_hat = z / sigma, which stays what it is along the flow."""
    setting, scans = white(), exam(2)
    setting.model.first_stage.spectrum.std.fill_(1e-7)
    bent = Curvature(steps=5)(white(), scans, scans.data)
    assert Curvature(steps=5)(setting, scans, scans.data).max() < 1e-3 * bent.min()


def test_the_curvature_of_white_noise_follows_its_flow() -> None:
    """eps_hat = sigma_t z_t / D_t and z_t = z_0 sqrt(D_t / D_0), D = alpha^2 s^2 + sigma^2: eps_hat = z_0 sigma_t /
    sqrt(D_t D_0), with z_0 = alpha_0 x."""
    setting, scans = white(), exam(2)
    score = Curvature(steps=400)
    found = score(setting, scans, scans.data)
    times, gammas = score.levels(-10.0, 10.0)
    alpha2, sigma2 = torch.sigmoid(-gammas), torch.sigmoid(gammas)
    total = alpha2 * 0.2**2 + sigma2
    direction = (alpha2[0] * sigma2 / (total * total[0])).sqrt()
    bend = (direction.diff() / times.diff()).square().mean().sqrt()
    x = (scans.data.double() + 0.3).square().flatten(1).mean(1).sqrt()
    torch.testing.assert_close(found, bend * x, rtol=0.02, atol=0)


def test_the_time_of_curvature_is_not_the_schedules() -> None:
    times, gammas = Curvature(steps=4).levels(-10.0, 10.0)
    assert [times[0].item(), times[-1].item()] == pytest.approx([0.0, 1.0], abs=0.01)
    assert (gammas.min() >= -10, gammas.max() <= 10) == (True, True)
    assert gammas[2].item() == pytest.approx(2.46, abs=0.05)  # t = 500 of 1000


def test_deviation_is_the_distance_from_the_healthy_mean_on_either_side() -> None:
    def level(setting: Setting, exam: Exam, maps: Tensor) -> Tensor:
        return exam.data.flatten(1).mean(1)

    setting = white()
    scans = [exam(1, seed) for seed in range(3)]
    for one, value in zip(scans, (1.0, 2.0, 3.0), strict=True):
        one.batch.data.fill_(value)
    fitted = Deviation(level).fitted(setting, scans)
    both = exam(2)
    both.batch.data[0], both.batch.data[1] = 5.0, 0.5
    torch.testing.assert_close(fitted(setting, both, both.data).float(), torch.tensor([3.0, 1.5]))
    with pytest.raises(InputError, match="--healthy"):
        Deviation(level)(setting, both, both.data)
    with pytest.raises(InputError, match="at least 2"):
        Deviation(level).fitted(setting, scans[:1])


@dataclass(frozen=True)
class Off:
    """Restores a scan as itself less so much."""

    amount: float

    def __call__(self, setting: Setting, exam: Exam) -> Restored:
        return Restored(exam.data - self.amount * (1 + exam.data.mean((1, 2, 3, 4), keepdim=True)))


def test_the_score_of_many_starts_is_a_mean_of_z_scores_whatever_the_metrics_units() -> None:
    setting, scans = white(), exam(2)
    fitted = MultiStart((Off(0.1), Off(0.5)), (l1,)).fitted(setting, healthy())
    levels = np.array([1 + one.data.mean().item() for one in healthy()])
    z = [(1 + scan.mean().item() - levels.mean()) / levels.std(ddof=1) for scan in scans.data]
    assert fitted(setting, scans, scans.data).tolist() == pytest.approx(z, rel=1e-3)
    loud = MultiStart((Off(0.1), Off(0.5)), (lambda s, e, r: 7 * l1(s, e, r),)).fitted(setting, healthy())
    torch.testing.assert_close(
        fitted(setting, scans, scans.data), loud(setting, scans, scans.data), rtol=1e-4, atol=1e-5
    )


def test_healthy_scans_have_many_start_scores_of_mean_zero_and_the_odd_one_a_high_one() -> None:
    setting, known = white(), healthy(6)
    fitted = MultiStart((OneShot((0.0,)), OneShot((2.0,))), (l2, structure)).fitted(setting, known)
    scores = torch.cat([fitted(setting, one, one.data) for one in known])
    assert scores.mean().item() == pytest.approx(0, abs=1e-6)
    odd = exam(1, seed=3)
    odd.batch.data[..., 2:6, 2:6, 2:6] = 1.0
    assert fitted(setting, odd, odd.data).item() > 3 * scores.max().item()


def test_scores_against_the_healthy_need_them() -> None:
    setting, scans = white(), exam(1)
    with pytest.raises(InputError, match="--healthy"):
        MultiStart((OneShot(),))(setting, scans, scans.data)
    with pytest.raises(InputError, match="at least 2"):
        MultiStart((OneShot(),)).fitted(setting, healthy(1))


def members() -> tuple[Method, Method]:
    return Method(OneShot((0.0,)), l1, AS_IT_IS), Method(OneShot((2.0,)), l2, AS_IT_IS)


def test_an_ensemble_joins_the_maps_of_its_members() -> None:
    setting, scans = white(), exam(2)
    first, second = (member(setting, scans).maps for member in members())
    for join, expected in (("mean", (first + second) / 2), ("harmonic", harmonic_mean([first, second]))):
        answer = Ensemble(members(), join, TopShare(1.0))(setting, scans)
        torch.testing.assert_close(answer.maps, expected)
        torch.testing.assert_close(answer.scores, expected.mean((1, 2, 3, 4)))
    restored = sum(member(setting, scans).restored for member in members()) / 2
    torch.testing.assert_close(answer.restored, restored)


def test_z_scores_are_joined_up_to_a_constant_and_forget_the_units_of_a_map() -> None:
    setting, scans, known = white(), exam(2), healthy()
    first, second = members()
    found = Ensemble((first, second)).fitted(setting, known)(setting, scans)
    z = []
    for member in (first, second):
        values = torch.cat([member(setting, one).maps[one.inside] for one in known])
        z.append((member(setting, scans).maps - values.mean()) / values.std(correction=0))
    constant = found.maps - (z[0] + z[1]) / 2
    assert constant.std().item() < 1e-5 * found.maps.std().item() + 1e-5
    loud = Method(first.restore, lambda s, e, r: 50 * l1(s, e, r), AS_IT_IS)
    torch.testing.assert_close(Ensemble((loud, second)).fitted(setting, known)(setting, scans).maps, found.maps)
    with pytest.raises(InputError, match="--healthy"):
        Ensemble((first, second))(setting, scans)


def test_a_joined_map_is_zero_where_nothing_is_looked_at() -> None:
    setting, scans, known = white(), exam(1), healthy()
    half = scans.inside.clone()
    half[..., 4:] = False
    for join in ("mean", "harmonic", "z"):
        maps = Ensemble(members(), join).fitted(setting, known)(setting, Exam(scans.batch, half)).maps
        assert maps[..., 4:].abs().max() == 0
        assert maps[..., :4].min() >= 0


def test_an_ensemble_is_the_same_in_any_batch_and_may_be_a_member() -> None:
    setting, scans, known = white(), exam(3), healthy()
    inner = Ensemble(members(), score=Deviation(Curvature(2)))
    fitted = Ensemble((inner, members()[0]), "mean", Deviation(Curvature(2))).fitted(setting, known)
    together, alone = fitted(setting, scans), fitted(setting, one_of(scans, 2))
    torch.testing.assert_close(together.maps[2:], alone.maps, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(together.scores[2:], alone.scores, atol=1e-4, rtol=1e-4)


def test_an_ensemble_without_members_or_of_an_unknown_join_is_refused() -> None:
    with pytest.raises(InputError, match="at least one member"):
        Ensemble(())
    with pytest.raises(InputError, match="harmonic"):
        Ensemble(members(), "median")
