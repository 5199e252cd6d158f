"""Scores of a set of molecules by rule 1 (EDM, Hoogeboom et al. 2022), each with a bootstrap interval.

Bonds come from distances (chemistry.py), so anyone's coordinates are judged alike; bonds stored in a file are not used.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import chemistry
from medmol_diffusion.molecules.molecule import Molecule, pad


@dataclass(frozen=True)
class Score:
    """A fraction, what it is a fraction of (n), and its 95% bootstrap interval over molecules."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class MoleculeScores:
    """The published rule's scores of a set of molecules; None for what the set cannot say.

    atom_stability: atoms of an allowed valence / atoms. molecule_stability: molecules of such atoms alone / molecules.
    validity: molecules that RDKit sanitises / molecules. connectivity: valid and in one piece / molecules.
    uniqueness: distinct SMILES / valid. novelty: distinct SMILES that are not in the reference / distinct.
    A SMILES is that of the largest fragment, so validity counts disconnected molecules.
    """

    atom_stability: Score
    molecule_stability: Score
    validity: Score
    connectivity: Score
    uniqueness: Score | None
    novelty: Score | None

    def to_dict(self) -> dict[str, dict[str, float] | None]:
        """Plain numbers, for JSON."""
        return asdict(self)

    def rows(self) -> Iterator[tuple[str, str, str, str]]:
        """(name, value, interval, n) for a table, in percent; scores that could not be made are left out."""
        for name, score in vars(self).items():
            if score is not None:
                interval = f"{100 * score.low:.1f} - {100 * score.high:.1f}"
                yield name.replace("_", " "), f"{100 * score.value:.1f} %", interval, str(score.n)


def score_molecules(
    molecules: list[Molecule], reference_smiles: set[str] | None = None, bootstrap: int = 1000, seed: int = 0
) -> MoleculeScores:
    """Judge molecules by rule 1. reference_smiles are those of the training set by the same rule: smiles_of(molecules).

    The intervals resample whole molecules `bootstrap` times. A resample repeats molecules by its nature, so it counts a
    molecule as distinct when it is the first of its kind in the whole set. Raises InputError for no molecules.
    """
    if not molecules:
        raise InputError("There are no molecules to score.")
    stable_atoms, graphs = _judge(molecules)
    atoms = np.array([molecule.num_atoms for molecule in molecules])
    valid = np.array([graph is not None for graph in graphs])
    connected = np.array([graph is not None and graph[1] for graph in graphs])
    every = np.ones(len(molecules))
    # The first of its copies stands for a distinct SMILES.
    seen: set[str] = set()
    first = np.zeros(len(molecules), dtype=bool)
    novel = np.zeros(len(molecules), dtype=bool)
    for place, graph in enumerate(graphs):
        if graph is not None and graph[0] not in seen:
            seen.add(graph[0])
            first[place] = True
            novel[place] = reference_smiles is not None and graph[0] not in reference_smiles

    draw = np.random.default_rng(seed)
    weights = draw.multinomial(len(molecules), every / len(molecules), size=bootstrap)

    def score(part: np.ndarray, whole: np.ndarray) -> Score:
        totals = weights @ whole
        low, high = np.quantile((weights @ part)[totals > 0] / totals[totals > 0], [0.025, 0.975])
        return Score(float(part.sum() / whole.sum()), float(low), float(high), int(whole.sum()))

    return MoleculeScores(
        atom_stability=score(stable_atoms, atoms),
        molecule_stability=score(stable_atoms == atoms, every),
        validity=score(valid, every),
        connectivity=score(connected, every),
        uniqueness=score(first, valid) if valid.any() else None,
        novelty=score(novel, first) if valid.any() and reference_smiles is not None else None,
    )


def smiles_of(molecules: list[Molecule]) -> set[str]:
    """The distinct SMILES of the valid molecules by rule 1: what novelty is measured against."""
    return {graph[0] for graph in _judge(molecules)[1] if graph is not None}


def _judge(molecules: list[Molecule]) -> tuple[np.ndarray, list[tuple[str, bool] | None]]:
    """How many atoms of each are stable (M,), and of each valid one its SMILES and whether it is in one piece."""
    stable = np.zeros(len(molecules), dtype=np.int64)
    graphs: list[tuple[str, bool] | None] = []
    for start in range(0, len(molecules), 1024):
        chunk = molecules[start : start + 1024]
        numbers, _, count = pad(chunk)
        positions = np.zeros((*numbers.shape, 3))
        for row, molecule in enumerate(chunk):
            positions[row, : count[row]] = molecule.positions
        orders = chemistry.bond_orders_batch(numbers, positions)
        stable[start : start + len(chunk)] = chemistry.stability(numbers, orders).sum(axis=1)
        for row, size in enumerate(count):
            mol = chemistry.rule_one_mol(numbers[row, :size], orders[row, :size, :size])
            graphs.append(None if mol is None else chemistry.largest_fragment_smiles(mol))
    return stable, graphs
