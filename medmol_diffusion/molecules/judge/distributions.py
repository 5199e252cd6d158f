"""How far a set of molecules is from a reference set: Wasserstein-1 of its geometry, with units, intervals and a floor.

By type, as MiDi (Vignac et al. 2023) has it: W1 of each type of the reference that the molecules have too, weighted by
how often the reference has it. A sample of n values is never at distance 0 of where it comes from; the floor says how
far real molecules, as many as were judged, are from the rest of their own set.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.judging.bootstrap import FEWEST, Bootstrap
from medmol_diffusion.judging.cells import interval, number
from medmol_diffusion.judging.wasserstein import Transport
from medmol_diffusion.molecules.judge.geometry import Geometry, Values, measure, type_name
from medmol_diffusion.molecules.molecule import Molecule

QUANTITIES: dict[str, tuple[str, str, float | None]] = {
    "bond lengths": ("lengths", "pm", None),
    "angles": ("angles", "degrees", None),
    "dihedrals": ("dihedrals", "degrees", 360.0),
    "number of atoms": ("sizes", "atoms", None),
}
"""What W1 is taken of: the name of the Geometry's values, the unit, and the period of a circle."""


@dataclass(frozen=True)
class TypeDistance:
    """W1 of one type, how many values of it there are, and its share of the reference's values."""

    type: str
    value: float
    n: int
    share: float


@dataclass(frozen=True)
class Distance:
    """The distance of one quantity from the reference.

    Attributes:
        name, unit: of the quantity.
        value: by type, weighted by the reference's frequencies (see the module); of all values as they are for the
            number of atoms.
        low, high: a 95% interval of the value over the molecules, the reference held fixed; NaN where fewer than FEWEST
            (bootstrap.py) of them have such values.
        floor: the same figure of reference molecules against the rest of the reference; NaN when it has fewer than 2.
        pooled: W1 of all values in one heap, whatever their type.
        covered: the share of the reference's values whose type the molecules have; the weights are of these alone.
        n: values in the molecules.
        types: the figure of every type, most frequent first.
    """

    name: str
    unit: str
    value: float
    low: float
    high: float
    floor: float
    pooled: float
    covered: float
    n: int
    types: tuple[TypeDistance, ...]

    def row(self) -> tuple[str, ...]:
        """name, value with its unit, interval, floor, all in one heap, share covered, n."""
        figures = (number(self.value, unit=self.unit), interval(self.low, self.high), number(self.floor))
        return (self.name, *figures, number(self.pooled), number(100 * self.covered, ".1f", "%"), str(self.n))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return asdict(self)


def distances(
    molecules: Sequence[Molecule],
    reference: Sequence[Molecule],
    draws: int = 200,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> list[Distance]:
    """The distance of every quantity from the reference's; bonds are the stored ones, or else those of rule 1.

    The intervals are Bootstrap.centred. Raises InputError when either set is empty.
    """
    if not molecules or not reference:
        raise InputError("Distances of distributions need molecules and a reference set: one of them is empty.")
    ours, theirs = measure(molecules), measure(reference)
    part, rest = _split(reference, len(molecules), seed)
    own = None if part is None or rest is None else (measure(part), measure(rest))
    bootstrap = Bootstrap(len(molecules), draws, seed)
    found: list[Distance] = []
    for done, name in enumerate(QUANTITIES):
        found += _wasserstein(name, ours, theirs, own, bootstrap)
        progress(done + 1)
    found += _total_variation(ours, theirs, own, bootstrap)
    progress(len(QUANTITIES) + 1)
    return found


def _split(
    molecules: Sequence[Molecule], count: int, seed: int
) -> tuple[list[Molecule], list[Molecule]] | tuple[None, None]:
    """As many as count of the molecules, half of them at most, drawn at random; and the rest."""
    if len(molecules) < 2:
        return None, None
    order = np.random.default_rng(seed).permutation(len(molecules))
    size = min(count, len(molecules) // 2)
    return [molecules[i] for i in order[:size]], [molecules[i] for i in order[size:]]


def _wasserstein(
    name: str, ours: Geometry, theirs: Geometry, own: tuple[Geometry, Geometry] | None, bootstrap: Bootstrap
) -> Iterator[Distance]:
    key, unit, period = QUANTITIES[name]
    a, b = getattr(ours, key), getattr(theirs, key)
    if len(a.value) == 0 or len(b.value) == 0:
        return
    pairs = {kind: (share, *_of(kind, a, b, period)) for kind, share in _shares(b).items() if (a.type == kind).any()}
    if not pairs:
        return
    shares = np.array([share for share, *_ in pairs.values()])

    def by_type(weights: np.ndarray | None) -> float:
        each = np.array([transport.distance(weights) for _, transport, _ in pairs.values()])
        known = ~np.isnan(each)  # a draw may leave a rare type out
        return float(shares[known] @ each[known] / shares[known].sum()) if known.any() else float("nan")

    value = by_type(None)
    floor = float("nan")
    if own is not None:
        half, rest = (getattr(one, key) for one in own)
        floor = distance_by_type(half, rest, period)
    types = [
        TypeDistance(type_name(kind), transport.distance(), n, share) for kind, (share, transport, n) in pairs.items()
    ]
    yield Distance(
        name,
        unit,
        value,
        *_limits(bootstrap.centred(value, by_type), a.owner),
        floor,
        Transport(a.value, a.owner, b.value, period).distance(),
        float(shares.sum()),
        len(a.value),
        tuple(types),
    )


def _of(kind: int, a: Values, b: Values, period: float | None) -> tuple[Transport, int]:
    mine = a.type == kind
    return Transport(a.value[mine], a.owner[mine], b.value[b.type == kind], period), int(mine.sum())


def distance_by_type(a: Values, b: Values, period: float | None) -> float:
    """W1 by type, weighted by how often b has each that a has too; NaN when they share none."""
    common = {kind: share for kind, share in _shares(b).items() if (a.type == kind).any()}
    if not common:
        return float("nan")
    return sum(share * _of(kind, a, b, period)[0].distance() for kind, share in common.items()) / sum(common.values())


def _shares(values: Values) -> dict[int, float]:
    """The share of every type, most frequent first."""
    kinds, counts = np.unique(values.type, return_counts=True)
    return {int(kinds[i]): float(counts[i] / counts.sum()) for i in np.argsort(-counts, kind="stable")}


def _total_variation(
    ours: Geometry, theirs: Geometry, own: tuple[Geometry, Geometry] | None, bootstrap: Bootstrap
) -> Iterator[Distance]:
    r"""$\frac12 \sum_e |p_e - q_e|$ of the shares of the elements."""
    a, b = _element_counts(ours), _element_counts(theirs)
    shares = b.sum(axis=0) / b.sum()

    def variation(weights: np.ndarray | None) -> float:
        drawn = a.sum(axis=0) if weights is None else weights @ a
        return float(np.abs(drawn / drawn.sum() - shares).sum() / 2)

    value, floor = variation(None), float("nan")
    if own is not None:
        half, rest = (_element_counts(one).sum(axis=0) for one in own)
        floor = float(np.abs(half / half.sum() - rest / rest.sum()).sum() / 2)
    counts = a.sum(axis=0)
    present = [int(number) for number in np.argsort(-shares, kind="stable") if shares[number] > 0 or counts[number] > 0]
    types = tuple(
        TypeDistance(
            type_name(number),
            abs(float(counts[number] / counts.sum() - shares[number])),
            int(counts[number]),
            float(shares[number]),
        )
        for number in present
    )
    covered = float(shares[counts > 0].sum())
    limits = _limits(bootstrap.centred(value, variation), ours.atoms.owner)
    yield Distance("atom types", "of atoms", value, *limits, floor, value, covered, int(counts.sum()), types)


def _limits(drawn: np.ndarray, owner: np.ndarray) -> tuple[float, float]:
    """Low and high; NaN where the values are of fewer than FEWEST molecules, however many the set has."""
    low, high = drawn if len(np.unique(owner)) >= FEWEST else (np.nan, np.nan)
    return float(low), float(high)


def _element_counts(geometry: Geometry) -> np.ndarray:
    """(molecules, 119) how many atoms of each element."""
    flat = np.bincount(geometry.atoms.owner * 119 + geometry.atoms.type, minlength=119 * geometry.count)
    return flat.reshape(geometry.count, 119).astype(np.float64)
