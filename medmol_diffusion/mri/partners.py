"""Which scans belong together: those of one subject and one session."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.bids import session_of, subject_of
from medmol_diffusion.mri.formats.files import find_scans
from medmol_diffusion.mri.table import Table


@dataclass(frozen=True)
class Partners:
    """Other scans of the subjects of a data set, by the name of what they are.

    The partner of a scan is of its subject (what the table says, or else bids.subject_of) and, where both paths name a
    session, of the same one.

    Attributes:
        candidates: name -> subject -> the files it may be.
        name_of: what a file is called within the data set.
        subject_of: whose a file is.
        option: what the names are given under, for messages.
    """

    candidates: Mapping[str, Mapping[str, Sequence[Path]]]
    name_of: Callable[[Path], str]
    subject_of: Callable[[Path], str]
    option: str = "data.images"

    @classmethod
    def of(
        cls,
        folder: Path,
        patterns: Mapping[str, str],
        name_of: Callable[[Path], str],
        table: Table | None,
        option: str = "data.images",
    ) -> Self:
        """Of a folder, each found by a glob.

        Raises:
            InputError: nothing matches one of them.
        """

        def whose(file: Path) -> str:
            return table.subject_named(name_of(file)) if table else subject_of(name_of(file))

        candidates: dict[str, dict[str, list[Path]]] = {}
        for name, pattern in patterns.items():
            groups = candidates.setdefault(name, {})
            for file in find_scans(folder, pattern):
                groups.setdefault(whose(file), []).append(file)
        return cls(candidates, name_of, whose, option)

    def of_scan(self, scan: Path) -> dict[str, Path]:
        """Name -> the partner, of those that the scan has.

        Raises:
            InputError: there are several of one name.
        """
        found = {}
        subject, session = self.subject_of(scan), session_of(self.name_of(scan))
        for name, groups in self.candidates.items():
            own = [file for file in groups.get(subject, ()) if file != scan]
            exact = [file for file in own if session_of(self.name_of(file)) == session]
            own = exact or [file for file in own if not (session and session_of(self.name_of(file)))]
            if len(own) > 1:
                raise InputError(
                    f"{scan} has several partners for {self.option}.{name}, {self.name_of(own[0])} and "
                    f"{self.name_of(own[1])}: give a glob that only one of them matches"
                )
            if own:
                found[name] = own[0]
        return found

    def complete(self, scans: Sequence[Path]) -> list[Path]:
        """The scans that have a partner of every name; one warning names the others.

        Raises:
            InputError: none has.
        """
        missing = {scan: [name for name in self.candidates if name not in self.of_scan(scan)] for scan in scans}
        left_out = [f"{self.name_of(scan)} has no {', '.join(names)}" for scan, names in missing.items() if names]
        if scans and len(left_out) == len(scans):
            raise InputError(
                f"no scan has a partner of its subject and session for {self.option}, the first: {left_out[0]}; check "
                "data.suffix or data.pattern, and the globs"
            )
        if left_out:
            listed = "\n".join(f"  {line}" for line in left_out)
            warnings.warn(f"{len(left_out)} of {len(scans)} scans are left out:\n{listed}", stacklevel=3)
        return [scan for scan in scans if not missing[scan]]
