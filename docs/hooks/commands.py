"""The page of commands: what `medmol VERB --help` says, of every verb."""

import argparse

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from medmol_diffusion.cli import parser
from medmol_diffusion.cli.fit import FIT_HELP

INTRODUCTION = """# Commands

What `medmol VERB --help` prints. MODEL is a run folder, an exported folder or a model of `medmol models`. What a user
can mend ends in one sentence on the error stream and exit code 2.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    files.append(File.generated(config, "commands.md", content=content()))
    return files


def content() -> str:
    """The page."""
    (verbs,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    about = {action.dest: action.help for action in verbs._choices_actions}
    parts = [INTRODUCTION]
    for name, sub in verbs.choices.items():
        sub.formatter_class = wide(sub.formatter_class)
        said = FIT_HELP if name == "fit" else sub.format_help()
        parts.append(f"## medmol {name}\n\n{about[name]}\n\n```text\n{said.rstrip()}\n```\n")
    return "\n".join(parts)


def wide(kind: type[argparse.HelpFormatter]) -> type[argparse.HelpFormatter]:
    """The same formatter at a width of its own, whatever terminal the site is built in."""

    class Wide(kind):  # type: ignore[valid-type, misc]
        def __init__(self, prog: str) -> None:
            super().__init__(prog, max_help_position=24, width=86)

    return Wide
