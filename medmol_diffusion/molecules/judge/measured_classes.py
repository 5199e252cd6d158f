"""What the judge measures beyond the rules, as torchmetrics: PoseBusters, strain, properties, distances, diversity.

        metrics = MetricCollection({"strain": Strain(), "qed": PropertyMean("qed"), "w1": GeometryDistance(real)})
        metrics.update(model.sample(100))

Each equals the figure of that name of `medmol score --full` on all ranks' molecules together, without its interval, and
looks at every molecule it is given: PoseBusters takes some tenths of a second for one, so give it few.
"""

import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from medmol_diffusion.errors import InputError
from medmol_diffusion.judging.wasserstein import wasserstein
from medmol_diffusion.molecules.judge.distributions import QUANTITIES, distance_by_type
from medmol_diffusion.molecules.judge.diversity import fingerprints, internal_diversity
from medmol_diffusion.molecules.judge.druglikeness import property_columns
from medmol_diffusion.molecules.judge.gathered import Gathered
from medmol_diffusion.molecules.judge.geometry import Values, measure
from medmol_diffusion.molecules.judge.poses import bust
from medmol_diffusion.molecules.judge.score_report import as_judged
from medmol_diffusion.molecules.judge.strain import Relaxation, relax
from medmol_diffusion.molecules.judge.verdict import Protocol
from medmol_diffusion.molecules.molecule import Molecule
from medmol_diffusion.molecules.properties import known

BITS = 2048
"""Of a fingerprint."""
ZERO = np.uint8(ord("0"))


class _Measured(Gathered):
    """Rows of float64 of the molecules as their protocol has them, and only of what is known: no NaN."""

    def __init__(self, what: str, width: int = 1, protocol: Protocol = "distances", **options: Any) -> None:
        super().__init__(f"{what}_{protocol}", width, torch.float64, protocol, **options)

    def rows(self, molecules: list[Molecule]) -> Iterator[np.ndarray]:
        found = self.measured(as_judged(molecules, self.protocol)).reshape(-1, self._width)
        yield found[~np.isnan(found).any(axis=1)]

    @abstractmethod
    def measured(self, molecules: list[Molecule]) -> np.ndarray:
        """(n,) or (n, width) numbers, NaN where something cannot be measured."""


class PoseBustersPass(_Measured):
    """Molecules that pass every check of PoseBusters / molecules: "all checks" of poses.pose_scores."""

    def __init__(self, protocol: Protocol = "distances", **options: Any) -> None:
        super().__init__("poses", 1, protocol, **options)

    def measured(self, molecules: list[Molecule]) -> np.ndarray:
        return np.array([all(bust(molecule).values()) for molecule in molecules], dtype=np.float64)

    def figure(self, table: np.ndarray) -> float:
        return _mean(table)


class Strain(_Measured):
    """The median energy in kcal/mol that MMFF94 takes off a molecule, over those that it can relax: the first figure
    of strain.strain_scores."""

    higher_is_better = False

    def __init__(self, protocol: Protocol = "distances", **options: Any) -> None:
        super().__init__("strain", 1, protocol, **options)

    def measured(self, molecules: list[Molecule]) -> np.ndarray:
        found = [relax(molecule) for molecule in molecules]
        return np.array([one.strain if isinstance(one, Relaxation) else math.nan for one in found])

    def figure(self, table: np.ndarray) -> float:
        return float(np.median(table)) if len(table) else math.nan


class _Property(_Measured):
    """A property of every valid molecule in one piece; those of one name share their rows."""

    def __init__(self, name: str, protocol: Protocol = "distances", **options: Any) -> None:
        self.name = known(name).name
        super().__init__(f"property_{self.name}", 1, protocol, **options)

    def measured(self, molecules: list[Molecule]) -> np.ndarray:
        return property_columns(molecules, [self.name])[self.name]


class PropertyMean(_Property):
    """The mean of a property of properties.PROPERTIES: "qed", "sa", "logp", ...

    Raises:
        InputError: there is no such property.
    """

    higher_is_better = None  # QED is, SA is not

    def figure(self, table: np.ndarray) -> float:
        return _mean(table)


class PropertyDistance(_Property):
    """Wasserstein-1 of a property from that of reference molecules, in its own unit.

    Raises:
        InputError: there is no such property, or no molecule of the reference has it.
    """

    higher_is_better = False

    def __init__(
        self, name: str, reference: Sequence[Molecule], protocol: Protocol = "distances", **options: Any
    ) -> None:
        super().__init__(name, protocol, **options)
        (self.reference,) = self.rows(list(reference))
        if not len(self.reference):
            raise InputError(f"no molecule of the reference has the property {name}: give valid ones in one piece")

    def figure(self, table: np.ndarray) -> float:
        return wasserstein(table[:, 0], self.reference[:, 0]) if len(table) else math.nan


class GeometryDistance(_Measured):
    """Wasserstein-1 of bond lengths (pm), angles or dihedrals (degrees) by type, or of the "number of atoms", from
    those of reference molecules: the value of distributions.distances. The rows are (type, value).

    Raises:
        InputError: there is no such quantity, or the reference has none of it.
    """

    higher_is_better = False

    def __init__(
        self,
        reference: Sequence[Molecule],
        quantity: str = "bond lengths",
        protocol: Protocol = "distances",
        **options: Any,
    ) -> None:
        if quantity not in QUANTITIES:
            raise InputError(f"There is no quantity {quantity!r}: choose one of {', '.join(QUANTITIES)}.")
        self.key, _, self.period = QUANTITIES[quantity]
        super().__init__(self.key, 2, protocol, **options)
        (self.reference,) = self.rows(list(reference))
        if not len(self.reference):
            raise InputError(f"the reference has no {quantity}: give molecules that have some")

    def measured(self, molecules: list[Molecule]) -> np.ndarray:
        found: Values = getattr(measure(molecules), self.key)
        return np.stack([found.type.astype(np.float64), found.value], axis=1)

    def figure(self, table: np.ndarray) -> float:
        return distance_by_type(_values(table), _values(self.reference), self.period)


class InternalDiversity(Gathered):
    """The mean of 1 - Tanimoto over pairs of valid molecules: diversity.internal_diversity. The rows are fingerprints,
    bit by bit."""

    def __init__(self, protocol: Protocol = "distances", **options: Any) -> None:
        super().__init__(f"fingerprints_{protocol}", BITS, torch.uint8, protocol, **options)

    def rows(self, molecules: list[Molecule]) -> Iterator[np.ndarray]:
        prints = fingerprints(as_judged(molecules, self.protocol))
        bits = [np.frombuffer(one.ToBitString().encode(), np.uint8) - ZERO for one in prints]
        yield np.array(bits, dtype=np.uint8).reshape(-1, BITS)

    def figure(self, table: np.ndarray) -> float:
        from rdkit.DataStructs import CreateFromBitString

        found = internal_diversity([CreateFromBitString((row + ZERO).tobytes().decode()) for row in table])
        return math.nan if found is None else found.value


def _mean(table: np.ndarray) -> float:
    return float(table.mean()) if len(table) else math.nan


def _values(table: np.ndarray) -> Values:
    return Values(table[:, 0].astype(np.int64), table[:, 1], np.zeros(len(table), dtype=np.int64))
