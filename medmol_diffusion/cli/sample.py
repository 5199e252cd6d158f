"""`medmol sample`: new molecules or scans."""

import argparse
from pathlib import Path
from typing import Any

from rich.markup import escape

from medmol_diffusion.cli.inputs import load
from medmol_diffusion.cli.output import console
from medmol_diffusion.cli.parser import Verbs, add_model, add_verb, at_least
from medmol_diffusion.cli.sampling import (
    GRID,
    STEPS,
    add_asking,
    add_sampling,
    check_molecule_file,
    guide,
    molecule_model,
    scan_steering,
    steering,
    write_molecules,
    write_scans,
)
from medmol_diffusion.errors import InputError
from medmol_diffusion.plural import counted
from medmol_diffusion.progress import Bar


def add(verbs: Verbs) -> None:
    about = "generate molecules (-o FILE.sdf with bonds, or FILE.xyz) or scans (-o FOLDER of .nii.gz)"
    sub = add_verb(verbs, "sample", about, sample)
    add_model(sub)
    sub.add_argument("-n", type=at_least(1), default=100, help="how many (default 100)")
    sub.add_argument("-o", "--output", required=True, metavar="PATH")
    add_sampling(sub, None)
    add_asking(sub)
    sub.add_argument("--formula", metavar="C7H10O2", help="molecules: keep to it exactly, with any model")
    sub.add_argument(
        "--bids", metavar="T1w", help="scans: write BIDS derivatives whose names end in this suffix (default: flat)"
    )
    sub.add_argument("--size", type=at_least(2), help="molecules: their number of atoms (default: drawn)")


def sample(options: argparse.Namespace) -> None:
    from medmol_diffusion.core import grid
    from medmol_diffusion.training.model import DiffusionModel

    out = Path(options.output)
    model = load(options.model, options.device)
    molecules = isinstance(model, molecule_model())
    asked = steering(options) if molecules else scan_steering(options)
    if molecules:
        check_molecule_file(options.output)
        if options.bids:
            raise InputError("--bids is for scans")
    elif out.suffix:
        raise InputError(f"-o {out}: scans are written to a folder, one .nii.gz each")
    settings: dict[str, Any] = {"seed": options.seed}
    if isinstance(model, DiffusionModel):
        options.sampler = options.sampler or ("ancestral" if molecules else "dpm++2m")
        try:
            grid(model.schedule, options.steps, options.grid)
        except ValueError as error:
            raise InputError(f"--grid {options.grid}: {error}") from error
        settings |= {"steps": options.steps, "sampler": options.sampler, "spacing": options.grid}
        settings["guide"] = guide(options, model)
    else:
        _in_one_pass(options)
    if options.size is not None:
        asked["sizes"] = [options.size] * options.n
    settings |= asked
    with Bar("sampling", options.n, transient=True) as bar:
        found = model.sample(options.n, progress=bar.reach, **settings)
    if molecules:
        write_molecules(found, options)
    else:
        write_scans(found, options)
        console.print(f"{counted(len(found), 'scan')} in [bold]{escape(str(out))}[/]")


def _in_one_pass(options: argparse.Namespace) -> None:
    """Of a model without steps: refuse what says how to take them, and say nothing of them beside the samples."""
    if options.steps != STEPS or options.grid != GRID or options.sampler or options.worse or options.away:
        raise InputError(
            f"{options.model} makes a scan in one pass: --steps, --sampler, --grid and --worse are for diffusion"
        )
    options.steps = options.sampler = options.grid = None
