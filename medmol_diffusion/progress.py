"""The bar of everything that takes long: a rich one in a terminal, a line now and then elsewhere."""

from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

FIRST, INTERVAL = 10.0, 60.0
"""Seconds until the first line of a bar that nobody can see move, and at most between lines: each wait is twice the one
before."""


class Bar(Progress):
    """One bar on stderr; a context manager. In a file, what takes long enough for a line also says when it is done.

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
        self.began = self.said = monotonic()
        self.wait = FIRST

    def reach(self, done: int, note: str = "") -> None:
        """``done`` items are done."""
        self.update(self.item, completed=done, note=note)
        if done == self.total:
            return  # the end says so
        if self._unseen() and monotonic() - self.said >= min(self.wait, INTERVAL):
            self.said, self.wait = monotonic(), 2 * self.wait
            self.console.print(f"{self.title}: {done} of {self.total or '?'} {note}".rstrip())

    def stop(self) -> None:
        running, lasted = self.live.is_started, monotonic() - self.began
        self.live.stop()  # that of Progress adds an empty line to a file
        if not running or not self._unseen():
            return
        if not self.live.transient:
            self.console.print()  # ends the line of the last state, which it leaves behind by itself
        elif lasted >= min(FIRST, INTERVAL):
            done = self.tasks[self.item].completed
            self.console.print(f"{self.title}: {done:.0f} of {self.total or '?'}, {lasted:.0f} s")

    def _unseen(self) -> bool:
        return not self.console.is_terminal and not self.disable
