"""Drug-likeness and the like: the ready properties of a set of molecules beside those of a reference."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from medmol_diffusion.judging.cells import number
from medmol_diffusion.judging.wasserstein import wasserstein
from medmol_diffusion.molecules.judge.pool import Results, each
from medmol_diffusion.molecules.judge.strain import Figure, figure
from medmol_diffusion.molecules.molecule import Molecule
from medmol_diffusion.molecules.properties import compute, known

NAMES = ("qed", "sa", "logp", "tpsa", "molecular_weight", "rings", "rotatable_bonds", "hbond_donors", "hbond_acceptors")
"""The properties that a set is judged by."""


@dataclass(frozen=True)
class PropertyScore:
    """One property of a set: its figure, and against the reference the reference's mean and W1 in the same unit."""

    figure: Figure
    reference_mean: float | None
    wasserstein: float | None

    def row(self) -> tuple[str, ...]:
        """name and unit, mean, its interval, median, the reference's mean, W1, n."""
        name, median, _, mean, limits, n = self.figure.row()
        return (name, mean, limits, median, number(self.reference_mean), number(self.wasserstein), n)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def property_columns(
    molecules: Sequence[Molecule],
    names: Sequence[str] = NAMES,
    workers: int = 1,
    progress: Callable[[int], None] = lambda done: None,
    kept: Results[dict[str, float]] | None = None,
) -> dict[str, np.ndarray]:
    """A column of every property for a set of molecules; NaN where it cannot be computed."""
    rows = each(partial(compute, names=names), molecules, workers, progress, kept)
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in names}


def property_scores(
    columns: dict[str, np.ndarray], reference: dict[str, np.ndarray] | None = None, seed: int = 0
) -> list[PropertyScore]:
    """The scores of every column, over the molecules that have a value; properties that none has are left out."""
    found = []
    for name, column in columns.items():
        values = column[~np.isnan(column)]
        if len(values) == 0:
            continue
        real = None if reference is None else reference[name][~np.isnan(reference[name])]
        compared = (None, None) if real is None or len(real) == 0 else (float(real.mean()), wasserstein(values, real))
        found.append(PropertyScore(figure(name.replace("_", " "), known(name).unit, values, seed), *compared))
    return found
