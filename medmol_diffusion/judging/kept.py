"""What has been measured, kept in files: a command that was stopped goes on, one that is repeated is quick."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from medmol_diffusion import __version__
from medmol_diffusion.whole_file import whole_file


@dataclass(frozen=True)
class Kept:
    """Results by name, each a file that appears whole or not at all.

    Attributes:
        folder: where; None keeps nothing.
    """

    folder: Path | None = None

    @classmethod
    def of(cls, cache: Path | None, files: Iterable[Path], **what: Any) -> Self:
        """The results of files as they are now: by path, size and time of change of each, by the version of this
        package, and by ``what`` else, plain values, decides them. A file that has changed has no results."""
        if cache is None:
            return cls()
        named = [(str(file.resolve()), (seen := file.stat()).st_size, seen.st_mtime_ns) for file in files]
        key = json.dumps([named, __version__, what], sort_keys=True)
        return cls(cache / hashlib.sha256(key.encode()).hexdigest()[:24])

    def arrays(self, name: str) -> dict[str, np.ndarray] | None:
        """What was kept by this name."""
        if self.folder is None or not (file := self.folder / f"{name}.npz").is_file():
            return None
        with np.load(file, allow_pickle=False) as found:
            return dict(found)

    def keep_arrays(self, name: str, found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Keep them, and give them back."""
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            with whole_file(self.folder / f"{name}.npz") as temporary, temporary.open("wb") as file:
                np.savez(file, **found)  # type: ignore[arg-type]
        return found

    def plain(self, name: str) -> Any | None:
        """The plain values that were kept by this name."""
        if self.folder is None or not (file := self.folder / f"{name}.json").is_file():
            return None
        return json.loads(file.read_text())

    def keep_plain(self, name: str, found: Any) -> None:
        """Keep plain values, NaN among them."""
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            with whole_file(self.folder / f"{name}.json") as temporary:
                temporary.write_text(json.dumps(found))


NOTHING = Kept()
"""Nothing is kept."""
