"""What the verbs read: models, and molecules in files."""

from pathlib import Path
from typing import Any

from rich.markup import escape

from medmol_diffusion.cli.output import console
from medmol_diffusion.errors import InputError
from medmol_diffusion.plural import counted


def load(source: str, device: str) -> Any:
    """A model on a device; "auto" is a GPU if there is one.

    Raises:
        InputError: no such model, or no such device.
    """
    import torch

    from medmol_diffusion.training.memory import keep_freed_memory
    from medmol_diffusion.training.saved import load_model

    chosen = device if device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    keep_freed_memory()
    try:
        return load_model(source).to(chosen)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {device} is not to be had here: {str(error).splitlines()[0]}") from error


def readable(path: Path) -> list[Any]:
    """The molecules of a file; the records that cannot be read are listed and counted."""
    from medmol_diffusion.molecules import read_molecules

    molecules, bad = read_molecules(path)
    if not molecules:
        raise InputError(f"{path}: none of its {counted(len(bad), 'record')} can be read; the first: {bad[0].reason}")
    for record in bad[:10]:
        console.print(f"[yellow]skipped[/] {escape(str(path))}: {escape(str(record))}")
    if bad:
        console.print(f"[yellow]{len(bad)} of {counted(len(bad) + len(molecules), 'record')} could not be read[/]")
    return molecules
