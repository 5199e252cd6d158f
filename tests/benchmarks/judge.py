"""Rule 1 on QM9-sized molecules, against a plain loop over pairs: python -m tests.benchmarks.judge [--data qm9.npz]

The loop is what reference codes do, one molecule and one pair of atoms at a time, written here from the published rule
with the tables of chemistry.py. It runs twice, once on Python's floats and once, as those codes do it, on numpy rows,
and is checked to find the same stable atoms. Without --data, the molecules
are atoms at random places in the sizes of QM9, at its density, whose graphs RDKit mostly refuses: give real ones
for the whole table's time.
"""

import argparse
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from medmol_diffusion.molecules import Molecule, read_molecules
from medmol_diffusion.molecules.chemistry import (
    DOUBLE,
    MARGINS,
    SINGLE,
    SYMBOLS,
    TRIPLE,
    VALENCES,
    bond_orders_batch,
    stability,
)
from medmol_diffusion.molecules.metrics import score_molecules
from medmol_diffusion.molecules.molecule import pad
from tests.benchmarks.egnn import all_sizes, quantiles

LENGTHS = [
    {frozenset((a, b)): int(pm) for a, row in table.items() for b, pm in zip(*[iter(row.split())] * 2, strict=True)}
    for table in (SINGLE, DOUBLE, TRIPLE)
]


def numpy_distance(a: np.ndarray, b: np.ndarray) -> float:
    return np.sqrt(np.sum((a - b) ** 2))


def plain_loop(molecules: list[Molecule], distance_of: Callable[[Any, Any], float]) -> list[int]:
    """How many atoms of each molecule are stable by rule 1, pair by pair in Python."""
    found = []
    for molecule in molecules:
        symbols = [SYMBOLS[number] for number in molecule.atomic_numbers]
        positions = molecule.positions.tolist() if distance_of is math.dist else molecule.positions
        valence = [0] * len(symbols)
        for i in range(len(symbols)):
            for j in range(i + 1, len(symbols)):
                distance = 100 * distance_of(positions[i], positions[j])
                pair, order = frozenset((symbols[i], symbols[j])), 0
                for table, margin in zip(LENGTHS, MARGINS, strict=True):
                    if pair not in table or distance >= table[pair] + margin:
                        break
                    order += 1
                valence[i] += order
                valence[j] += order
        found.append(sum(v in VALENCES.get(symbol, ()) for symbol, v in zip(symbols, valence, strict=True)))
    return found


def at_random(count: int) -> list[Molecule]:
    draw = np.random.default_rng(0)
    return [
        Molecule(draw.choice([1, 6, 7, 8], size, p=[0.51, 0.35, 0.06, 0.08]), draw.normal(size=(size, 3)) * size**0.3)
        for size in draw.permutation(quantiles(all_sizes(None), count))
    ]


def timed(work: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    """The fastest of several runs, and what it gave."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - start)
    return min(times), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a molecule file; as many as asked for are drawn from it")
    parser.add_argument("--molecules", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()

    if options.data:
        reading, (every, _) = timed(lambda: read_molecules(options.data))
        Console().print(f"{len(every)} molecules read in {reading:.2f} s")
        chosen = np.random.default_rng(0).permutation(len(every))[: options.molecules]
        molecules = [every[place] for place in chosen]
    else:
        molecules = at_random(options.molecules)
    numbers, positions, _ = pad(molecules)
    exact = positions.astype(np.float64)
    for row, molecule in enumerate(molecules):
        exact[row, : molecule.num_atoms] = molecule.positions

    loop, expected = timed(lambda: plain_loop(molecules, numpy_distance))
    floats, same = timed(lambda: plain_loop(molecules, math.dist))
    rule, stable = timed(lambda: stability(numbers, bond_orders_batch(numbers, exact)).sum(axis=1), 3)
    assert stable.tolist() == expected == same
    whole, scores = timed(lambda: score_molecules(molecules, set(), workers=options.workers), 3)

    table = Table("what", "seconds", "ratio", title=f"{len(molecules)} molecules, {options.workers} process(es)")
    for name, seconds in (
        ("loop over pairs of numpy rows, stability alone", loop),
        ("loop over pairs of Python floats, stability alone", floats),
        ("arrays, stability alone", rule),
        ("score_molecules: all scores, 1000 bootstrap draws", whole),
    ):
        table.add_row(name, f"{seconds:.2f}", f"{loop / seconds:.1f}x")
    Console().print(table)
    for row in scores.rows():
        Console().print(*row)


if __name__ == "__main__":
    main()
