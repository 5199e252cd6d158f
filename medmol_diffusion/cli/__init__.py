"""`medmol`: the command line, one verb a module. User errors end with one sentence and exit code 2."""

import logging
import sys
import warnings
from collections.abc import Sequence
from io import TextIOWrapper

from medmol_diffusion import __version__
from medmol_diffusion.extras import MissingExtra, explained, need

need(
    "training",
    "medmol",
    "pip install 'medmol_diffusion[molecules]' for molecules, 'medmol_diffusion[mri]' for scans, or [all] for both",
)

from medmol_diffusion.cli import (
    completion,
    demo,
    detect,
    doctor,
    evaluate,
    export,
    fit,
    inpaint,
    models,
    sample,
    score,
    split,
    super_resolve,
    translate,
    validate,
    vary,
)
from medmol_diffusion.cli.output import say
from medmol_diffusion.cli.parser import Parser
from medmol_diffusion.cli.ranks import Ranks
from medmol_diffusion.errors import InputError, system_says

VERBS = (
    *(fit, validate, sample, inpaint, vary, super_resolve, translate, evaluate),
    *(score, detect, split, doctor, export, models, demo, completion),
)


def parser() -> Parser:
    """The parser of all verbs."""
    whole = Parser(
        prog="medmol", description="Diffusion models for brain MRI and 3-D molecules, with a likelihood you can trust."
    )
    whole.add_argument("--version", action="version", version=__version__)
    verbs = whole.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS:
        verb.add(verbs)
    return whole


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `medmol`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)  # what it mends of headers is no one's concern
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.showwarning = lambda message, *_, **__: say("[yellow]warning:[/]", str(message))
        try:
            if given[:1] == ["fit"]:
                fit.fit(given[1:])  # LightningCLI parses its own
            else:
                options = parser().parse_args(given)
                if options.verb == "sample" or _does_all(options.verb):
                    options.run(options)
        except (InputError, MissingExtra, OSError) as error:
            say("[red]error:[/]", system_says(error) if isinstance(error, OSError) else str(error))
            sys.exit(2)
        except ModuleNotFoundError as error:
            say("[red]error:[/]", str(explained(error)))
            sys.exit(2)
        except KeyboardInterrupt as interrupt:
            say("[yellow]interrupted[/]", str(interrupt))
            sys.exit(130)


def _does_all(verb: str) -> bool:
    """Whether this process does the work of a verb that is not shared: of several processes the first does it all."""
    ranks = Ranks.here()
    if ranks.first and ranks.count > 1:
        one = f"{verb} is the work of one process, the first of {ranks.count}: fit and sample share theirs"
        say("[yellow]warning:[/]", one)
    return ranks.first
