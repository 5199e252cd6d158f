"""The parser of the verbs, the types of their arguments, and the arguments that every verb with a model has."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from medmol_diffusion.errors import InputError, did_you_mean


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are InputErrors, and that takes no prefix of an option for the option."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **(kwargs | {"allow_abbrev": False}))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As parse_args: here, where the verb is known, what is left over is an error that names its nearest option."""
        found, left = super().parse_known_args(args, namespace)
        if left:
            options = [option for option in self._option_string_actions if option.startswith("--")]
            near = did_you_mean(left[0].partition("=")[0], options)
            self.error(f"unrecognized arguments: {' '.join(left)}{near}")
        return found, left

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{self.prog}: {message}")


class CoreNames(Sequence[str]):
    """The names in a registry of the core, looked up when somebody asks: --help should not wait for torch."""

    def __init__(self, registry: str) -> None:
        self.registry = registry

    def _names(self) -> list[str]:
        from medmol_diffusion import core

        return list(getattr(core, self.registry))

    def __getitem__(self, place: Any) -> Any:
        return self._names()[place]

    def __len__(self) -> int:
        return len(self._names())


Verbs = argparse._SubParsersAction
"""What a verb's ``add`` adds its parser to."""


def add_verb(verbs: Verbs, name: str, about: str, run: Callable[..., None]) -> argparse.ArgumentParser:
    """The parser of a verb: ``run`` is called with what it parses."""
    sub: argparse.ArgumentParser = verbs.add_parser(name, help=about, description=about)
    sub.set_defaults(run=run)
    return sub


def add_model(sub: argparse.ArgumentParser) -> None:
    """A model, where it runs and its seed."""
    sub.add_argument(
        "model", type=model_there, metavar="MODEL", help="a run folder, an exported folder, or a shipped model"
    )
    sub.add_argument("--device", default="auto", help="cpu, cuda, ... (default: a GPU if there is one)")
    sub.add_argument("--seed", type=int, default=0, help="of the random streams (default 0)")


def add_reading(sub: argparse.ArgumentParser) -> None:
    """Which frame of 4-D scans, which DICOM series of a folder."""
    sub.add_argument("--frame", type=at_least(0), help="of 4-D scans: which frame, from 0")
    sub.add_argument("--series", metavar="TEXT", help="of folders with several DICOM series: its number or description")


def there(text: str) -> str:
    """A path that exists: told while parsing, before torch is loaded."""
    if not Path(text).exists():
        raise argparse.ArgumentTypeError(f"{text} does not exist: check the path")
    return text


def there_or_part(text: str) -> str:
    """A path that exists, or RUN:PART of a run that does."""
    from medmol_diffusion.training.folder import run_and_part

    there(text if Path(text).exists() else run_and_part(text)[0])
    return text


def model_there(text: str) -> str:
    """The name of a model that there is."""
    from medmol_diffusion.training.folder import find_model

    try:
        find_model(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def at_least(least: int) -> Callable[[str], int]:
    """A whole number of at least so much."""

    def number(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"{value} must be at least {least}")
        return value

    return number


def above(least: float) -> Callable[[str], float]:
    """A number above this one."""

    def number(text: str) -> float:
        if not (value := float(text)) > least:
            raise argparse.ArgumentTypeError(f"{text} must be above {least:g}")
        return value

    return number
