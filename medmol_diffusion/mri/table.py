"""A table beside the scans (participants.tsv, or any csv or tsv): what is known of each of them."""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.bids import session_of, subject_of
from medmol_diffusion.mri.formats.files import stem

SUBJECT = ("participant_id", "subject_id", "subject", "patient_id", "patient", "id")
FILE = ("file", "filename", "file_name", "path", "image", "scan")
SESSION = ("session_id", "session")
MISSING = ("", "n/a", "na", "nan", "none", "null")
"""What stands for a value that is not known, in any case: n/a in BIDS."""

SHOWN = 5
"""Different values that a line lists."""

Row = dict[str, str]


@dataclass(frozen=True)
class Table:
    """The rows of a table, and by which of its columns they are found; a missing value is no key of its row.

    Attributes:
        path: the file.
        rows: as they stand in it, without missing values.
        file, subject, session: the columns that name the scan, its subject and its session; "" where there is none.
    """

    path: Path
    rows: tuple[Row, ...]
    file: str
    subject: str
    session: str

    @classmethod
    def read(cls, path: str | Path) -> "Table":
        """Read a csv (commas or semicolons) or tsv.

        Raises:
            InputError: it is missing, not a table, or has no column that names files or subjects.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"The table {path} cannot be read as text: give a csv or tsv in UTF-8.") from error
        if "\0" in text:
            raise InputError(f"The table {path} holds the character 0, so it is no text: give a csv or tsv in UTF-8.")
        try:
            return cls._parse(path, text)
        except csv.Error as error:
            raise InputError(f"The table {path} cannot be read ({error}): give a csv or tsv in UTF-8.") from error

    @classmethod
    def _parse(cls, path: Path, text: str) -> "Table":
        head = text.partition("\n")[0]
        delimiter = max("\t,;", key=head.count)
        reader = csv.DictReader(text.splitlines(), delimiter=delimiter)
        columns = [str(name).strip() for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        kinds = [_first(columns, names) for names in (FILE, SUBJECT, SESSION)]
        if not (kinds[0] or kinds[1]):
            raise InputError(
                f"The table {path} has columns {', '.join(columns) or 'of no name'}, none of which names a scan: call "
                f"the one of files {FILE[0]}, or that of subjects {SUBJECT[0]}."
            )
        rows = []
        for place, row in enumerate(reader, start=2):
            if None in row or None in row.values():
                raise InputError(f"Line {place} of the table {path} has more or fewer columns than its first line.")
            rows.append({key: value.strip() for key, value in row.items() if value.strip().lower() not in MISSING})
        return cls(path, tuple(rows), *kinds)

    @property
    def columns(self) -> list[str]:
        """The covariates: all columns but those that name the scan, in the order of their first values."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        return [name for name in names if name not in (self.file, self.subject, self.session)]

    def row(self, name: str) -> Row:
        """What is known of a scan, by its path within its folder; empty where nothing is.

        The row that names the file (its path, its name, or its name without suffix), else those of its subject, `sub-`
        or not, and of its session where rows have one. Where several rows are left, what they agree on.
        """
        return self._agreed(self._of(name))

    def unused(self, names: Iterable[str]) -> int:
        """How many rows are of none of these scans."""
        used = {id(row) for name in names for row in self._of(name)}
        return sum(id(row) not in used for row in self.rows)

    def _of(self, name: str) -> list[Row]:
        names = {name, Path(name).name, stem(name)}
        if self.file and (own := [row for row in self.rows if _names(row.get(self.file, "")) & names]):
            return own
        subject, session = subject_of(name).removeprefix("sub-"), session_of(name).removeprefix("ses-")
        own = [row for row in self.rows if self.subject and row.get(self.subject, "").removeprefix("sub-") == subject]
        if session:
            own = [row for row in own if row.get(self.session, session).removeprefix("ses-") == session]
        return own

    def subject_named(self, name: str) -> str:
        """The subject that the scan's own row names, else what the name says."""
        return self.row(name).get(self.subject) or subject_of(name)

    def participants(self) -> dict[str, Row]:
        """Subject -> what its rows agree on; empty without a column of subjects."""
        groups: dict[str, list[Row]] = {}
        for row in self.rows:
            if name := row.get(self.subject):
                groups.setdefault(name, []).append(row)
        return {name: self._agreed(rows) for name, rows in groups.items()}

    def _agreed(self, rows: list[Row]) -> Row:
        if not rows:
            return {}
        return {key: value for key, value in rows[0].items() if all(row.get(key) == value for row in rows)}


def summary_of(rows: Sequence[Row], name: str) -> str:
    """One column in words: the range and median of numbers, how often each word, how many are missing."""
    values = [row[name] for row in rows if name in row]
    missing = f"; {len(rows) - len(values)} missing" if len(values) < len(rows) else ""
    try:
        numbers = np.array([float(value) for value in values])
    except ValueError:
        return counts_of(values) + missing
    if not len(numbers):
        return "no value" + missing
    return f"{numbers.min():.4g} to {numbers.max():.4g}, {np.median(numbers):.4g} in the median{missing}"


def counts_of(values: Iterable[str]) -> str:
    """ "120 x 120 x 90 (8), 88 x 128 x 128 (2)": the most frequent first, SHOWN of them."""
    found = Counter(values)
    if len(found) == found.total() > SHOWN:
        return f"{len(found)} different values"
    shown = ", ".join(f"{value} ({count})" for value, count in found.most_common(SHOWN))
    return (shown or "none") + (f" and {len(found) - SHOWN} others" if len(found) > SHOWN else "")


def find_table(folder: Path) -> Path | None:
    """participants.tsv of the folder or of the one above, if there is one."""
    return next((file for up in (folder, folder.parent) if (file := up / "participants.tsv").is_file()), None)


def _first(columns: Iterable[str], names: tuple[str, ...]) -> str:
    lower = {column.lower(): column for column in columns}
    return next((lower[name] for name in names if name in lower), "")


def _names(text: str) -> set[str]:
    return {text, Path(text).name, stem(text)} if text else set()
