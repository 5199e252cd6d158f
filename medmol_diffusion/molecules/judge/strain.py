"""Strain: how much energy a molecule gives up, and how far its atoms move, when MMFF94 relaxes it.

MMFF94 (Halgren 1996) of RDKit, in vacuum. Relaxed until the gradient is small or STEPS are spent; both are counted.
A low strain says that the geometry is near a minimum of that force field, not that it is the best conformer.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.judging.bootstrap import Bootstrap
from medmol_diffusion.judging.cells import interval, number
from medmol_diffusion.judging.kept import NOTHING, Kept
from medmol_diffusion.molecules import chemistry
from medmol_diffusion.molecules.judge.pool import Results, each
from medmol_diffusion.molecules.molecule import Molecule

STEPS = 1000
"""Of the minimiser (BFGS) at most."""


@dataclass(frozen=True)
class Relaxation:
    """What relaxing one molecule did: energy before - after, kcal/mol, as a whole and per heavy atom; the root mean
    square distance of the atoms after the best superposition, angstrom, of all and of the heavy ones; and whether it
    came to an end within the steps."""

    strain: float
    strain_per_heavy_atom: float
    rmsd: float
    rmsd_heavy: float
    converged: bool


@dataclass(frozen=True)
class Figure:
    """Median and mean over molecules, each with its 95% bootstrap interval, and how many molecules."""

    name: str
    unit: str
    median: float
    median_low: float
    median_high: float
    mean: float
    mean_low: float
    mean_high: float
    n: int

    def row(self) -> tuple[str, ...]:
        """name and unit, median, its interval, mean, its interval, n."""
        return (
            f"{self.name}, {self.unit}" if self.unit else self.name,
            number(self.median),
            interval(self.median_low, self.median_high),
            number(self.mean),
            interval(self.mean_low, self.mean_high),
            str(self.n),
        )


@dataclass(frozen=True)
class StrainScores:
    """The figures over the molecules that MMFF94 could relax, and how many it could not.

    unsound: no sanitised graph in one piece, so there is nothing to relax. untyped: MMFF94 has no parameters for an
    atom. unconverged: still moving after STEPS; they are in the figures.
    """

    figures: tuple[Figure, ...]
    relaxed: int
    unconverged: int
    untyped: int
    unsound: int
    columns: dict[str, np.ndarray]

    def rows(self) -> Iterator[tuple[str, ...]]:
        for figure in self.figures:
            yield figure.row()

    def outcome(self) -> str:
        """How many of how many were relaxed, and why the others were not."""
        return (
            f"{self.relaxed} of {self.relaxed + self.untyped + self.unsound} relaxed ({self.unconverged} of "
            f"them not to the end), {self.untyped} without MMFF94 parameters, {self.unsound} not one sound molecule"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        counts = {key: getattr(self, key) for key in ("relaxed", "unconverged", "untyped", "unsound")}
        return {**counts, "steps": STEPS, "figures": [asdict(figure) for figure in self.figures]}


def relax(molecule: Molecule, steps: int = STEPS) -> Relaxation | str:
    """Relax a copy of the molecule; "unsound" or "untyped" when that cannot be done (see StrainScores).

    Bonds are the stored ones, or else those of rule 1.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdForceFieldHelpers

    mol = chemistry.sanitised(molecule.to_rdkit())
    if mol is None or len(Chem.GetMolFrags(mol)) != 1:
        return "unsound"
    with rdBase.BlockLogs():
        parameters = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
        if parameters is None:
            return "untyped"
        field = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, parameters)
        if field is None:
            return "untyped"
        field.Initialize()
        before = field.CalcEnergy()
        converged = field.Minimize(maxIts=steps) == 0
        strain = before - field.CalcEnergy()
    moved = mol.GetConformer().GetPositions()
    if not (np.isfinite(strain) and np.isfinite(moved).all()):
        return "untyped"
    heavy = molecule.atomic_numbers > 1
    return Relaxation(
        strain,
        strain / max(int(heavy.sum()), 1),
        superposed_rmsd(moved, molecule.positions),
        superposed_rmsd(moved[heavy], molecule.positions[heavy]) if heavy.any() else 0.0,
        converged,
    )


def superposed_rmsd(a: np.ndarray, b: np.ndarray) -> float:
    r"""$\min_{R, t} \sqrt{\frac1N \sum_i |R a_i + t - b_i|^2}$ over proper rotations R (Kabsch 1976): (N, 3) each."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    u, _, v = np.linalg.svd(a.T @ b)
    turn = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ v))]) @ v
    return float(np.sqrt(((a @ turn - b) ** 2).sum(axis=1).mean()))


def strain_scores(
    molecules: Sequence[Molecule],
    steps: int = STEPS,
    seed: int = 0,
    workers: int = 1,
    progress: Callable[[int], None] = lambda done: None,
    kept: Kept = NOTHING,
    name: str = "strain",
) -> StrainScores:
    """Relax every molecule and say what it took; ``name`` stands for what decides which they are, where their results
    are kept. Raises InputError for no molecules."""
    if not molecules:
        raise InputError("There are no molecules to relax.")
    results: Results[Relaxation | str] = Results(kept, name, _plain, _relaxation)
    found = each(partial(relax, steps=steps), molecules, workers, progress, results)
    done = [one for one in found if isinstance(one, Relaxation)]
    names = {
        "strain": ("energy before - after", "kcal/mol"),
        "strain_per_heavy_atom": ("the same per heavy atom", "kcal/mol"),
        "rmsd": ("atoms moved", "angstrom"),
        "rmsd_heavy": ("heavy atoms moved", "angstrom"),
    }
    columns = {key: np.array([getattr(one, key) for one in done], dtype=np.float64) for key in names}
    figures = tuple(figure(*names[key], column, seed) for key, column in columns.items() if len(column))
    return StrainScores(
        figures,
        len(done),
        sum(not one.converged for one in done),
        found.count("untyped"),
        found.count("unsound"),
        columns,
    )


def _plain(found: Relaxation | str) -> dict[str, float] | str:
    return found if isinstance(found, str) else asdict(found)


def _relaxation(plain: dict[str, Any] | str) -> Relaxation | str:
    return plain if isinstance(plain, str) else Relaxation(**plain)


def figure(name: str, unit: str, column: np.ndarray, seed: int = 0, draws: int = 500) -> Figure:
    """Median and mean of a column (n,) with their intervals. Raises ValueError for an empty one."""
    bootstrap = Bootstrap(len(column), draws, seed)
    order = np.argsort(column)
    ordered = column[order]

    def median(weights: np.ndarray) -> float:
        share = np.cumsum(weights[order])
        # the middle one, or the mean of the two of an even number: weights are counts
        low, high = np.searchsorted(share, [(share[-1] - 1) // 2, share[-1] // 2], side="right")
        return float((ordered[low] + ordered[high]) / 2)

    median_low, median_high = bootstrap.interval(median)
    mean_low, mean_high = bootstrap.ratio(column, np.ones(len(column)))
    middle, mean = float(np.median(column)), float(column.mean())
    limits = (float(median_low), float(median_high), float(mean_low), float(mean_high))
    return Figure(name, unit, middle, *limits[:2], mean, *limits[2:], len(column))
