"""`medmol inpaint`: new molecules round fixed atoms."""

import argparse
from pathlib import Path

from rich.markup import escape

from medmol_diffusion.cli.inputs import readable
from medmol_diffusion.cli.output import console
from medmol_diffusion.cli.parser import Verbs, add_model, add_verb, at_least, there
from medmol_diffusion.cli.sampling import (
    add_asking,
    add_sampling,
    guide,
    load_molecule_model,
    steering,
    write_molecules,
)
from medmol_diffusion.plural import counted
from medmol_diffusion.progress import Bar


def add(verbs: Verbs) -> None:
    sub = add_verb(verbs, "inpaint", "new molecules round fixed atoms: scaffolds decorated, linkers designed", inpaint)
    add_model(sub)
    sub.add_argument(
        "molecules", type=there, metavar="FILE", help="SDF or XYZ that holds the fixed atoms where they are to be"
    )
    sub.add_argument("-o", "--output", required=True, metavar="FILE", help="SDF or XYZ")
    sub.add_argument("-n", type=at_least(1), default=1, help="molecules for every record (default 1)")
    sub.add_argument("--fixed", metavar="1,2,5-9", help="the fixed atoms, counted from 1 (default: all of the record)")
    sub.add_argument("--fixed-smarts", metavar="PATTERN", help="the fixed atoms are those of every match")
    sub.add_argument("--free", metavar="1,2,5-9", help="all atoms are fixed but these")
    sub.add_argument(
        "--link", action="store_true", help="all records are fragments of one molecule, each where it lies"
    )
    sub.add_argument(
        "--size",
        type=size,
        default="drawn",
        help="atoms of a result: a number, own (the record's) or drawn (default)",
    )
    sub.add_argument("--resamples", type=at_least(1), default=5, help="rounds of RePaint (default 5)")
    sub.add_argument("--jump", type=at_least(1), default=10, help="steps of a round (default 10)")
    add_sampling(sub, "ancestral")
    add_asking(sub)


def inpaint(options: argparse.Namespace) -> None:
    from medmol_diffusion.molecules.fragment import joined, kept_atoms

    asked = steering(options)
    model, molecules = load_molecule_model(options), readable(Path(options.molecules))
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
            options.steps,
            options.sampler,
            options.seed,
            options.resamples,
            options.jump,
            options.grid,
            progress=bar.reach,
            guide=guide(options, model),
            **asked,
        )
    write_molecules(found, options)
    console.print(
        f"{counted(len(found), 'molecule')} in [bold]{escape(options.output)}[/]: first the fixed atoms in the order "
        "of the file, then the new ones"
    )


def size(text: str) -> int | str:
    if text in ("drawn", "own"):
        return text
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text}: give a number of atoms, drawn or own")
    return at_least(2)(text)
