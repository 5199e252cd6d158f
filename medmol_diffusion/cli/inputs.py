"""What the verbs read: models, molecules in files, and which domain a path is of."""

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
    model = load_model(source)
    try:
        return model.to(chosen)
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


def holds_molecules(path: Path) -> bool:
    """Whether a path is of molecules, or else of scans.

    Raises:
        InputError: a folder that holds neither, or both.
    """
    from medmol_diffusion.molecules.formats.files import SUFFIXES, inputs, suffix
    from medmol_diffusion.mri.formats.files import holds_scans

    if not path.is_dir():
        return suffix(path) in SUFFIXES or not holds_scans(path)
    molecules, scans = bool(inputs(path)), holds_scans(path)
    if molecules and scans:
        raise InputError(f"{path} holds scans and molecule files: name the files, or keep them apart")
    if not molecules and not scans:
        raise InputError(
            f"{path} holds neither molecules (files that end in {', '.join(SUFFIXES)}) nor, there or below, scans "
            "(.nii, .nii.gz, DICOM; to score them, give real ones as --reference FOLDER): check the path"
        )
    return molecules
