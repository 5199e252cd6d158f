"""`medmol inpaint`: new molecules round fixed atoms, or a region of a scan made anew."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from medmol_diffusion.cli.inputs import readable
from medmol_diffusion.cli.output import console
from medmol_diffusion.cli.parser import Verbs, add_model, add_reading, add_verb, at_least, there
from medmol_diffusion.cli.sampling import (
    Branch,
    add_asking,
    add_sampling,
    branch,
    check_molecule_file,
    check_scan_model,
    guide,
    recipe,
    steering,
    write_molecules,
)
from medmol_diffusion.cli.scans import add_bids, read, sampling, write_answers
from medmol_diffusion.errors import InputError
from medmol_diffusion.progress import Bar

MOLECULES = {"fixed": None, "fixed_smarts": None, "free": None, "link": False, "size": "drawn"}
SCANS = {"mask": None, "bids": False, "frame": None, "series": None}
"""The options of one domain alone, and what they are when not given."""


def add(verbs: Verbs) -> None:
    about = "new molecules round fixed atoms: scaffolds decorated, linkers designed; or a region of a scan made anew"
    sub = add_verb(verbs, "inpaint", about, inpaint)
    add_model(sub)
    sub.add_argument(
        "input",
        type=there,
        metavar="FILE",
        help="SDF or XYZ that holds the fixed atoms where they are to be; or a scan",
    )
    sub.add_argument("-o", "--output", required=True, metavar="PATH", help="SDF or XYZ; of a scan, a folder")
    sub.add_argument("-n", type=at_least(1), default=1, help="results for every record, draws of a scan (default 1)")
    sub.add_argument(
        "--mask",
        type=there,
        metavar="MASK",
        help="scans: the region to be made, a scan above 1/2 there and 0 elsewhere",
    )
    add_bids(sub)
    add_reading(sub)
    ways = sub.add_mutually_exclusive_group()
    ways.add_argument("--fixed", metavar="1,2,5-9", help="the fixed atoms, counted from 1 (default: all of the record)")
    ways.add_argument("--fixed-smarts", metavar="PATTERN", help="the fixed atoms are those of every match")
    ways.add_argument("--free", metavar="1,2,5-9", help="all atoms are fixed but these")
    sub.add_argument(
        "--link", action="store_true", help="all records are fragments of one molecule, each where it lies"
    )
    sub.add_argument(
        "--size",
        type=size,
        default="drawn",
        help="atoms of a result: a number, own (the record's) or drawn (default)",
    )
    sub.add_argument(
        "--resamples",
        type=at_least(1),
        help="rounds of RePaint (default 5 of a model that was not trained to complete what is given, else none)",
    )
    sub.add_argument("--jump", type=at_least(1), default=10, help="steps of a round (default 10)")
    add_sampling(sub)
    add_asking(sub)


def inpaint(options: argparse.Namespace) -> None:
    branch(options, Branch("molecules", inpaint_molecules, MOLECULES), Branch("scans", inpaint_scan, SCANS))


def inpaint_scan(model: Any, options: argparse.Namespace) -> None:
    from medmol_diffusion.mri import Volume

    check_scan_model(model, options)
    if options.mask is None:
        raise InputError("--mask MASK says which region of the scan is to be made: give it")
    how = sampling(options, model)
    files, (volume,) = read([options.input], options)
    mask = Volume.read(options.mask, constant=True)
    if not mask.same_grid(volume):
        mask = mask.resample(like=volume, order=0)
    if options.resamples is not None:
        how["resamples"] = options.resamples
    answer = partial(model.inpaint, [volume], [mask.data > 0.5], jump=options.jump, **how)
    write_answers(files, "inpainted", answer, options, more={"mask": Path(options.mask).name})


def inpaint_molecules(model: Any, options: argparse.Namespace) -> None:
    from medmol_diffusion.molecules.fragment import joined, kept_atoms, odd_charges

    check_molecule_file(options.output)
    asked, how = steering(options), recipe(options, model)
    molecules = readable(Path(options.input))
    if options.link:
        molecules = [joined(molecules)]
    fixed = [kept_atoms(molecule, options.fixed, options.fixed_smarts, options.free) for molecule in molecules]
    molecules, fixed = ([item for item in items for _ in range(options.n)] for items in (molecules, fixed))
    sizes = {"drawn": "drawn", "own": None}.get(options.size, options.size)
    with Bar("inpainting", len(molecules), transient=True) as bar:
        found = model.inpaint(
            molecules,
            fixed,
            [int(sizes)] * len(molecules) if isinstance(sizes, int) else sizes,
            options.resamples,
            options.jump,
            seed=options.seed,
            progress=bar.reach,
            guide=guide(options, model),
            **how,
            **asked,
        )
    write_molecules(found, options, ", first the fixed atoms in the order of the file, then the new ones")
    if not model.layout.formal_charges and (said := odd_charges(found, [len(atoms) for atoms in fixed])):
        console.print(
            f"[yellow]{said}: the model makes no formal charges, so what it attaches does not know of them; fix their "
            "neighbours with them, or take a model with formal_charges[/]",
            highlight=False,
        )


def size(text: str) -> int | str:
    if text in ("drawn", "own"):
        return text
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text}: give a number of atoms, drawn or own")
    return at_least(2)(text)
