"""`medmol vary`: molecules like given ones, or better ones."""

import argparse
from pathlib import Path

from rich.markup import escape
from rich.table import Table

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
    sub = add_verb(verbs, "vary", "molecules like the given ones, by partial noise; better ones by --objective", vary)
    add_model(sub)
    sub.add_argument("molecules", type=there, metavar="FILE", help="SDF or XYZ of the seeds")
    sub.add_argument("-o", "--output", required=True, metavar="FILE", help="SDF or XYZ")
    sub.add_argument("-n", type=at_least(1), default=4, help="variations of every molecule, in every round (default 4)")
    sub.add_argument("--strength", type=float, default=0.3, help="0 to 1: how much is noised (default 0.3)")
    sub.add_argument("--objective", metavar="NAME", help="a ready property (qed, logp, ...) to be made large")
    sub.add_argument("--minimise", action="store_true", help="make it small instead")
    sub.add_argument("--rounds", type=at_least(1), default=5, help="of variation and selection (default 5)")
    add_sampling(sub, "ancestral")
    add_asking(sub)


def vary(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from medmol_diffusion.molecules.optimise import optimise

    asked = steering(options)
    model, molecules = load_molecule_model(options), readable(Path(options.molecules))
    settings = {"steps": options.steps, "sampler": options.sampler, "spacing": options.grid, **asked}
    settings["guide"] = guide(options, model)
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
    console.print(f"{counted(len(found), 'molecule')} in [bold]{escape(options.output)}[/]")
