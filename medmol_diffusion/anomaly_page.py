"""The page of `medmol detect --masks`: methods and baselines in tables, and their maps on slices of every subject."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medmol_diffusion.judging.cells import number
from medmol_diffusion.judging.table import ScoreTable
from medmol_diffusion.mri.anomaly import Detection
from medmol_diffusion.mri.anomaly.evaluation import Case, Evaluation, Evaluator, Subject, protocol_of
from medmol_diffusion.mri.picture import focus, overlay_strip
from medmol_diffusion.plural import counted
from medmol_diffusion.report import Report

SHOWN = 12
"""Subjects that are pictured, each by its first scan: those that come first, not selected."""


@dataclass
class Album:
    """Pictures of the maps of several methods, collected as they are made.

    Attributes:
        scans: subject -> its scan, the true mask outlined.
        maps: subject -> method -> the map over the scan.
    """

    scans: dict[str, bytes] = field(default_factory=dict)
    maps: dict[str, dict[str, bytes]] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)
    _centres: dict[str, list[int]] = field(default_factory=dict)

    def add(self, method: str, case: Case, found: Detection) -> None:
        """A Seen of the Evaluator. Every method is shown on the slices of the first."""
        subject = case.subject
        if self._names.setdefault(subject, case.name) != case.name or (
            subject not in self.scans and len(self.scans) == SHOWN
        ):
            return
        if subject not in self.scans:
            self._centres[subject] = focus(found, case.lesions)
            self.scans[subject] = overlay_strip(found, case.lesions, self._centres[subject], "scan")
        strip = overlay_strip(found, case.lesions, self._centres[subject])
        self.maps.setdefault(subject, {})[method] = strip


def write_anomaly_page(
    path: Path,
    title: str,
    by: Evaluator,
    found: Sequence[Evaluation],
    tables: Sequence[ScoreTable],
    album: Album,
) -> Path:
    """Write one self-contained page."""
    report = Report(f"Anomalies found by {title}", protocol_of(by))
    for table in tables:
        report.heading(table.title)
        report.text(table.meaning)
        report.table(table.header, table.rows)
    report.heading("Maps")
    pictured = len(album.scans)
    whose = f"The first {pictured} of {len(by.test)} scans" if pictured < len(by.test) else "Every scan"
    report.text(
        f"{whose}: axial, coronal and sagittal slice through the largest lesion, or where the first map is highest. "
        "Cyan: the true mask. Green: above the threshold. Each map is on a scale of its own."
    )
    figures = [(one.name, {subject.subject: subject for subject in one.figures.subjects}) for one in found]
    for subject, scan in album.scans.items():
        report.heading(subject, 3)
        report.markup("<div class='pairs'>")
        report.png(scan, f"scan of {subject}")
        for method, subjects in figures:
            report.png(album.maps[subject][method], _caption(method, subjects[subject]))
        report.markup("</div>")
    return report.write(path)


def _caption(method: str, one: Subject) -> str:
    """Of a subject without lesions, how much of it is a false alarm."""
    if not one.sick:
        return f"{method}: false alarms {number(one.flagged_ml, '.3g', 'ml')}"
    return (
        f"{method}: AUPRC {number(one.auprc, '.3f')}, Dice {number(one.dice, '.3f')}, {one.found} of "
        f"{counted(one.lesions, 'lesion')} found"
    )
