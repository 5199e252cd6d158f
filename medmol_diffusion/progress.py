"""The bar of everything that takes long: a rich one in a terminal, a line a minute elsewhere."""

from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

INTERVAL = 60.0
"""Seconds between the lines of a bar that nobody can see move."""


class Bar(Progress):
    """One bar on stderr; a context manager.

    Args:
        title: what is done.
        total: how many items; None where nobody knows.
        completed: how many are done already.
        transient: whether it goes away at the end.
        disable: show nothing.
    """

    def __init__(
        self, title: str, total: int | None, completed: int = 0, transient: bool = False, disable: bool = False
    ) -> None:
        columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        super().__init__(
            *columns,
            TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
            transient=transient,
            disable=disable,
        )
        self.title, self.total = title, total
        self.item = self.add_task(title, total=total, completed=completed, note="")
        self.said = monotonic()

    def reach(self, done: int, note: str = "") -> None:
        """``done`` items are done."""
        self.update(self.item, completed=done, note=note)
        if not self.console.is_terminal and not self.disable and monotonic() - self.said >= INTERVAL:
            self.said = monotonic()
            self.console.print(f"{self.title}: {done} of {self.total or '?'} {note}".rstrip())
