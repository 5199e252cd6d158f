"""The page of `medmol score --html`: the tables, histograms against the reference, and the molecules in 2-D and 3-D."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medmol_diffusion.judging.table import ScoreTable
from medmol_diffusion.molecules.judge.druglikeness import NAMES, property_columns
from medmol_diffusion.molecules.judge.geometry import measure
from medmol_diffusion.molecules.judge.score_report import MOST, as_judged, drawn
from medmol_diffusion.molecules.judge.verdict import Protocol
from medmol_diffusion.molecules.molecule import Molecule
from medmol_diffusion.molecules.picture import depictions
from medmol_diffusion.molecules.properties import PROPERTIES
from medmol_diffusion.molecules.viewer import viewer
from medmol_diffusion.plural import counted
from medmol_diffusion.report import Report

SHOWN = 20
"""Molecules in the grid of depictions; the first TURNED of them in 3-D."""
TURNED = 8
GEOMETRY = {
    "lengths": "bond length, pm",
    "angles": "angle, degrees",
    "dihedrals": "dihedral, degrees",
    "sizes": "number of atoms",
}


def write_score_page(
    path: Path,
    title: str,
    molecules: Sequence[Molecule],
    reference: Sequence[Molecule] | None,
    tables: Sequence[ScoreTable],
    protocol: Protocol,
    seed: int = 0,
    total: int | None = None,
    first: Sequence[Molecule] | None = None,
) -> Path:
    """Write one self-contained page. Bonds in pictures and histograms are those of the protocol.

    Where ``molecules`` were drawn of ``total``, ``first`` are the first SHOWN of the file.
    """
    ours, shown = as_judged(molecules, protocol), as_judged(first or molecules[:SHOWN], protocol)
    theirs = None if reference is None else drawn(as_judged(reference, protocol), MOST, seed)
    about = f"{counted(total or len(molecules), 'molecule')}. Bonds by protocol {protocol} where it matters."
    report = Report(f"Scores of {title}", about)
    report.heading("Molecules that turn")
    report.text("Drag to turn; click one, then the wheel or the arrow keys. The first of the file, not selected.")
    report.markup(viewer(shown[:TURNED]))
    for table in tables:
        report.heading(table.title)
        report.text(table.meaning)
        report.table(table.header, table.rows)
    _histograms(report, drawn(ours, MOST, seed), theirs)
    report.heading("Depictions")
    for start in range(0, len(shown), 4):
        row = shown[start : start + 4]
        report.svg(depictions(row, columns=4), "The first of the file, not selected." if start == 0 else "")
    return report.write(path)


def _histograms(report: Report, ours: Sequence[Molecule], theirs: Sequence[Molecule] | None) -> None:
    report.heading("Histograms")
    real = "" if theirs is None else ", the line the reference"
    report.text(f"Filled: the molecules{real}. Both have the same area; the few values beyond either end are left out.")
    columns: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}
    mine, other = measure(ours), None if theirs is None else measure(theirs)
    for key, label in GEOMETRY.items():
        columns[label] = (getattr(mine, key).value, None if other is None else getattr(other, key).value)
    computed = property_columns(ours, NAMES)
    known = None if theirs is None else property_columns(theirs, NAMES)
    for name in NAMES:
        unit = PROPERTIES[name].unit
        label = name.replace("_", " ") + (f", {unit}" if unit else "")
        columns[label] = (computed[name], None if known is None else known[name])
    report.markup("<div class='plots'>")
    for label, (values, beside) in columns.items():
        report.histogram(values, beside, label)
    report.markup("</div>")
