"""What the verbs that make scans of scans share: reading them, drawing answers, writing those and their mean."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.markup import escape

from medmol_diffusion.cli.output import console
from medmol_diffusion.cli.parser import add_reading, at_least
from medmol_diffusion.cli.sampling import add_asking_scans, add_sampling, guide, recipe, scan_steering, settings
from medmol_diffusion.errors import InputError
from medmol_diffusion.plural import counted
from medmol_diffusion.progress import Bar

if TYPE_CHECKING:
    from medmol_diffusion.mri import Volume

Answer = Callable[..., list["Volume"]]
"""The model's answers to the scans, given seed, progress and how to sample."""


def add_answering(sub: argparse.ArgumentParser) -> None:
    """Scans, where to write what is made of them, how many draws, and how to sample."""
    sub.add_argument("scans", nargs="+", metavar="SCAN")
    sub.add_argument("-o", "--output", required=True, metavar="FOLDER")
    sub.add_argument(
        "-n",
        type=at_least(1),
        default=1,
        help="draws for each scan (default 1); of several the mean is written too, which has the better PSNR and is "
        "smoother than any scan",
    )
    add_reading(sub)
    add_sampling(sub)
    add_asking_scans(sub)


def add_bids(sub: argparse.ArgumentParser) -> None:
    """Write BIDS derivatives that keep each scan's own suffix."""
    sub.add_argument("--bids", action="store_true", help="scans: write BIDS derivatives: sub-XX/anat/...")


def add_also(sub: argparse.ArgumentParser, what: str) -> None:
    """Scans of further contrasts, which ``also`` reads."""
    sub.add_argument("--also", action="append", nargs="+", metavar=("NAME", "SCAN"), help=what)


def also(options: argparse.Namespace, files: Sequence[Any]) -> dict[str, list[Path]]:
    """The scans of each further contrast, by its name, in the order of the first's files.

    Raises:
        InputError: not one for each.
    """
    found = {name: [Path(scan) for scan in scans] for name, *scans in options.also or ()}
    for name, scans in found.items():
        if len(scans) != len(files):
            raise InputError(f"--also {name} has {len(scans)} scans for {len(files)}: give one for each")
    return found


def check_names(files: Sequence[str | Path]) -> None:
    """Raises InputError where two have one name, for their results would lie in one file."""
    from medmol_diffusion.mri.formats.files import stem

    names = [stem(file) for file in files]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            f"several scans are called {twice[0]}, and their results would lie in one file: give them apart"
        )


def read(files: Sequence[str], options: argparse.Namespace) -> tuple[list[Path], list["Volume"]]:
    """The scans that can be used, and their files.

    Raises:
        InputError: two have one name, and their results would lie in one file.
    """
    from medmol_diffusion.mri.formats.files import read_scans

    if not options.bids:
        check_names(files)
    found = list(read_scans([Path(file) for file in files], options.frame, options.series))
    return [file for file, _ in found], [volume for _, volume in found]


def sampling(options: argparse.Namespace, model: Any) -> dict[str, Any]:
    """How to sample and what to ask for, by the names of VolumeDiffusion.sample.

    Raises:
        InputError: something is asked for that is for molecules.
    """
    asked = scan_steering(options)
    return {**recipe(options, model), "guide": guide(options, model), **asked}


def write_answers(
    files: Sequence[Path],
    what: str,
    answer: Answer,
    options: argparse.Namespace,
    suffix: str = "",
    more: dict[str, Any] | None = None,
) -> None:
    """Draw -n answers to every scan and write them to -o, each with a JSON sidecar: NAME_WHAT.nii.gz, or NAME_WHAT-1
    and so on with their mean, NAME_WHAT-mean. Draw j has the seed --seed + j.

    Args:
        files: of the scans.
        what: it is called.
        answer: the model's.
        options: of the verb.
        suffix: of BIDS; the scan's own when empty.
        more: settings that the sidecars tell.
    """
    total = options.n * len(files)
    with Bar(what, total, transient=True) as bar:
        draws = [
            answer(seed=options.seed + j, progress=lambda done, j=j: bar.reach(j * len(files) + done))
            for j in range(options.n)
        ]
    told = settings(options) | (more or {})
    for place, file in enumerate(files):
        scans = [draw[place] for draw in draws]
        if len(scans) == 1:
            _write(scans[0], file, what, told, options, suffix)
            continue
        for j, scan in enumerate(scans):
            _write(scan, file, f"{what}-{j + 1}", told | {"seed": options.seed + j}, options, suffix)
        mean = replace(scans[0], data=np.stack([scan.data for scan in scans]).mean(0, dtype=np.float64))
        mean.provenance.pop("seed", None)
        seeds = f"{options.seed} to {options.seed + options.n - 1}"
        _write(mean, file, f"{what}-mean", told | {"seed": seeds, "draws": options.n}, options, suffix)
    console.print(f"{counted(len(files), 'scan')} in [bold]{escape(options.output)}[/]")


def _write(
    scan: "Volume", file: Path, what: str, told: dict[str, Any], options: argparse.Namespace, suffix: str
) -> None:
    from medmol_diffusion.mri.bids import Derivatives, provenance, write_sidecar
    from medmol_diffusion.mri.formats.files import stem

    made_by = {name.capitalize(): value for name, value in told.items()}
    if options.bids:
        # the folder of a series may be called by the patient's name, its source is not
        source = scan.provenance["source"] if file.is_dir() else str(file)
        Derivatives(Path(options.output), made_by).write_of(scan, source, what, suffix)
    else:
        path = scan.write(Path(options.output) / f"{stem(file)}_{what}.nii.gz")
        write_sidecar(path, provenance(scan, made_by))
