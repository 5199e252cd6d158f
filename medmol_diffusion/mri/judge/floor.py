"""What real scans score against real scans: without it no distance between few scans says anything."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medmol_diffusion.judging.cells import interval, number

SPLITS = 20
"""Random splits of the real set."""


@dataclass(frozen=True)
class Floor:
    """A measure of real scans against the rest of the real set, and of as many generated ones against that same rest.

    Attributes:
        value: of `n` real scans against the other `rest`, the mean over SPLITS random splits; NaN below 4 real scans.
        low, high: the middle 95% of the splits: a figure at equal n inside it may well be that of real scans.
        equal: of `n` generated scans against that rest, the mean over the same splits.
        n: min(generated, half of the real ones).
        rest: the other real scans.
    """

    value: float
    low: float
    high: float
    equal: float
    n: int
    rest: int

    @classmethod
    def unknown(cls, n: int, rest: int) -> "Floor":
        """That of too few scans: NaN."""
        return cls(math.nan, math.nan, math.nan, math.nan, n, rest)


Between = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Measures (K,) of two sets, each given as places in the generated and real scans put one after the other."""


def floors(between: Between, kinds: int, generated: int, real: int, fewest: int = 2, seed: int = 0) -> list[Floor]:
    """The floor of each of K measures between sets, all over the same splits.

    Args:
        between: see Between.
        kinds: K.
        generated, real: how many there are of each; the real ones' places begin at `generated`.
        fewest: scans that the measures need on a side.
    """
    n = min(generated, real // 2)
    if n < fewest:
        return [Floor.unknown(n, real - n)] * kinds
    rng = np.random.default_rng(seed)
    own, other = np.empty((2, SPLITS, kinds))
    for split in range(SPLITS):
        places = generated + rng.permutation(real)
        own[split] = between(places[:n], places[n:])
        other[split] = between(rng.choice(generated, n, replace=False), places[n:])
    low, high = np.quantile(own, [0.025, 0.975], axis=0)
    columns = zip(own.mean(0).tolist(), low.tolist(), high.tolist(), other.mean(0).tolist(), strict=True)
    return [Floor(*column, n, real - n) for column in columns]


@dataclass(frozen=True)
class Figure:
    """A measure of generated scans against real ones.

    Attributes:
        name: of the measure, with its unit if it has one.
        value: of all scans. low, high: its 95% bootstrap interval over scans, NaN where there is none.
        floor: the same of real against real.
        form: how it is written, a format of str.format.
        generated, real: the mean over the scans of each side of what is compared; NaN where there is no such thing.
    """

    name: str
    value: float
    low: float
    high: float
    floor: Floor
    form: str = ".3g"
    generated: float = math.nan
    real: float = math.nan

    def row(self) -> tuple[str, ...]:
        """name, value, interval, value at equal n, real against real at that n, its spread."""
        floor, form = self.floor, self.form
        return (
            self.name,
            number(self.value, form),
            interval(self.low, self.high, form),
            number(floor.equal, form),
            number(floor.value, form),
            interval(floor.low, floor.high, form),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return asdict(self)
