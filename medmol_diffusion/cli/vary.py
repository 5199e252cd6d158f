"""`medmol vary`: molecules like given ones, or better ones; scans like given ones, harmonised."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

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
from medmol_diffusion.plural import counted
from medmol_diffusion.progress import Bar

MOLECULES = {"objective": None, "minimise": False, "rounds": 5}
SCANS = {"bids": False, "frame": None, "series": None}
"""The options of one domain alone, and what they are when not given."""


def add(verbs: Verbs) -> None:
    about = "molecules like the given ones, better ones by --objective; scans made more like the training scans"
    sub = add_verb(verbs, "vary", about, vary)
    add_model(sub)
    sub.add_argument("inputs", type=there, nargs="+", metavar="FILE", help="SDF or XYZ of the seeds; or scans")
    sub.add_argument("-o", "--output", required=True, metavar="PATH", help="SDF or XYZ; of scans, a folder")
    sub.add_argument(
        "-n",
        type=at_least(1),
        help="variations of every molecule, in every round (default 4), or of every scan (default 1)",
    )
    sub.add_argument(
        "--strength", type=strength, help="0 to 1: how much is noised (default: 0.3 for molecules, 0.5 for scans)"
    )
    add_bids(sub)
    add_reading(sub)
    sub.add_argument("--objective", metavar="NAME", help="a ready property (qed, logp, ...) to be made large")
    sub.add_argument("--minimise", action="store_true", help="make it small instead")
    sub.add_argument("--rounds", type=at_least(1), default=5, help="of variation and selection (default 5)")
    add_sampling(sub)
    add_asking(sub)


def vary(options: argparse.Namespace) -> None:
    if options.minimise and options.objective is None:
        raise InputError("--minimise says which way an objective goes: name one by --objective")
    if options.objective is not None:
        from medmol_diffusion.molecules.properties import known

        known(options.objective)
    branch(options, Branch("molecules", vary_molecules, MOLECULES), Branch("scans", vary_scans, SCANS))


def vary_scans(model: Any, options: argparse.Namespace) -> None:
    check_scan_model(model, options)
    options.n = options.n or 1
    strength = 0.5 if options.strength is None else options.strength
    how = sampling(options, model)
    files, volumes = read(options.inputs, options)
    write_answers(files, "varied", partial(model.vary, volumes, strength, **how), options)


def vary_molecules(model: Any, options: argparse.Namespace) -> None:
    from dataclasses import replace

    from medmol_diffusion.molecules.optimise import optimise

    check_molecule_file(options.output)
    if len(options.inputs) > 1:
        raise InputError(f"{len(options.inputs)} files of molecules are given: put all seeds into one")
    asked = steering(options)
    options.n = options.n or 4
    options.strength = 0.3 if options.strength is None else options.strength
    molecules = readable(Path(options.inputs[0]))
    charged = sum(molecule.formal_charges is not None and molecule.formal_charges.any() for molecule in molecules)
    if charged and not model.layout.formal_charges:
        console.print(
            f"[yellow]{charged} of {counted(len(molecules), 'molecule')} have formal charges, which the model does not "
            "make: what comes out has none; take a model with formal_charges to keep them[/]",
            highlight=False,
        )
    settings: dict[str, Any] = {**recipe(options, model), **asked, "guide": guide(options, model)}
    if options.objective is None:
        molecules = [molecule for molecule in molecules for _ in range(options.n)]
        with Bar("varying", len(molecules), transient=True) as bar:
            found = model.vary(molecules, options.strength, seed=options.seed, progress=bar.reach, **settings)
    else:
        with Bar("rounds", options.rounds, transient=True) as bar:
            best = optimise(
                model,
                molecules,
                options.objective,
                options.rounds,
                options.n,
                strength=options.strength,
                minimise=options.minimise,
                seed=options.seed,
                progress=bar.reach,
                **settings,
            )
        table = Table("molecule", f"{options.objective} of the seed", "reached", "similarity to the seed", "rounds")
        found = []
        for one in best:
            figures: dict[str, float | str] = {
                "seed_score": one.seed_score,
                options.objective: one.score,
                "similarity": one.similarity,
            }
            found.append(replace(one.molecule, properties=figures))
            row = (f"{one.seed_score:.4g}", f"{one.score:.4g}", f"{one.similarity:.2f}", str(one.rounds))
            table.add_row(escape(one.molecule.name), *row)
        console.print(table)
    write_molecules(found, options)


def strength(text: str) -> float:
    if not 0 < (value := float(text)) <= 1:
        raise argparse.ArgumentTypeError(f"{text} must lie in (0, 1]: near 0 little changes, at 1 everything does")
    return value
