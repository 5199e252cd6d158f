r"""Wasserstein-1 distances between samples, on the line and on the circle, with weights that can be drawn again.

On the line $W_1 = \int |F(x) - G(x)| dx$ with the two distribution functions F and G. On a circle of length L it is
$\min_c \int_0^L |F(x) - G(x) - c| dx$, and the best constant is a median of F - G over the circle (Cabrelli and Molter
1995; Rabin, Delon and Gousseau 2011). Cutting the circle at one place would call 179 and -179 degrees far apart.
"""

import numpy as np


class Transport:
    """W1 between one sample, whose values weigh what their molecule or scan weighs, and a fixed reference sample.

    The values are sorted once; `distance` then costs one pass for each set of weights, which is what a bootstrap needs.

    Args:
        values: (n,) of the sample.
        owner: (n,) int64, the molecule or scan that each belongs to.
        reference: (m,) values of the reference, each of weight 1 / m.
        period: the length of the circle, or None for the line.

    Raises ValueError when either sample is empty.
    """

    def __init__(
        self, values: np.ndarray, owner: np.ndarray, reference: np.ndarray, period: float | None = None
    ) -> None:
        if len(values) == 0 or len(reference) == 0:
            raise ValueError("W1 needs at least one value in the sample and one in the reference.")
        both = np.concatenate([values, reference]).astype(np.float64)
        both = both if period is None else np.mod(both, period)
        order = np.argsort(both, kind="stable")
        end = both[order[-1]] if period is None else both[order[0]] + period
        self._gaps = np.diff(both[order], append=end)
        self._own = np.flatnonzero(order < len(values))
        self._owner = owner[order[self._own]]
        self._step = np.where(order < len(values), 0.0, -1 / len(reference))
        self._circular = period is not None

    def distance(self, weights: np.ndarray | None = None) -> float:
        """W1 for weights (items,) >= 0, by default all 1, in the unit of the values; NaN where none has weight."""
        drawn = np.ones(len(self._owner)) if weights is None else weights[self._owner]
        if (total := drawn.sum()) == 0:
            return float("nan")
        step = self._step.copy()
        step[self._own] = drawn / total
        difference = np.cumsum(step)
        if self._circular:
            difference -= _median(difference, self._gaps)
        return float(np.abs(difference) @ self._gaps)


def wasserstein(values: np.ndarray, reference: np.ndarray, period: float | None = None) -> float:
    """W1 between two samples, (n,) and (m,), on the line or on a circle of length period; in their own unit."""
    return Transport(values, np.zeros(len(values), dtype=np.int64), reference, period).distance()


def _median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    share = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(share, share[-1] / 2)]])
