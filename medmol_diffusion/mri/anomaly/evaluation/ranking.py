"""Ranking: how lesion and healthy voxels of several units are ordered, small enough to be resampled."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LIMIT = 2**15
"""Thresholds that are told apart."""


@dataclass(frozen=True)
class Ranking:
    r"""Voxels of S units (subjects) counted between the scores of lesion voxels, t_1 > t_2 > ... > t_K.

    No other threshold matters: AUROC, average precision and the best Dice change at lesion scores alone. What a
    pooled figure needs of a unit is therefore three rows of counts, and a bootstrap draw is a weighted sum of them, not
    another sort of all voxels. Exact for up to LIMIT different lesion scores; of more, LIMIT quantiles stand for them,
    each score rounded down to the nearest, which moves the AUROC by no more than 1 / LIMIT, downwards.

    Attributes:
        lesion: (S, K) lesion voxels with t_k <= score < t_{k-1}.
        healthy: (S, K) healthy voxels with t_k <= score < t_{k-1}.
        tied: (S, K) healthy voxels with score = t_k.
        total: (S,) healthy voxels.
        thresholds: (K,).
    """

    lesion: np.ndarray
    healthy: np.ndarray
    tied: np.ndarray
    total: np.ndarray
    thresholds: np.ndarray

    @classmethod
    def of(cls, scores: Sequence[np.ndarray], truth: Sequence[np.ndarray], limit: int = LIMIT) -> "Ranking":
        """Of the scores [n] and bool lesions [n] of each unit's voxels."""
        edges = np.unique(np.concatenate([s[t] for s, t in zip(scores, truth, strict=True)]))
        if len(edges) > limit:
            edges = np.unique(np.quantile(edges, np.linspace(0, 1, limit), method="lower"))
        pairs = [_counts(s, t, edges) for s, t in zip(scores, truth, strict=True)]
        lesion, healthy, tied = (np.stack(column)[:, ::-1].copy() for column in zip(*pairs, strict=True))
        total = np.array([np.count_nonzero(~t) for t in truth], dtype=np.float64)
        return cls(lesion, healthy, tied, total, edges[::-1])

    def auroc(self, weights: np.ndarray) -> float:
        """P(score of a lesion voxel > of a healthy one), ties half (Mann & Whitney 1947), with weights [S] of units.

        NaN where only one class is there.
        """
        lesion, total = weights @ self.lesion, weights @ self.total
        if not lesion.sum() or not total:
            return float("nan")
        below = total - np.cumsum(weights @ self.healthy)
        return float(lesion @ (below + (weights @ self.tied) / 2) / (lesion.sum() * total))

    def auprc(self, weights: np.ndarray) -> float:
        """Average precision: the sum of precision times gain in recall over falling thresholds; NaN without lesion."""
        lesion, hits, flagged = self._swept(weights)
        if not lesion.sum():
            return float("nan")
        return float((lesion * np.divide(hits, flagged, out=np.zeros_like(hits), where=flagged > 0)).sum() / hits[-1])

    def best_dice(self, weights: np.ndarray) -> float:
        """The *best possible* Dice, of a threshold chosen with the truth at hand: an upper bound, not a result."""
        lesion, hits, flagged = self._swept(weights)
        return float((2 * hits / (flagged + hits[-1])).max()) if lesion.sum() else float("nan")

    def _swept(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """[K] lesion voxels of each threshold, those at or above it, and all voxels at or above it."""
        lesion = weights @ self.lesion
        hits = np.cumsum(lesion)
        return lesion, hits, hits + np.cumsum(weights @ self.healthy)

    def __len__(self) -> int:
        return len(self.total)


def _counts(scores: np.ndarray, truth: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[K] of rising edges: lesion voxels in [edge, next edge), healthy ones there, healthy ones on the edge."""
    inside, tied = zip(*(_between(np.sort(scores[which]), edges) for which in (truth, ~truth)), strict=True)
    return inside[0], inside[1], tied[1]


def _between(rising: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[K] values in [edge, next edge), and on the edge. The edges look themselves up among sorted values: they are
    fewer."""
    below, reached = (np.searchsorted(rising, edges, side=side) for side in ("left", "right"))
    return np.diff(below, append=len(rising)).astype(np.float64), (reached - below).astype(np.float64)
