"""`medmol completion`: what a shell needs to complete verbs, options, choices, names of models and files."""

import argparse
import re
from typing import Any

from medmol_diffusion.cli.fit import FIT_HELP
from medmol_diffusion.cli.parser import Verbs, add_verb, model_there

SHELLS = ("bash", "zsh", "fish")
ABOUT = "print the script by which a shell completes medmol's verbs, options, choices, models and files"
HOW = """bash:  medmol completion bash > ~/.local/share/bash-completion/completions/medmol
zsh:   medmol completion zsh > "${fpath[1]}/_medmol"
fish:  medmol completion fish > ~/.config/fish/completions/medmol.fish

It holds in shells that are opened from then on. Say it again after an update of the package."""
FILES = re.compile(r"FILE|PATH|SCAN|MASK|DATA|CONFIG|RUN")
FOLDERS = re.compile(r"FOLDER|DIR")
"""What the metavar of an argument says of it."""


def add(verbs: Verbs) -> None:
    sub = add_verb(verbs, "completion", ABOUT, completion)
    sub.formatter_class, sub.epilog = argparse.RawDescriptionHelpFormatter, HOW
    sub.add_argument("shell", choices=SHELLS)


def completion(options: argparse.Namespace) -> None:
    import shtab

    from medmol_diffusion.cli import parser

    whole = parser()
    _tell(whole)
    print(shtab.complete(whole, shell=options.shell))


def _tell(parser: argparse.ArgumentParser) -> None:
    """Say of every argument, in shtab's words, what its values are: ``complete``."""
    import shtab

    for action in parser._actions:
        written: Any = action
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                _tell(sub)
            _add_fit(action.choices["fit"])
        elif action.type is model_there:
            written.complete = _models()
        elif action.nargs != 0 and action.choices is None:
            named = str(action.metavar or "")
            if FOLDERS.search(named):
                written.complete = shtab.DIRECTORY
            elif FILES.search(named) or action.dest == "output":
                written.complete = shtab.FILE


def _add_fit(fit: argparse.ArgumentParser) -> None:
    """The options of fit that its help shows: Lightning's own parser would take seconds for the others."""
    import shtab

    for option, metavar in re.findall(r"^  (--[\w.]+) ([A-Z]\S*)?", FIT_HELP, re.MULTILINE):
        written: Any = fit.add_argument(option, metavar=metavar or None)
        if metavar in ("FILE", "DIR", "PATH"):
            written.complete = shtab.DIRECTORY if metavar == "DIR" else shtab.FILE


def _models() -> dict[str, Any]:
    """A model is one that ships, or a folder."""
    from medmol_diffusion.pretrained import shipped

    names = " ".join(shipped())
    return {
        "bash": "_medmol_models",
        "zsh": "_medmol_models",
        "fish": "(_medmol_models)",
        "preamble": {
            "bash": f'_medmol_models() {{\n  compgen -W "{names}" -- $1\n  compgen -d -- $1\n}}\n',
            "zsh": f"_medmol_models() {{\n  compadd -- {names}\n  _files -/\n}}\n",
            "fish": f"function _medmol_models\n  printf '%s\\n' {names}\n  __fish_complete_directories\nend\n",
        },
    }
