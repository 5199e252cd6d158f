"""PoseBusters (Buttenschoen, Morris and Deane 2024): does a molecule look like one, by the checks that need no protein.

The package posebusters runs its own configuration "mol": sanitisation, InChI, one piece, no radicals, bond lengths and
angles and clashes against distance geometry, flat and non-flat rings, flat double bonds, and internal energy against an
ensemble of 50 conformers by UFF.
"""

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.judging.bootstrap import Bootstrap
from medmol_diffusion.judging.cells import interval, number
from medmol_diffusion.molecules.judge.pool import Results, each
from medmol_diffusion.molecules.molecule import Molecule

if TYPE_CHECKING:
    from posebusters import PoseBusters


@dataclass(frozen=True)
class PassRate:
    """The share of molecules that pass, its 95% bootstrap interval, and of how many."""

    name: str
    value: float
    low: float
    high: float
    n: int

    def row(self) -> tuple[str, ...]:
        """name, value, interval, n."""
        limits = interval(100 * self.low, 100 * self.high, ".1f")
        return self.name, number(100 * self.value, ".1f", "%"), limits, str(self.n)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def bust(molecule: Molecule) -> dict[str, bool]:
    """Every check of the configuration by its name. A check that could not be run, as all those of a graph that RDKit
    does not sanitise, is not passed."""
    import rdkit
    from rdkit import rdBase

    busters, said, mol = _busters(), logging.getLogger("rdkit"), molecule.to_rdkit()
    level = said.level
    # posebusters listens to RDKit through logging, past BlockLogs; what fails is in the table
    rdBase.LogToPythonLogger()
    said.setLevel(logging.CRITICAL)
    # posebusters flushes the stream of its last call, and fails every check where somebody has closed that since
    rdkit.log_handler.stream = sys.stderr
    try:
        table = busters.bust(mol)
    finally:
        said.setLevel(level)
        rdBase.LogToCppStreams()
    return {str(name): value is True or value is np.True_ for name, value in table.iloc[0].items()}


@cache
def _busters() -> "PoseBusters":
    from pathlib import Path

    import posebusters
    import yaml

    logging.getLogger("posebusters").setLevel(logging.ERROR)  # what fails is in the table
    config = yaml.safe_load((Path(posebusters.__file__).parent / "config" / "mol.yml").read_text(encoding="utf-8"))
    # one of its modules is listed twice, once without an output; processes are ours to share out
    config["modules"] = [module for module in config["modules"] if module.get("chosen_binary_test_output")]
    for module in config["modules"]:
        if module["function"] == "energy_ratio":
            module["parameters"]["num_threads"] = 1
    return posebusters.PoseBusters(config=config)


def pose_scores(
    molecules: Sequence[Molecule],
    seed: int = 0,
    workers: int = 1,
    progress: Callable[[int], None] = lambda done: None,
    kept: Results[dict[str, bool]] | None = None,
) -> list[PassRate]:
    """The share that passes every check, and each of them; bonds are the stored ones, or else those of rule 1.

    Raises InputError for no molecules.
    """
    if not molecules:
        raise InputError("There are no molecules for PoseBusters.")
    found = each(bust, molecules, workers, progress, kept)
    names = list(found[0])
    passed = np.array([[row[name] for name in names] for row in found], dtype=np.float64)
    columns = {"all checks": passed.all(axis=1).astype(np.float64), **dict(zip(names, passed.T, strict=True))}
    bootstrap, ones = Bootstrap(len(found), seed=seed), np.ones(len(found))
    rates = []
    for name, column in columns.items():
        low, high = bootstrap.fraction(column, ones)
        rates.append(PassRate(name.replace("_", " "), float(column.mean()), float(low), float(high), len(found)))
    return rates
