"""A table of figures that the terminal, JSON and HTML share, and the bar of what takes long to fill one."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

Stage = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""A progress bar of a title and a total, entered as the function that is told how many are done."""


@dataclass(frozen=True)
class ScoreTable:
    """A table of figures: its title, what it says in a few words, its header and rows, and the same for JSON."""

    key: str
    title: str
    meaning: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    data: Any
