"""A table of figures that the terminal, JSON and HTML share, and the bar of what takes long to fill one."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

Stage = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""A progress bar of a title and a total, entered as the function that is told how many are done."""


def silent(title: str, total: int) -> AbstractContextManager[Callable[[int], None]]:
    """The Stage that shows nothing."""
    return nullcontext(lambda done: None)


@dataclass(frozen=True)
class ScoreTable:
    """A table of figures: its title, what it says in a few words, its header and rows, and the same for JSON."""

    key: str
    title: str
    meaning: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]
    data: Any
