"""What the verbs read: models, molecules in files, and which domain a path is of."""

from pathlib import Path
from typing import Any

from rich.markup import escape

from medmol_diffusion.cli.output import console
from medmol_diffusion.cli.ranks import Ranks
from medmol_diffusion.errors import InputError
from medmol_diffusion.extras import installed, need
from medmol_diffusion.plural import counted


def load(source: str, device: str) -> Any:
    """A model on a device; "auto" is a GPU if there is one, of several processes on a machine one each.

    Raises:
        InputError: no such model, or no such device.
    """
    import torch

    from medmol_diffusion.training.memory import keep_freed_memory
    from medmol_diffusion.training.saved import load_model

    gpus, ranks = torch.cuda.device_count(), Ranks.here()
    own = f"cuda:{ranks.local % gpus}" if gpus and ranks.count > 1 else "cuda"
    chosen = device if device != "auto" else (own if torch.cuda.is_available() else "cpu")
    keep_freed_memory()
    model = load_model(source)
    if type(model).__module__.startswith("medmol_diffusion.molecules"):  # which load without their extra
        need("molecules", "medmol_diffusion.molecules")
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
        MissingExtra: what it holds needs an extra that is not installed.
    """
    if not installed("mri"):
        if _molecules_there(path):
            return True
        need("mri", f"{path} holds no molecules, and medmol_diffusion.mri")
    if not installed("molecules"):
        if _scans_there(path):
            return False
        need("molecules", f"{path} holds no scans, and medmol_diffusion.molecules")
    from medmol_diffusion.molecules.formats.files import SUFFIXES

    if not path.is_dir():
        return _molecules_there(path) or not _scans_there(path)
    molecules, scans = _molecules_there(path), _scans_there(path)
    if molecules and scans:
        raise InputError(f"{path} holds scans and molecule files: name the files, or keep them apart")
    if not molecules and not scans:
        raise InputError(
            f"{path} holds neither molecules (files that end in {', '.join(SUFFIXES)}) nor, there or below, scans "
            "(.nii, .nii.gz, DICOM; to score them, give real ones as --reference FOLDER): check the path"
        )
    return molecules


def _molecules_there(path: Path) -> bool:
    from medmol_diffusion.molecules.formats.files import SUFFIXES, inputs, suffix

    return bool(inputs(path)) if path.is_dir() else suffix(path) in SUFFIXES


def _scans_there(path: Path) -> bool:
    from medmol_diffusion.mri.formats.files import holds_scans

    return holds_scans(path)
