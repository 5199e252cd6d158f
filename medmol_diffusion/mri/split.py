"""Splits by subject: drawn, or read from a file."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from medmol_diffusion.errors import InputError
from medmol_diffusion.training.split_file import read_split, write_split


@dataclass(frozen=True)
class SubjectSplit:
    """Which subjects are for what. The file has the layout of the molecules' one; its entries are names, which mean
    the same whatever lies beside them, so that there is no fingerprint and one file serves every modality of a study.
    """

    train: list[str]
    validation: list[str]
    test: list[str]

    @classmethod
    def draw(cls, subjects: Sequence[str], validation: float, test: float, seed: int) -> "SubjectSplit":
        """Subjects in the order of the SHA-256 of seed and name, which no library version changes: first the test
        part, then validation, the rest trains. Each share above 0 gets at least one subject, as long as one is left.

        Raises:
            InputError: there are too few subjects for the shares asked.
        """
        unique = sorted(set(subjects), key=lambda name: hashlib.sha256(os.fsencode(f"{seed}:{name}")).hexdigest())
        tests, validations = (max(1, round(share * len(unique))) if share else 0 for share in (test, validation))
        if tests + validations >= len(unique):
            raise InputError(
                f"{len(unique)} subjects are too few for {validations} in validation, {tests} in test and one in "
                "training: add scans or set data.validation or data.test to 0."
            )
        last, middle, train = unique[:tests], unique[tests : tests + validations], unique[tests + validations :]
        return cls(sorted(train), sorted(middle), sorted(last))

    @classmethod
    def read(cls, path: str | Path) -> "SubjectSplit":
        """Raises InputError for a file that is missing, damaged, of molecules, or has a subject twice."""
        return cls(**read_split(path, _name, "subject"))

    def write(self, path: str | Path) -> None:
        """To a JSON file, which appears whole or not at all."""
        write_split(path, asdict(self))

    def members(self, subjects: Sequence[str]) -> tuple[list[int], list[int], list[int]]:
        """Places of the scans of these subjects for training, validation and test. Subjects of the split may be absent.

        Raises:
            InputError: a subject is in no part.
        """
        known = {name for part in (self.train, self.validation, self.test) for name in part}
        if unknown := sorted(set(subjects) - known):
            raise InputError(
                f"The split file has no subject {unknown[0]} ({len(unknown)} of {len(set(subjects))} are not in it): "
                "write one for these scans with medmol split."
            )
        train, middle, last = (
            [i for i, name in enumerate(subjects) if name in set(part)]
            for part in (self.train, self.validation, self.test)
        )
        return train, middle, last


def _name(entry: object) -> str:
    if not isinstance(entry, str):
        raise TypeError("a subject is a name")
    return entry
