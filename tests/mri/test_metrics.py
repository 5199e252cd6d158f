import numpy as np
import pytest
import torch

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import metrics
from medmol_diffusion.mri.volume import Volume


def test_scores_tell_good_samples_from_blurred_and_repeated_ones() -> None:
    generator = torch.Generator().manual_seed(0)

    def scans(count: int) -> torch.Tensor:
        return torch.rand(count, 16, 16, 16, generator=generator) * 2 - 1

    real, good = scans(24), scans(24)
    blurred = torch.nn.functional.avg_pool3d(good[:, None], 3, stride=1, padding=1)[:, 0]
    scored = {
        name: metrics.score_volumes(x, real, draws=40)
        for name, x in {"good": good, "blurred": blurred, "repeated": good[:1].repeat(24, 1, 1, 1)}.items()
    }
    assert scored["good"].mmd.low < 0 < scored["good"].mmd.high
    assert scored["blurred"].mmd.low > scored["good"].mmd.high
    assert scored["blurred"].frechet.low > scored["good"].frechet.high
    assert scored["repeated"].ms_ssim.value == pytest.approx(1, abs=1e-5)
    assert scored["good"].ms_ssim.value == pytest.approx(scored["good"].ms_ssim_reference.value, abs=0.02)
    report = scored["good"].to_dict()
    assert report["frechet"]["low"] <= report["frechet"]["value"] <= report["frechet"]["high"]
    assert any(scored["good"].extractor_hash[:12] in row[2] for row in scored["good"].rows())
    with pytest.raises(InputError, match="put both on one grid"):
        metrics.score_volumes(good, real[:, :8])


def test_scores_take_scans_of_any_grid() -> None:
    rng = np.random.default_rng(0)
    volumes = [
        Volume(rng.uniform(0, 900, (14 + i % 2, 16, 15)), np.diag([-1.0 if i % 3 else 1.0, 1.0, 1.0, 1.0]))
        for i in range(8)
    ]
    scores = metrics.score_volumes(volumes[:4], volumes[4:], draws=5)
    assert (scores.generated, scores.reference, scores.scales) == (4, 4, 2)
    with pytest.raises(TypeError, match="not one of each"):
        metrics.score_volumes(volumes, torch.zeros(2, 8, 8, 8))


def test_auroc_auprc_and_dice_against_a_hand_count() -> None:
    score = np.array([0.9, 0.8, 0.8, 0.3, 0.1, 5.0])
    truth = np.array([1, 0, 1, 1, 0, 0], dtype=bool)
    mask = np.array([1, 1, 1, 1, 1, 0], dtype=bool)
    # Lesion scores .9 .8 .3 against healthy .8 .1: wins 2 + (1/2 + 1) + (0 + 1) of 6.
    assert metrics.auroc(score, truth, mask) == pytest.approx(4.5 / 6)
    # Thresholds .9: precision 1, recall 1/3; .8: 2/3 at 2/3; .3: 3/4 at 1; .1: no more.
    assert metrics.auprc(score, truth, mask) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert metrics.dice(score >= 0.8, truth, mask) == pytest.approx(2 * 2 / (3 + 3))
    assert metrics.best_dice(score, truth, mask) == (pytest.approx(2 * 3 / (4 + 3)), 0.3)
    assert metrics.auroc(-score, truth, mask) == pytest.approx(1.5 / 6)
    healthy = np.zeros_like(truth)
    for value in (metrics.auroc(score, healthy), metrics.auprc(score, healthy), metrics.best_dice(score, healthy)[0]):
        assert np.isnan(value)
    assert np.isnan(metrics.dice(healthy, healthy))
    with pytest.raises(InputError, match="put all on one grid"):
        metrics.auroc(score, truth[:3])


def test_auroc_and_auprc_agree_with_torchmetrics() -> None:
    from torchmetrics.functional.classification import binary_auroc, binary_average_precision

    rng = np.random.default_rng(0)
    truth = rng.random(400) < 0.1
    score = np.round(np.clip(rng.normal(0.3 + 0.2 * truth, 0.15), 0, 1), 2)  # many ties
    tensors = torch.from_numpy(score), torch.from_numpy(truth).long()
    assert metrics.auroc(score, truth) == pytest.approx(float(binary_auroc(*tensors)), abs=1e-6)
    assert metrics.auprc(score, truth) == pytest.approx(float(binary_average_precision(*tensors)), abs=1e-6)


def test_bootstrap_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    for method in ("percentile", "centred"):
        hits = 0
        for seed in range(100):
            x = rng.standard_normal(40)
            interval = metrics.bootstrap(lambda i, x=x: x[i].mean(), 40, draws=200, seed=seed, method=method)
            assert interval.low < interval.value < interval.high
            hits += interval.low < 0 < interval.high
        assert 86 <= hits <= 100
