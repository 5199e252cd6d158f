"""Scores of a set of molecules by one of two protocols (judge/verdict.py), each with a bootstrap interval.

Figures of different protocols must not stand in one table.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.judging.bootstrap import Bootstrap
from medmol_diffusion.judging.cells import interval, number
from medmol_diffusion.molecules.judge.verdict import COLUMNS, Protocol, check_protocol, identity, verdicts
from medmol_diffusion.molecules.molecule import Molecule


@dataclass(frozen=True)
class Score:
    """A fraction, what it is a fraction of (n), and its 95% bootstrap interval over molecules, NaN where there is
    none."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class MoleculeScores:
    """The published scores of a set of molecules by one protocol; None for what the set cannot say.

    atom_stability: atoms of an allowed valence / atoms. molecule_stability: molecules of such atoms alone / molecules.
    validity: molecules that RDKit sanitises / molecules. connectivity: valid and in one piece / molecules.
    uniqueness: distinct SMILES / valid. novelty: distinct SMILES that are not in the reference / distinct.
    unknown_elements: atoms of an element that the rule has no entry for, none of them stable / atoms.
    A SMILES is that of the largest fragment, so validity counts disconnected molecules: connectivity stands beside it.
    """

    protocol: Protocol
    atom_stability: Score
    molecule_stability: Score
    validity: Score
    connectivity: Score
    uniqueness: Score | None
    novelty: Score | None
    unknown_elements: Score

    def to_dict(self) -> dict[str, dict[str, float] | None]:
        """Plain numbers, for JSON: each score by its name."""
        return {name: None if score is None else asdict(score) for name, score in self._scores().items()}

    def rows(self) -> Iterator[tuple[str, str, str, str]]:
        """(name, value, interval, n) for a table, in percent.

        Scores that could not be made are left out, and so are unknown elements where there are none.
        """
        for name, score in self._scores().items():
            if score is not None and (name != "unknown_elements" or score.value > 0):
                limits = interval(100 * score.low, 100 * score.high, ".1f")
                yield name.replace("_", " "), number(100 * score.value, ".1f", "%"), limits, str(score.n)

    def _scores(self) -> dict[str, Score | None]:
        return {name: value for name, value in vars(self).items() if name != "protocol"}


class Judge:
    """Scores a stream of molecules of any length with flat memory: six numbers are kept of each, and no molecule.

        judge = Judge(protocol="bonds")
        for molecules in chunks:
            judge.update(molecules)
        print(judge.scores())

    Args:
        reference_smiles: of the training set by the same protocol, smiles_of(molecules), for the novelty.
        protocol: "distances" or "bonds", see judge/verdict.py.
        workers: processes that judge, see verdicts.

    Raises InputError for an unknown protocol.
    """

    def __init__(
        self, reference_smiles: Iterable[str] | None = None, protocol: Protocol = "distances", workers: int = 1
    ) -> None:
        check_protocol(protocol)
        self.protocol: Protocol = protocol
        self.workers = workers
        self.reference = None if reference_smiles is None else identities(reference_smiles)
        self._tables = [np.zeros((0, len(COLUMNS)), dtype=np.int64)]

    def update(self, molecules: Iterable[Molecule]) -> None:
        """Judge more molecules; a generator is read a chunk at a time."""
        self._tables += [table for table, _ in verdicts(molecules, self.protocol, self.workers)]

    def __len__(self) -> int:
        return sum(len(table) for table in self._tables)

    def table(self) -> np.ndarray:
        """(M, 6) int64: the numbers of every molecule so far, in order, one for each of verdict.COLUMNS."""
        self._tables = [np.concatenate(self._tables)]
        return self._tables[0]

    def scores(self, bootstrap: int = 1000, seed: int = 0) -> MoleculeScores:
        """The scores of all molecules so far; raises InputError when there are none."""
        return scores_of(self.table(), self.protocol, self.reference, bootstrap, seed)


def score_molecules(
    molecules: Iterable[Molecule],
    reference_smiles: set[str] | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    protocol: Protocol = "distances",
    workers: int = 1,
) -> MoleculeScores:
    """Judge molecules by a protocol. reference_smiles are those of the training set by the same: smiles_of(molecules).

    The intervals resample whole molecules `bootstrap` times. A resample repeats molecules by its nature, so it counts a
    molecule as distinct when it is the first of its kind in the whole set. Where all or nothing is counted, the
    interval is the exact binomial one, as a bootstrap's would have no width.

    Raises InputError for no molecules, an unknown protocol, and molecules without bonds under "bonds".
    """
    judge = Judge(reference_smiles, protocol, workers)
    judge.update(molecules)
    return judge.scores(bootstrap, seed)


def smiles_of(molecules: Iterable[Molecule], protocol: Protocol = "distances", workers: int = 1) -> set[str]:
    """The distinct SMILES of the valid molecules by a protocol: what novelty by the same protocol is measured against.

    They hold their hydrogens and no stereochemistry.
    """
    chunks = verdicts(molecules, protocol, workers)
    return {smiles for _, found in chunks for smiles in found if smiles is not None}


def identities(smiles: Iterable[str]) -> np.ndarray:
    """(K,) int64: the distinct identities of SMILES, sorted."""
    return np.unique(np.array([identity(one) for one in smiles], dtype=np.int64))


def ratios(table: np.ndarray, reference: np.ndarray | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Of each score its part and its whole of every molecule, (M,) each, so that score = sum of parts / sum of wholes.

    table is (M, 6), one column for each of verdict.COLUMNS; reference is identities(smiles), or None: no novelty.
    """
    atoms, stable, unknown, valid, connected, kind = table.T
    every = np.ones_like(atoms)
    # The first of its copies stands for a distinct SMILES.
    places = np.flatnonzero(valid)
    first = np.zeros_like(atoms)
    first[places[np.unique(kind[places], return_index=True)[1]]] = 1
    found = {
        "atom_stability": (stable, atoms),
        "molecule_stability": (stable == atoms, every),
        "validity": (valid, every),
        "connectivity": (connected, every),
        "uniqueness": (first, valid),
        "unknown_elements": (unknown, atoms),
    }
    if reference is not None:
        found["novelty"] = (first * ~np.isin(kind, reference), first)
    return found


def scores_of(
    table: np.ndarray, protocol: Protocol, reference: np.ndarray | None = None, bootstrap: int = 1000, seed: int = 0
) -> MoleculeScores:
    """The scores of the judged molecules of a table, see ratios; raises InputError when there are none."""
    if not len(table):
        raise InputError("There are no molecules to score.")
    pairs = ratios(table, reference)
    parts, wholes = (np.stack(columns, axis=1).astype(np.float64) for columns in zip(*pairs.values(), strict=True))
    intervals = Bootstrap(len(table), bootstrap, seed).fraction(parts, wholes)
    scores: dict[str, Score] = {}
    for name, part, whole, low, high in zip(pairs, parts.sum(axis=0), wholes.sum(axis=0), *intervals, strict=True):
        if whole > 0:
            scores[name] = Score(float(part / whole), float(low), float(high), int(whole))
    return MoleculeScores(
        protocol=protocol,
        atom_stability=scores["atom_stability"],
        molecule_stability=scores["molecule_stability"],
        validity=scores["validity"],
        connectivity=scores["connectivity"],
        uniqueness=scores.get("uniqueness"),
        novelty=scores.get("novelty"),
        unknown_elements=scores["unknown_elements"],
    )
