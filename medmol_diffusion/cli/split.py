"""`medmol split`: which molecules, or which subjects, are for what."""

import argparse
from pathlib import Path

from rich.markup import escape

from medmol_diffusion.cli.inputs import holds_molecules
from medmol_diffusion.cli.output import console
from medmol_diffusion.cli.parser import Verbs, add_verb, there
from medmol_diffusion.errors import InputError


def add(verbs: Verbs) -> None:
    sub = add_verb(
        verbs,
        "split",
        "write which molecules, or subjects of scans, are for training, validation and testing to a file",
        split,
    )
    sub.add_argument("path", type=there, metavar="DATA")
    sub.add_argument("-o", "--output", required=True, metavar="FILE.json")
    sub.add_argument("--validation", type=share, default=0.05, help="share of them (default 0.05)")
    sub.add_argument("--test", type=share, default=0.05, help="share of them (default 0.05)")
    sub.add_argument("--seed", type=int, default=0, help="of the permutation (default 0)")
    sub.add_argument(
        "--group-by", metavar="NAME", help="of molecules: keep together what is equal in a field, 'name' or 'scaffold'"
    )
    sub.add_argument("--suffix", metavar="T1w", help="of scans: only those whose names end in it")
    sub.add_argument("--table", type=there, metavar="FILE", help="of scans: csv or tsv (default: participants.tsv)")


def split(options: argparse.Namespace) -> None:
    if options.validation + options.test >= 1:
        raise InputError(
            f"--validation {options.validation:g} and --test {options.test:g} leave nothing to train on: give shares "
            "whose sum is below 1"
        )
    if not holds_molecules(Path(options.path)):
        _split_subjects(options)
        return
    if options.suffix or options.table:
        raise InputError("--suffix and --table are for scans")
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


def _split_subjects(options: argparse.Namespace) -> None:
    from medmol_diffusion.mri import VolumeData

    if options.group_by:
        raise InputError("--group-by is for molecules: scans are split by subject")
    shares = {"validation": options.validation, "test": options.test, "split_seed": options.seed}
    data = VolumeData(options.path, [1, 1, 1], suffix=options.suffix, table=options.table, **shares)
    split = data.draw_split()
    split.write(options.output)
    sizes = f"{len(split.train)} subjects to train, {len(split.validation)} to validate, {len(split.test)} to test"
    console.print(f"{sizes}, in [bold]{escape(options.output)}[/]: use it by --data.split_file")


def share(text: str) -> float:
    if not 0 <= (value := float(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no share: give a number from 0 to below 1")
    return value
