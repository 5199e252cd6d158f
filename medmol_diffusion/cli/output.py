"""What the verbs print and write: tables, counts and sentences on the terminal, figures as JSON."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from medmol_diffusion.progress import Bar
from medmol_diffusion.whole_file import whole_file

console = Console()


def say(title: str, message: str) -> None:
    """A sentence for the user, on stderr."""
    Console(stderr=True, soft_wrap=True).print(f"{title} {escape(message)}", highlight=False)


def show(title: str, header: Sequence[str], rows: Iterable[Sequence[str]], caption: str | None = None) -> None:
    """A table."""
    table = Table(*header, title=escape(title), caption=caption, caption_justify="left")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


@contextmanager
def stage(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar that goes away; what is entered is told how many are done."""
    with Bar(title, total, transient=True) as bar:
        yield bar.reach


def write_json(path: str | Path | None, content: Any) -> None:
    """Write the figures to a file, if there is one to write to."""
    if path is not None:
        with whole_file(path) as file:
            file.write_text(json.dumps(_finite(content), indent=2, allow_nan=False) + "\n")


def _finite(content: Any) -> Any:
    """JSON has no NaN and no infinity: null stands for them."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
