"""`medmol doctor`: looks at data or at a config before a run, and says what would happen."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from medmol_diffusion.cli.inputs import holds_molecules
from medmol_diffusion.cli.output import console, show, write_json
from medmol_diffusion.cli.parser import Verbs, add_reading, add_verb, there
from medmol_diffusion.errors import InputError
from medmol_diffusion.progress import Bar

if TYPE_CHECKING:
    from medmol_diffusion.molecules.survey import Survey as MoleculeSurvey
    from medmol_diffusion.mri.survey import Survey as ScanSurvey

CONFIGS = (".yaml", ".yml")
ABOUT = """look at data, or at a config, before a run

DATA (a folder of scans; a file, folder or archive of molecules): what was found, what cannot be used and why, what
would be padded, resampled or skipped. CONFIG.yaml: the model and the data are built and trained for four steps in a
folder that goes away: seconds and memory of a step, parameters, padding. Exit code 2 says that a run would fail."""


def add(verbs: Verbs) -> None:
    sub = add_verb(verbs, "doctor", "look at data, or at a config, before a run", doctor)
    sub.description, sub.formatter_class = ABOUT, argparse.RawDescriptionHelpFormatter
    sub.add_argument("path", type=there, metavar="DATA|CONFIG")
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="of a config: as medmol fit --KEY VALUE; any number",
    )
    sub.add_argument("--suffix", metavar="T1w", help="of scans: only those whose names end in it")
    sub.add_argument("--table", type=there, metavar="FILE", help="of scans: csv or tsv (default: participants.tsv)")
    add_reading(sub)
    sub.add_argument("--json", metavar="FILE", help="write what was found there too")


def doctor(options: argparse.Namespace) -> None:
    path = Path(options.path)
    if path.suffix in CONFIGS:
        _look_at_config(path, options)
        return
    found: MoleculeSurvey | ScanSurvey
    if holds_molecules(path):
        from medmol_diffusion.molecules import survey

        with Bar("reading", None, transient=True) as bar:
            found = survey.survey(path, bar.reach)
        faults, usable = found.faults(), len(found.sizes)
    else:
        found = _look_at_scans(path, options)
        faults, usable = found.faults, len(found.scans)
    doubts = found.doubts()
    show(str(path), ("what", "found"), found.rows())
    for title, sentences in (("cannot be used", faults), ("look at", doubts)):
        for sentence in sentences:
            console.print(f"[yellow]{title}:[/] {escape(sentence)}", soft_wrap=True, highlight=False)
    write_json(options.json, {"found": dict(found.rows()), "cannot_be_used": faults, "look_at": doubts})
    if not usable:
        raise InputError(f"{path}: a run on it would fail, for nothing in it can be used")


def _look_at_scans(path: Path, options: argparse.Namespace) -> "ScanSurvey":
    from medmol_diffusion.mri.formats.files import find_scans
    from medmol_diffusion.mri.survey import survey
    from medmol_diffusion.mri.table import Table, find_table

    files = find_scans(path, suffix=options.suffix) if path.is_dir() else [path]
    table = options.table or find_table(path)

    def name(file: Path) -> str:
        return file.name if file == path else str(file.relative_to(path))

    with Bar("reading", len(files), transient=True) as bar:
        known = None if table is None else Table.read(table)
        return survey(files, name, known, options.frame, options.series, bar.reach)


def _look_at_config(path: Path, options: argparse.Namespace) -> None:
    from medmol_diffusion.training.memory import keep_freed_memory
    from medmol_diffusion.training.trial import trial

    keep_freed_memory()
    found = trial(["--config", str(path), *(f"--{setting}" for setting in options.set)])
    show(str(path), ("what", "found"), found.rows())
    write_json(options.json, {"found": dict(found.rows()), "seconds": found.seconds, "peak_bytes": found.peak})
    console.print("nothing stands in the way of this run", highlight=False)
