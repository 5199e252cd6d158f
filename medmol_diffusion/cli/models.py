"""`medmol models`: what ships with the package."""

import argparse

from rich.markup import escape
from rich.table import Table

from medmol_diffusion.cli.output import console
from medmol_diffusion.cli.parser import Verbs, add_verb


def add(verbs: Verbs) -> None:
    add_verb(verbs, "models", "the models that ship with the package, with their measured scores", models)


def models(options: argparse.Namespace) -> None:
    from medmol_diffusion.pretrained import scores, shipped

    if not shipped():
        console.print("no model ships with this version")
    for name, folder in shipped().items():
        table = Table("figure", "measured", title=escape(name))
        for row in scores(name).items():
            table.add_row(*(escape(cell) for cell in row))
        console.print(table)
        console.print(f"its card: {escape(str(folder / 'card.md'))}", soft_wrap=True)
