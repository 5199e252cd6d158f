"""`medmol validate`: the likelihood table."""

import argparse
from typing import Any

from rich.markup import escape

from medmol_diffusion.cli.inputs import load
from medmol_diffusion.cli.output import console, write_json
from medmol_diffusion.cli.parser import Verbs, add_model, add_verb, at_least, there
from medmol_diffusion.cli.sampling import molecule_model
from medmol_diffusion.errors import InputError
from medmol_diffusion.plural import counted
from medmol_diffusion.progress import Bar
from medmol_diffusion.training.folder import data_to_validate


def add(verbs: Verbs) -> None:
    sub = add_verb(verbs, "validate", "the likelihood table: every term of -log p with its standard error", validate)
    add_model(sub)
    sub.add_argument("--data", type=there, metavar="PATH", help="data to validate on (default: the run's own)")
    sub.add_argument(
        "--split", choices=("all", "train", "validation", "test"), help="default: all of PATH, else the run's test part"
    )
    sub.add_argument(
        "--method",
        choices=("bound", "iwae", "flow"),
        default="bound",
        help="the bound (default), the importance-weighted bound, or the estimate by the probability flow",
    )
    sub.add_argument(
        "--steps",
        type=at_least(0),
        help="T of the bound, 0 for continuous time (default: 1000 for molecules, 0 for scans); of iwae (default "
        "1000); steps of the flow (default 64)",
    )
    sub.add_argument(
        "--draws",
        type=draws,
        metavar="N",
        help="per example (default: 4 for molecules, 16 for scans): noise draws of the bound, trajectories of iwae, "
        "probes of the flow; exact sums the bound over all T",
    )
    sub.add_argument(
        "--conditional", action="store_true", help="-log p given every example's own values of what the model knows"
    )
    sub.add_argument("--map", metavar="FILE.sdf", help="write the molecules there with the nats of every atom")
    sub.add_argument(
        "--skip",
        action="store_true",
        help="leave out, and count, molecules of other elements or too large",
    )
    sub.add_argument("--limit", type=at_least(1), help="look at this many examples only, drawn at random")
    sub.add_argument("--json", metavar="FILE", help="write the figures there too")


def validate(options: argparse.Namespace) -> None:
    _check(options)
    from medmol_diffusion.training.validation import (
        baseline_summary,
        bound_table,
        chosen,
        doubt,
        open_data,
        summary,
        validate_baseline,
        validate_measures,
        validate_model,
    )

    model = load(options.model, options.device)
    if model.without_likelihood:
        raise InputError(f"{options.model}: {model.without_likelihood}")
    data, split = open_data(model, options.model, options.data, options.split, options.conditional, options.skip)
    if options.map is not None and not isinstance(model, molecule_model()):
        raise InputError("--map writes the scores of atoms: it is for molecules, medmol detect for scans")
    with Bar(options.method, len(chosen(data, split, options.limit)), transient=True) as bar:
        bound = validate_model(
            model,
            data,
            split,
            options.steps,
            options.draws,
            options.seed,
            options.limit,
            lambda done, _: bar.reach(done),
            options.method,
            options.conditional,
        )
    baseline = validate_baseline(model, data, split, options.limit, options.seed)
    measures = validate_measures(model, data, split, options.limit, options.seed)
    console.print(bound_table(model, bound, baseline, measures, _titles(model)))
    if said := doubt(bound):
        console.print(f"[yellow]{escape(said)}[/]", highlight=False)
    left_out = getattr(data, "left_out", 0)
    if left_out:
        console.print(f"[yellow]without {counted(left_out, 'molecule')} that the model cannot hold[/]")
    beside = {} if baseline is None else {"baseline": baseline_summary(model, bound, baseline)}
    content = {
        "method": bound.method,
        "terms": summary(bound),
        "settings": bound.settings,
        "examples": len(bound.total),
        "left_out": left_out,
        **beside,
    }
    if measures:
        content["measures"] = measures
    if bound.blocks:
        content["blocks"] = bound.block_summary()
    write_json(options.json, content)
    if options.map is not None:
        from medmol_diffusion.molecules.atom_map import write_atom_map

        rows = chosen(data, split, options.limit)
        with Bar("map", len(rows), transient=True) as bar:
            batches = data.evaluation_dataloader(split, rows)  # type: ignore[attr-defined]
            write_atom_map(model, batches, options.map, options.seed, bar.reach)
        console.print(f"nats of every atom in [bold]{escape(options.map)}[/], in the field atom_nats")


def _titles(model: Any) -> dict[str, str]:
    """What the blocks of a model's state are called."""
    if not isinstance(model, molecule_model()):
        return {}
    from medmol_diffusion.molecules.features import BLOCK_TITLES

    return BLOCK_TITLES


def _check(options: argparse.Namespace) -> None:
    """Raises InputError for what can be refused before torch is loaded."""
    if options.method != "bound":
        if options.steps == 0:
            raise InputError(f"--steps 0 is the continuous-time bound; --method {options.method} needs at least 1")
        if options.draws == "exact":
            raise InputError(f"--draws exact is the bound's sum over T: give --method {options.method} a number")
        if options.map is not None:
            raise InputError(
                f"--map splits the bound's diffusion term over the atoms: leave --method {options.method} out"
            )
    if options.steps == 0 and options.draws == "exact":
        raise InputError("--draws exact sums over T transitions: give steps, --steps 1000 for example")
    data_to_validate(options.model, options.data, options.split, options.skip)


def draws(text: str) -> int | str:
    if text == "exact":
        return text
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text}: give a number of draws, or exact")
    return at_least(1)(text)
