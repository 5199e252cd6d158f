"""The page of `medmol score --html` of scans: the tables, slices of generated beside real ones, histograms, spectra."""

from pathlib import Path

import numpy as np

from medmol_diffusion.mri.judge.measure import Anatomy
from medmol_diffusion.mri.judge.power import SHELLS
from medmol_diffusion.mri.judge.score_report import Judgement
from medmol_diffusion.mri.judge.tissue import CLASSES
from medmol_diffusion.mri.picture import planes_sheet
from medmol_diffusion.plural import counted
from medmol_diffusion.report import Report

SHOWN = 6
"""Scans of each side that are pictured."""


def write_scan_page(path: Path, title: str, found: Judgement) -> Path:
    """Write one self-contained page."""
    ours, theirs = found.generated, found.real
    about = f"{counted(len(ours), 'generated scan')} against {counted(len(theirs), 'real one')}, on {found.judged}."
    report = Report(f"Scores of {title}", about)
    report.heading("Generated beside real")
    report.text("Drawn at random, not selected: axial, coronal and sagittal slice through the middle.")
    report.markup("<div class='pairs'>")
    for place in range(min(SHOWN, len(ours.kept), len(theirs.kept))):
        for side, measured in (("generated", ours), ("real", theirs)):
            name = measured.names[measured.kept_places[place]]
            report.png(planes_sheet(measured.scan(place), found.judged.spacing), f"{side}: {name}")
    report.markup("</div>")
    for table in found.tables:
        report.heading(table.title)
        report.text(table.meaning)
        report.table(table.header, table.rows)
        if table.key == "nearest":
            _nearest(report, found)
    if ours.anatomy is not None and theirs.anatomy is not None:
        _anatomy(report, ours.anatomy, theirs.anatomy)
    return report.write(path)


def _nearest(report: Report, found: Judgement) -> None:
    """Each generated scan of the lowest authenticity beside its training scan."""
    report.markup("<div class='pairs'>")
    for generated, training in found.closest():
        for side, scan in (("generated", generated), ("training", training)):
            report.png(planes_sheet(scan.data, found.judged.spacing), f"{side}: {scan.name}")
    report.markup("</div>")


def _anatomy(report: Report, ours: Anatomy, theirs: Anatomy) -> None:
    report.heading("Spectra and intensities")
    frequency = (np.arange(SHELLS) + 0.5) / SHELLS
    sides = {"generated": ours, "real": theirs}
    report.curve(
        {side: (frequency.tolist(), one.spectra.mean(0).tolist()) for side, one in sides.items()},
        "frequency, of Nyquist",
        "power, dB",
        "Mean power spectrum.",
    )
    levels = ours.histograms.shape[1]
    intensity = (100 * np.arange(levels) / (levels - 1)).tolist()
    report.curve(
        {side: (intensity, (100 * one.histograms.mean(0)).tolist()) for side, one in sides.items()},
        "intensity, % of range",
        "% of voxels",
        "Mean histogram of intensities inside the head.",
    )
    report.heading("Histograms")
    report.text("Filled: the generated scans, the line the real ones. Both have the same area.")
    report.markup("<div class='plots'>")
    heads = [one.volumes.sum(1) for one in (ours, theirs)]
    report.histogram(heads[0], heads[1], "head, ml", bins=24)
    for place, name in enumerate(CLASSES):
        shares = [100 * one.volumes[:, place] / head for one, head in zip((ours, theirs), heads, strict=True)]
        report.histogram(shares[0], shares[1], f"{name} class, % of head", bins=24)
    report.markup("</div>")
