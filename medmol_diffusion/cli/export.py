"""`medmol export`: a run as a folder to give away."""

import argparse

from medmol_diffusion.cli.output import console
from medmol_diffusion.cli.parser import Verbs, add_verb, model_there


def add(verbs: Verbs) -> None:
    sub = add_verb(verbs, "export", "write a run as safetensors + config.yaml + card.md", export)
    sub.add_argument("run_folder", type=model_there, metavar="RUN")
    sub.add_argument("-o", "--output", required=True, metavar="FOLDER")
    sub.add_argument(
        "--checkpoint", metavar="FILE", help="of the run, in the place of its last: one of RUN/checkpoints/"
    )
    sub.add_argument("--half", action="store_true", help="weights in 16 bits, half the size")


def export(options: argparse.Namespace) -> None:
    from medmol_diffusion.training.saved import export_model

    out = export_model(options.run_folder, options.output, options.half, options.checkpoint)
    console.print(f"exported to [bold]{out}[/]")
