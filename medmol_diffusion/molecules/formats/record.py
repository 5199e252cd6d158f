"""Record: what a reader yields for one place of a file, before anybody knows whether it is a molecule."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.molecule import Molecule


@dataclass(frozen=True)
class Record:
    """One place of a file.

    name: what the file calls it, "" if nothing; build: makes the molecule, or raises InputError; group: equal for
    conformers of one molecule where the layout says which they are.
    """

    name: str
    build: Callable[[], Molecule]
    group: str = ""


@dataclass(frozen=True)
class BadRecord:
    """A record of a file that could not be used: its place from 0, its name if it has one, and why."""

    index: int
    name: str
    reason: str

    def __str__(self) -> str:
        return f"record {self.index + 1}{f' ({self.name})' if self.name else ''}: {self.reason}"


def build(records: Iterator[Record]) -> Iterator[tuple[int, Record, Molecule | BadRecord]]:
    """(place from 0, record, what became of it) of each record."""
    for index, record in enumerate(records):
        try:
            found: Molecule | BadRecord = record.build()
        except InputError as error:
            found = BadRecord(index, record.name, str(error))
        yield index, record, found


def number_or_text(text: str) -> float | str:
    """A field of a text file: a number if it reads as one, the *^ exponents of QM9's files too."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return float(text.replace("*^", "e"))
    except ValueError:
        return text
