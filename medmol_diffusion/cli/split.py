"""`medmol split`: which molecules are for what."""

import argparse

from rich.markup import escape

from medmol_diffusion.cli.output import console
from medmol_diffusion.cli.parser import Verbs, add_verb, there


def add(verbs: Verbs) -> None:
    sub = add_verb(verbs, "split", "write which molecules are for training, validation and testing to a file", split)
    sub.add_argument("path", type=there, metavar="DATA")
    sub.add_argument("-o", "--output", required=True, metavar="FILE.json")
    sub.add_argument("--validation", type=float, default=0.05, help="share of the molecules (default 0.05)")
    sub.add_argument("--test", type=float, default=0.05, help="share of the molecules (default 0.05)")
    sub.add_argument("--seed", type=int, default=0, help="of the permutation (default 0)")
    sub.add_argument("--group-by", metavar="NAME", help="keep together what is equal in a field, 'name' or 'scaffold'")


def split(options: argparse.Namespace) -> None:
    from medmol_diffusion.molecules import MoleculeData

    data = MoleculeData(
        options.path,
        group_by=options.group_by,
        validation=options.validation,
        test=options.test,
        split_seed=options.seed,
    )
    data.setup()
    data.write_split(options.output)
    sizes = f"{len(data.train)} to train, {len(data.validation)} to validate, {len(data.test)} to test"
    console.print(f"{sizes}, in [bold]{escape(options.output)}[/]: use it by --data.split_file")
