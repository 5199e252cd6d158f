"""The judge's scores as torchmetrics, for a validation loop over any number of ranks.

        metrics = molecule_metrics(smiles_of(training_set))
        metrics.update(model.sample(100))
        metrics.compute()  # {"atom_stability": tensor(0.99), ...}

The state is the judge's table (verdict.COLUMNS), whole numbers that ranks gather and concatenate, so that the result is
that of score_molecules on all ranks' molecules together, in float64. Its copies in one MetricCollection are kept and
updated once (torchmetrics' compute groups). Intervals come from score_molecules.
"""

from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.utilities import dim_zero_cat

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.judge.verdict import COLUMNS, Protocol, check_protocol, verdicts
from medmol_diffusion.molecules.metrics import identities, ratios
from medmol_diffusion.molecules.molecule import Molecule


class _MoleculeMetric(Metric):
    """One ratio of MoleculeScores: update(molecules), compute() -> () float64, NaN where there is nothing to divide by.

    Args:
        reference_smiles: of the training set by the same protocol, smiles_of(molecules); Novelty needs them.
        protocol: "distances" or "bonds", see verdict.py.
        options: of torchmetrics.Metric.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    score: ClassVar[str]
    table: list[Tensor]

    def __init__(
        self, reference_smiles: Iterable[str] | None = None, protocol: Protocol = "distances", **options: Any
    ) -> None:
        super().__init__(**options)
        check_protocol(protocol)
        self.protocol: Protocol = protocol
        self.reference = None if reference_smiles is None else identities(reference_smiles)
        self.add_state("table", default=[], dist_reduce_fx="cat")
        self.reset()

    def reset(self) -> None:
        super().reset()
        # Never an empty list: a rank without molecules must gather a table of the same type as the others.
        self.table.append(torch.zeros(0, len(COLUMNS), dtype=torch.int64, device=self.device))

    def update(self, molecules: list[Molecule]) -> None:
        for table, _ in verdicts(molecules, self.protocol):
            self.table.append(torch.from_numpy(table).to(self.device))

    def compute(self) -> Tensor:
        part, whole = ratios(dim_zero_cat(self.table).cpu().numpy(), self.reference)[self.score]
        return torch.tensor(part.sum(), dtype=torch.float64, device=self.device) / float(whole.sum())


class AtomStability(_MoleculeMetric):
    """Atoms of an allowed valence / atoms."""

    score = "atom_stability"


class MoleculeStability(_MoleculeMetric):
    """Molecules all of whose atoms have an allowed valence / molecules."""

    score = "molecule_stability"


class Validity(_MoleculeMetric):
    """Molecules that RDKit sanitises / molecules; disconnected ones count."""

    score = "validity"


class Connectivity(_MoleculeMetric):
    """Molecules that are valid and in one piece / molecules."""

    score = "connectivity"


class Uniqueness(_MoleculeMetric):
    """Distinct SMILES / valid molecules."""

    score = "uniqueness"


class Novelty(_MoleculeMetric):
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
