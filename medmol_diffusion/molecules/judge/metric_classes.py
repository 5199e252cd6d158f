"""The judge's rules as torchmetrics, for a validation loop over any number of ranks.

        metrics = molecule_metrics(smiles_of(training_set))
        metrics.update(model.sample(100))
        metrics.compute()  # {"atom_stability": tensor(0.99), ...}

The state is the judge's table (verdict.COLUMNS), whole numbers that ranks gather and concatenate, so that the result is
that of score_molecules on all ranks' molecules together, in float64. Its copies in one MetricCollection are kept and
updated once (torchmetrics' compute groups). Intervals come from score_molecules. What the judge measures beyond its
rules is in measured_classes.py.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.judge.gathered import Gathered
from medmol_diffusion.molecules.judge.verdict import COLUMNS, Protocol, verdicts
from medmol_diffusion.molecules.metrics import identities, ratios
from medmol_diffusion.molecules.molecule import Molecule


class _Rule(Gathered):
    """One ratio of MoleculeScores, NaN where there is nothing to divide by.

    Args:
        reference_smiles: of the training set by the same protocol, smiles_of(molecules); Novelty needs them.
        protocol: "distances" or "bonds", see verdict.py.
        options: of torchmetrics.Metric.
    """

    score: ClassVar[str]
    table: list[Tensor]

    def __init__(
        self, reference_smiles: Iterable[str] | None = None, protocol: Protocol = "distances", **options: Any
    ) -> None:
        super().__init__("table", len(COLUMNS), torch.int64, protocol, **options)
        self.reference = None if reference_smiles is None else identities(reference_smiles)

    def rows(self, molecules: list[Molecule]) -> Iterator[np.ndarray]:
        return (table for table, _ in verdicts(molecules, self.protocol))

    def figure(self, table: np.ndarray) -> float:
        part, whole = ratios(table, self.reference)[self.score]
        return float(part.sum() / whole.sum()) if whole.any() else math.nan


class AtomStability(_Rule):
    """Atoms of an allowed valence / atoms."""

    score = "atom_stability"


class MoleculeStability(_Rule):
    """Molecules all of whose atoms have an allowed valence / molecules."""

    score = "molecule_stability"


class Validity(_Rule):
    """Molecules that RDKit sanitises / molecules; disconnected ones count."""

    score = "validity"


class Connectivity(_Rule):
    """Molecules that are valid and in one piece / molecules."""

    score = "connectivity"


class Uniqueness(_Rule):
    """Distinct SMILES / valid molecules."""

    score = "uniqueness"


class Novelty(_Rule):
    """Distinct SMILES that are not in the reference / distinct SMILES."""

    score = "novelty"

    def __init__(self, reference_smiles: Iterable[str], protocol: Protocol = "distances", **options: Any) -> None:
        if reference_smiles is None:
            raise InputError("Novelty needs reference_smiles: those of the training set, smiles_of(molecules).")
        super().__init__(reference_smiles, protocol, **options)


def molecule_metrics(
    reference_smiles: Iterable[str] | None = None, protocol: Protocol = "distances", **options: Any
) -> MetricCollection:
    """All of the above by the names of MoleculeScores; Novelty only with a reference. Options are those of Metric."""
    reference = None if reference_smiles is None else list(reference_smiles)
    kinds = (AtomStability, MoleculeStability, Validity, Connectivity, Uniqueness)
    metrics: dict[str, Metric] = {kind.score: kind(reference, protocol, **options) for kind in kinds}
    if reference is not None:
        metrics[Novelty.score] = Novelty(reference, protocol, **options)
    return MetricCollection(metrics)  # type: ignore[arg-type]
