"""`medmol score`: figures of anyone's molecules or scans."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from medmol_diffusion.cli.inputs import holds_molecules
from medmol_diffusion.cli.output import console, show, stage, write_json
from medmol_diffusion.cli.parser import Verbs, add_reading, add_verb, at_least, there, there_or_part
from medmol_diffusion.errors import InputError
from medmol_diffusion.plural import counted
from medmol_diffusion.progress import Bar

if TYPE_CHECKING:
    from medmol_diffusion.molecules.judge.judged import Judged
    from medmol_diffusion.molecules.judge.verdict import Protocol


def add(verbs: Verbs) -> None:
    about = "score anyone's molecules (.sdf .xyz .npz, or a folder of them) or scans (a folder of NIfTI files)"
    sub = add_verb(verbs, "score", about, score)
    sub.add_argument("path", type=there, metavar="PATH")
    sub.add_argument(
        "--reference",
        type=there_or_part,
        metavar="PATH",
        help="real molecules (for novelty), or a folder of real scans (which scans need); of a run folder the scans of "
        "its test part, of RUN:validation or RUN:train those",
    )
    sub.add_argument(
        "--protocol",
        choices=("distances", "bonds"),
        help="of molecules: bonds from distances by rule 1 (default), or the file's own (default with --full, if any)",
    )
    sub.add_argument("--full", action="store_true", help="every measure, minutes instead of seconds")
    sub.add_argument(
        "--limit", type=at_least(1), help="how many, drawn at random, strain and PoseBusters look at (default 200)"
    )
    sub.add_argument(
        "--training",
        type=there_or_part,
        metavar="FOLDER",
        help="of scans: those that the model was trained on, to find copies; of a run folder its training part",
    )
    sub.add_argument(
        "--extractor",
        type=there,
        metavar="FILE",
        help="of scans: features by your TorchScript module, (N, 1, X, Y, Z) in [-1, 1] to (N, d); "
        "loading it runs the code in it, so trust its source",
    )
    sub.add_argument("--pattern", metavar="GLOB", help="of scans: which files of --reference and --training are scans")
    sub.add_argument("--html", metavar="FILE", help="a page with tables, histograms and pictures")
    sub.add_argument("--seed", type=int, default=0, help="of the bootstrap and of what is drawn (default 0)")
    sub.add_argument(
        "--cache",
        type=Path,
        metavar="FOLDER",
        help="keep there what is measured of each file as it now is: a score that was stopped goes on",
    )
    add_reading(sub)
    sub.add_argument("--json", metavar="FILE", help="write the figures there too")


def score(options: argparse.Namespace) -> None:
    path = Path(options.path)
    if holds_molecules(path):
        _score_molecules(path, options)
        return
    _score_scans(path, options)


def _score_scans(path: Path, options: argparse.Namespace) -> None:
    _refuse(options, ("protocol", "limit"), "molecules: leave it out for a folder of scans")
    if options.reference is None:
        raise InputError("scans are scored against real ones: give --reference FOLDER")
    from medmol_diffusion.mri.judge.extractor import HaarFeatures, ScriptedFeatures
    from medmol_diffusion.mri.judge.scans import Reading
    from medmol_diffusion.mri.judge.score_report import judge_scans
    from medmol_diffusion.mri.part import folder_or_part

    extractor = HaarFeatures() if options.extractor is None else ScriptedFeatures(Path(options.extractor))
    training = None if options.training is None else folder_or_part(options.training, "train")
    found = judge_scans(
        path,
        folder_or_part(options.reference, "test"),
        extractor,
        stage,
        training,
        options.full,
        Reading(options.pattern, options.frame, options.series),
        options.seed,
        options.cache,
    )
    for one in found.tables:
        show(f"{path}: {one.title}", one.header, one.rows, one.meaning)
    if not options.full:
        console.print("Intensities, volumes and spectra: [bold]--full[/]")
    write_json(options.json, {one.key: one.data for one in found.tables})
    if options.html is not None:
        from medmol_diffusion.scan_page import write_scan_page

        console.print(f"open [bold]{escape(str(write_scan_page(Path(options.html), path.name, found)))}[/]")


def _refuse(options: argparse.Namespace, names: tuple[str, ...], what: str) -> None:
    """Raises InputError for the first of the options that was given."""
    for name in names:
        if getattr(options, name) is not None:
            raise InputError(f"--{name} is for {what}")


def _judge(path: Path, protocols: "Sequence[Protocol]", options: argparse.Namespace) -> "Judged":
    """A file in a stream; the records that cannot be read are listed and counted."""
    from medmol_diffusion.molecules.judge.judged import Judged

    with Bar(path.name, None, transient=True) as bar:
        found = Judged.of(path, protocols, min(2, os.cpu_count() or 1), options.cache, bar.reach)
    for fault in found.faults:
        console.print(f"[yellow]skipped[/] {escape(str(path))}: {escape(fault)}")
    if found.bad:
        console.print(f"[yellow]{found.bad} of {counted(len(found.good), 'record')} could not be read[/]")
    if options.protocol == "bonds" and found.unbonded is not None:
        raise InputError(
            f"{path}: molecule {found.unbonded + 1} has no bonds for --protocol bonds: use an SDF with bonds, or "
            "--protocol distances"
        )
    return found


def _score_molecules(path: Path, options: argparse.Namespace) -> None:
    from medmol_diffusion.molecules.judge.score_report import LIMIT, MOST, full_tables, judged_table

    _refuse(options, ("training", "extractor", "pattern"), "scans: leave it out for molecules")
    # rule 1 is what everybody reports; what asks for chemistry goes by the file's own bonds where there are any
    either: list[Protocol] = ["distances", "bonds"] if options.full else ["distances"]
    wanted: list[Protocol] = [options.protocol] if options.protocol else either
    ours = _judge(path, wanted, options)
    theirs = None if options.reference is None else _judge(Path(options.reference), wanted, options)
    bonded = ours.unbonded is None and (theirs is None or theirs.unbonded is None)
    protocols = [one for one in wanted if one != "bonds" or bonded]
    protocol = protocols[-1]
    tables = {one: [judged_table(ours, theirs, one, options.seed)] for one in protocols}
    limit = options.limit or LIMIT
    if options.full or options.html is not None:
        some = ours.draw(max(MOST, limit), options.seed)
        real = None if theirs is None else theirs.draw(MOST, options.seed)
    if options.full:
        workers = min(2, os.cpu_count() or 1)
        beside = {} if theirs is None else {"kept_reference": theirs.kept}
        tables[protocol] += full_tables(
            some, real, protocol, stage, limit, options.seed, workers, len(ours), ours.kept, **beside
        )
    for one in (one for group in tables.values() for one in group):
        show(f"{path}: {one.title}", one.header, one.rows, one.meaning if options.full else None)
    if bonded and protocol == "distances" and not options.protocol:
        console.print("These molecules have bonds of their own: [bold]--protocol bonds[/] judges by them")
    if not options.full:
        console.print("Distances from a reference, strain, PoseBusters, drug-likeness and diversity: [bold]--full[/]")
    write_json(options.json, {name: {one.key: one.data for one in group} for name, group in tables.items()})
    if options.html is not None:
        from medmol_diffusion.score_page import SHOWN, write_score_page

        every = [one for group in tables.values() for one in group]
        first = ours.read(range(min(SHOWN, len(ours))))
        page = write_score_page(
            Path(options.html), path.name, some, real, every, protocol, options.seed, len(ours), first
        )
        console.print(f"open [bold]{escape(str(page))}[/]")
