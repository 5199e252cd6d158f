"""Bootstrap intervals of whatever is measured on a set of molecules or scans, by drawing them with replacement."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

_BLOCK = 2**21  # weights held at once
FEWEST = 3
"""Items from which on the spread of resamples says anything: those of one item are all alike, those of two of three
kinds."""


@dataclass(frozen=True)
class Bootstrap:
    """The draws of one set: its items (molecules, scans) resampled with replacement, the same draws for all that is
    measured on it.

    A draw gives item m the weight w_m, how often it was drawn: w ~ Multinomial(size; 1/size, ..., 1/size), so that
    the weights of a draw add up to size. An interval is that of the percentiles over the draws (Efron 1979); of fewer
    than FEWEST items there is none, and its limits are NaN.
    Memory is flat: the weights follow from the seed and are made again, a block at a time, wherever they are needed.

    Attributes:
        size: how many items there are.
        draws: how many resamples.
        seed: of the draws; the same seed gives the same weights on every machine.
        level: how much of the distribution lies inside the interval.

    Raises ValueError for a size or draws below 1, and for a level outside (0, 1).
    """

    size: int
    draws: int = 1000
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.size < 1 or self.draws < 1:
            raise ValueError(f"A bootstrap needs a size and draws of at least 1, not {self.size} and {self.draws}.")
        if not 0 < self.level < 1:
            raise ValueError(f"level = {self.level} is not between 0 and 1: 0.95 is the usual choice.")

    def weights(self) -> Iterator[np.ndarray]:
        """The weights of every draw, in blocks (b, size) float64 whose b add up to `draws`."""
        generator = np.random.default_rng(self.seed)
        rows = max(1, _BLOCK // self.size)
        for start in range(0, self.draws, rows):
            count = min(rows, self.draws - start)
            drawn = generator.integers(self.size, size=(count, self.size))
            drawn += np.arange(count)[:, None] * self.size
            counts = np.bincount(drawn.ravel(), minlength=count * self.size)
            yield counts.reshape(count, self.size).astype(np.float64)

    def interval(self, statistic: Callable[[np.ndarray], np.ndarray | float]) -> np.ndarray:
        """(2, ...) low and high of any statistic of weights (size,) -> a number or an array of numbers.

        Draws for which a number is NaN (nothing to divide by) are left out; NaN where all of them are.
        """
        return self.limits(self.drawn(statistic))

    def centred(self, value: float, statistic: Callable[[np.ndarray], float]) -> np.ndarray:
        r"""(2,) low and high of a distance, cut at 0: value + percentiles of $d_b - \bar d$ over the draws $d_b$.

        Every draw adds its own noise to a distance, which lifts all of them: only their spread about their mean counts.
        """
        return self.centred_limits(value, self.drawn(statistic))

    def centred_limits(self, value: float, drawn: np.ndarray) -> np.ndarray:
        """(2,) the same of draws (draws,) that were made elsewhere."""
        known = drawn[~np.isnan(drawn)]
        return np.maximum(self.limits(drawn) - known.mean() + value, 0) if len(known) else np.full(2, np.nan)

    def ratio(self, part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        r"""(2, ...) low and high of a ratio of sums $\sum_m w_m\,part_m / \sum_m w_m\,whole_m$.

        part and whole are (size,), or (size, K) for K ratios at once; a mean over items has a whole of ones.
        Draws whose whole is 0 are left out.
        """
        part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
        sums = [(block @ part, block @ whole) for block in self.weights()]
        parts, wholes = (np.concatenate(column) for column in zip(*sums, strict=True))
        return self.limits(np.divide(parts, wholes, out=np.full_like(parts, np.nan), where=wholes > 0))

    def fraction(self, part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        r"""(2, ...) low and high of ratios whose parts lie within their wholes, 0 <= part_m <= whole_m, as in `ratio`.

        Where the whole set is counted, or nothing of it, every draw agrees and the percentiles have no width, however
        few the items. There the exact binomial limit of n items takes their place: low = a^{1/n}, or
        high = 1 - a^{1/n}, with a = (1 - level) / 2 (Clopper and Pearson 1934). n counts the items of whole > 0.
        """
        limits = self.ratio(part, whole)
        count = np.count_nonzero(whole, axis=0)
        parts, wholes = np.sum(part, axis=0), np.sum(whole, axis=0)
        all_of_it, nothing = (parts == wholes) & (count > 0), (parts == 0) & (count > 0)
        limits[:, count < FEWEST] = np.nan
        limit = ((1 - self.level) / 2) ** (1 / np.maximum(count, 1))
        limits[:, all_of_it] = np.stack([limit, np.ones_like(limit)])[:, all_of_it]
        limits[:, nothing] = np.stack([np.zeros_like(limit), 1 - limit])[:, nothing]
        return limits

    def drawn(self, statistic: Callable[[np.ndarray], np.ndarray | float]) -> np.ndarray:
        """(draws, ...) a statistic of every draw. Of two statistics of one set, the draws belong together in pairs."""
        return np.array([statistic(row) for block in self.weights() for row in block], dtype=np.float64)

    def limits(self, drawn: np.ndarray) -> np.ndarray:
        """(2, ...) low and high of what was drawn, (draws, ...): the percentiles of `level`, NaN left out."""
        tail = (1 - self.level) / 2
        known = ~np.isnan(drawn).all(axis=0) & (self.size >= FEWEST)
        limits = np.full((2, *drawn.shape[1:]), np.nan)
        limits[:, known] = np.nanquantile(drawn[:, known], [tail, 1 - tail], axis=0)
        return limits


@dataclass(frozen=True)
class TwoSets:
    """The draws of two sets that are resampled apart: for distances whose reference is a sample too.

    Attributes:
        first, second: how many items each has; an interval needs FEWEST of both.
        draws, seed, level: as of Bootstrap.
    """

    first: int
    second: int
    draws: int = 200
    seed: int = 0
    level: float = 0.95

    def interval(self, statistic: Callable[[np.ndarray, np.ndarray], np.ndarray | float]) -> np.ndarray:
        """(2, ...) low and high of a statistic of weights (first,) and (second,); see Bootstrap.interval."""
        return self._smaller.limits(self._drawn(statistic))

    def centred(self, value: float, statistic: Callable[[np.ndarray, np.ndarray], float]) -> np.ndarray:
        """(2,) low and high of a distance, whose spread alone counts; see Bootstrap.centred."""
        return self._smaller.centred_limits(value, self._drawn(statistic))

    @property
    def _smaller(self) -> Bootstrap:
        return Bootstrap(min(self.first, self.second), self.draws, self.seed, self.level)

    def _drawn(self, statistic: Callable[[np.ndarray, np.ndarray], np.ndarray | float]) -> np.ndarray:
        sides = [
            (row for block in Bootstrap(size, self.draws, self.seed + (side << 32)).weights() for row in block)
            for side, size in enumerate((self.first, self.second))
        ]
        return np.array([statistic(a, b) for a, b in zip(*sides, strict=True)], dtype=np.float64)
