"""Pooled figures from counts between lesion scores: the same as from all voxels, for every draw of the bootstrap."""

import numpy as np
import pytest

from medmol_diffusion.judging.bootstrap import Bootstrap
from medmol_diffusion.mri.anomaly.evaluation import Lesions, Ranking
from medmol_diffusion.mri.metrics import auprc, auroc, best_dice


def units(count: int = 5, levels: int | None = 40) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Scores and lesions of units of different sizes; with levels, full of ties. The last has no lesion."""
    draw = np.random.default_rng(0)
    truth = [draw.random(300 + 50 * i) < (0.1 if i < count - 1 else 0) for i in range(count)]
    scores = [(draw.normal(size=len(t)) + 0.8 * t).astype(np.float32) for t in truth]
    return [s if levels is None else np.round(s * levels / 8) for s in scores], truth


@pytest.mark.parametrize("levels", [40, None])
def test_every_draw_has_the_figures_of_its_voxels(levels: int | None) -> None:
    scores, truth = units(levels=levels)
    ranking = Ranking.of(scores, truth)
    for weights in next(Bootstrap(5, draws=8).weights()):
        s, t = (
            np.concatenate([np.tile(one, int(w)) for one, w in zip(of, weights, strict=True)]) for of in (scores, truth)
        )
        assert ranking.auroc(weights) == pytest.approx(auroc(s, t), abs=1e-12)
        assert ranking.auprc(weights) == pytest.approx(auprc(s, t), abs=1e-12)
        assert ranking.best_dice(weights) == pytest.approx(best_dice(s, t)[0], abs=1e-12)
    inverted = Ranking.of([-s for s in scores], truth)
    ones = np.ones(5)
    assert inverted.auroc(ones) == pytest.approx(1 - ranking.auroc(ones), abs=1e-12)


def test_without_one_of_the_classes_there_is_no_figure() -> None:
    scores, truth = units()
    none = Ranking.of(scores, [np.zeros_like(t) for t in truth])
    assert all(np.isnan(figure(np.ones(5))) for figure in (none.auroc, none.auprc, none.best_dice))
    last = np.eye(5)[-1]
    ranking = Ranking.of(scores, truth)
    assert np.isnan(ranking.auroc(last))
    assert np.isnan(
        Ranking.of([s[t] for s, t in zip(scores, truth, strict=True)], [t[t] for t in truth]).auroc(np.ones(5))
    )


def test_fewer_thresholds_than_lesion_scores_cost_no_more_than_their_spacing() -> None:
    scores, truth = units(levels=None)
    exact = Ranking.of(scores, truth).auroc(np.ones(5))
    for limit in (20, 60):
        coarse = Ranking.of(scores, truth, limit)
        assert len(coarse.thresholds) == limit
        assert 0 <= exact - coarse.auroc(np.ones(5)) <= 1.1 / limit
        assert coarse.lesion.sum() == sum(t.sum() for t in truth)


def test_a_lesion_is_found_by_more_than_the_declared_share_and_pieces_touch_at_corners() -> None:
    truth, flagged = np.zeros((2, 12, 12, 12), dtype=bool)
    truth[0:2, 0:2, 0:2] = True
    truth[2, 2, 2] = True  # by its corner, of the first
    truth[6:8, 6:8, 6:8] = True
    truth[10, 10, 10] = True
    flagged[0, 0, 0] = True  # 1 of 9
    flagged[6, 6, 6] = flagged[7, 7, 7] = True  # 2 of 8
    flagged[0, 11, 0] = flagged[1, 10, 1] = True  # one false piece
    flagged[11, 0, 0] = True  # another
    found = Lesions.of(flagged, truth, 0.1)
    assert found.voxels.tolist() == [9, 8, 1]
    assert found.found.tolist() == [True, True, False]
    assert found.false == 2
    assert Lesions.of(flagged, truth, 0.25).found.tolist() == [False, False, False]
    assert Lesions.of(flagged, truth, 0.24).found.tolist() == [False, True, False]
    assert Lesions.of(flagged, truth & False).false == 4
