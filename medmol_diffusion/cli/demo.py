"""`medmol demo`: both domains end to end."""

import argparse
from pathlib import Path

from medmol_diffusion.cli.output import console
from medmol_diffusion.cli.parser import Verbs, add_verb
from medmol_diffusion.extras import need


def add(verbs: Verbs) -> None:
    sub = add_verb(verbs, "demo", "both domains on the embedded data, end to end, with report.html", demo)
    sub.add_argument("-o", "--output", default="demo", metavar="FOLDER", help="default: demo")


def demo(options: argparse.Namespace) -> None:
    need("all", "medmol demo")
    from medmol_diffusion.demo import run_demo

    console.print(f"open [bold]{run_demo(Path(options.output))}[/]")
