"""A split as a JSON file that anybody can check and use again: the same layout for both domains."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medmol_diffusion.errors import InputError
from medmol_diffusion.whole_file import whole_file

PARTS = ("train", "validation", "test")


def write_split(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write ``train``, ``validation`` and ``test``, and what a domain adds. The file appears whole or not at all."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as file:
        file.write_text(json.dumps(content) + "\n")


def read_split(path: str | Path, item: Callable[[Any], Any], kind: str, other: tuple[str, ...] = ()) -> dict[str, Any]:
    """The parts, lists of what ``item`` makes of their entries, and the ``other`` keys.

    Raises:
        InputError: the file is missing or damaged, lacks a key, or has one entry, a ``kind``, twice.
    """
    try:
        content = json.loads(Path(path).read_text())
        found = {key: str(content[key]) for key in other}
        parts = {part: [item(entry) for entry in _list(content[part])] for part in PARTS}
    except FileNotFoundError:
        raise InputError(f"There is no split file {path}: write one with medmol split.") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        needed = ", ".join([*other, *PARTS[:-1]])
        raise InputError(f"{path} is no split file: it needs {needed} and {PARTS[-1]}.") from error
    seen = set()
    for entry in (entry for part in parts.values() for entry in part):
        if entry in seen:
            raise InputError(f"{path} names {kind} {entry} more than once: each belongs to one part.")
        seen.add(entry)
    return {**found, **parts}


def _list(content: Any) -> list[Any]:
    if not isinstance(content, list):
        raise TypeError("a part is a list")
    return content
