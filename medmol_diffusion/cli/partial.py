"""NAME.partial, a folder beside an output: what is done of it, so that a command that was stopped goes on."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from medmol_diffusion.errors import InputError
from medmol_diffusion.whole_file import whole_file

ASKED = "asked.json"


class Partial:
    """What is done of an output, part by part.

    Each part is a file that appears whole or not at all. Whatever ends the command, Ctrl-C, kill -9 or a full disk, the
    finished parts stay; as a part is the same whoever makes it and when, the command that goes on ends with the output
    of one that was never stopped.

    Args:
        output: the file or folder that is made.
        asked: all that decides what is in it, name -> plain value.

    Raises:
        InputError: the folder was begun with something else.
    """

    def __init__(self, output: Path, asked: dict[str, Any]) -> None:
        output = output if output.name else output.resolve()
        self.folder = output.with_name(f"{output.name}.partial")
        asked = json.loads(json.dumps(asked))
        file = self.folder / ASKED
        if file.is_file():
            self._check(json.loads(file.read_text()), asked)
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            with whole_file(file) as temporary:
                temporary.write_text(json.dumps(asked, indent=2) + "\n")
        self.done = {number: count for number, count, _ in self._files()}

    @property
    def items(self) -> int:
        """How many items the parts have that were there at the start or are made here."""
        return sum(self.done.values())

    def forget(self, lost: Callable[[int, Any], bool]) -> None:
        """Parts (number, content) that are lost after all are to be made again."""
        for number, _, file in list(self._files()):
            if number in self.done and lost(number, json.loads(file.read_text())):
                file.unlink()
                del self.done[number]

    def save(self, number: int, count: int, content: Any) -> None:
        """Part ``number``, of ``count`` items, is done; ``content`` is what the end needs of it, plain values."""
        with whole_file(self.folder / f"{number:08d}.{count}.json") as temporary:
            temporary.write_text(json.dumps(content))
        self.done[number] = count

    def contents(self, items: int) -> Iterator[tuple[int, Any]]:
        """(number, content) of every part, in order, those of other processes too.

        Raises:
            InputError: they have not so many items.
        """
        files = list(self._files())
        if (found := sum(count for _, count, _ in files)) != items:
            raise InputError(f"{self.folder} holds {found} of {items}: give the same command again to make the rest")
        for number, _, file in files:
            yield number, json.loads(file.read_text())

    def remove(self) -> None:
        """The output is whole: nothing of this is needed."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _files(self) -> Iterator[tuple[int, int, Path]]:
        for file in sorted(self.folder.glob("[0-9]*.json")):
            number, count, _ = file.name.split(".")
            yield int(number), int(count), file

    def _check(self, before: dict[str, Any], asked: dict[str, Any]) -> None:
        for name in sorted(before.keys() | asked.keys()):
            if (old := before.get(name)) != (new := asked.get(name)):
                raise InputError(
                    f"{self.folder} was begun with {name} {_said(old)}, not {_said(new)}: give the command that began "
                    "it to go on, or remove the folder, or choose another -o"
                )


def _said(value: Any) -> str:
    return "left out" if value is None else str(value)
