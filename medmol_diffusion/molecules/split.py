"""Splits: a deterministic permutation of groups, and a split as a file that anybody can check and use again."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.dataset import MoleculeDataset
from medmol_diffusion.training.split_file import PARTS, read_split, write_split


@dataclass(frozen=True)
class Split:
    """Which records of a source are for what: places in the source from 0, ascending, and the source's fingerprint."""

    fingerprint: str
    train: list[int]
    validation: list[int]
    test: list[int]

    def write(self, path: str | Path) -> None:
        """To a JSON file, which appears whole or not at all."""
        write_split(path, asdict(self))

    @classmethod
    def read(cls, path: str | Path) -> "Split":
        """Raises InputError for a file that is missing, damaged, or puts a record in two parts."""
        return cls(**read_split(path, _place, "record", other=("fingerprint",)))

    def rows(self, data: MoleculeDataset, fingerprint: str, source: str) -> list[np.ndarray]:
        """The rows of ``data`` in the train, validation and test part; records that could not be used are left out.

        Raises InputError when the split is of other data, names a record that is not there, or parts conformers of one
        molecule.
        """
        if self.fingerprint != fingerprint:
            raise InputError(f"The split file was made for other data than {source}: their fingerprints differ.")
        found = []
        for part in PARTS:
            entries = getattr(self, part)
            if entries and not 0 <= min(entries) <= max(entries) < data.flat.records:
                raise InputError(f"The {part} part of the split file goes beyond the {data.flat.records} of {source}.")
            places = np.array(entries, dtype=np.int64)
            found.append(np.flatnonzero(np.isin(data.index, places)))
        groups = np.concatenate([np.unique(data.group[rows]) for rows in found])
        if len(np.unique(groups)) < len(groups):
            raise InputError(f"The split file parts conformers of one molecule of {source}: split by group.")
        return found


def draw(
    group: np.ndarray, validation: float, test: float, seed: int = 0, limit: int | None = None
) -> list[np.ndarray]:
    """Rows for training, validation and testing: a permutation of the groups, of which test comes first, then
    validation, and the rest trains; limit keeps that many groups of the permutation."""
    order = np.random.default_rng(seed).permutation(np.unique(group))[:limit]
    num_test, num_validation = (round(part * len(order)) for part in (test, validation))
    parts = np.split(order, [num_test, num_test + num_validation])
    testing, validating, training = (np.flatnonzero(np.isin(group, groups)) for groups in parts)
    return [training, validating, testing]


def _place(entry: object) -> int:
    if not isinstance(entry, int) or isinstance(entry, bool):
        raise TypeError("a record is a whole number")
    return entry
