"""The whole judgement of a folder of scans against real ones, as tables that the terminal, JSON and HTML share."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from medmol_diffusion.judging.bootstrap import Bootstrap
from medmol_diffusion.judging.cells import NONE, interval, number
from medmol_diffusion.judging.table import ScoreTable, Stage
from medmol_diffusion.mri.judge.extractor import Extractor
from medmol_diffusion.mri.judge.floor import SPLITS, Figure
from medmol_diffusion.mri.judge.measure import Measured, Thumbnails, measure, read_thumbnails
from medmol_diffusion.mri.judge.measures import (
    diversity,
    feature_distances,
    intensity_distance,
    pooled_features,
    shares,
    spectrum_differences,
    volume_distances,
)
from medmol_diffusion.mri.judge.memorisation import COPY, Nearest, nearest
from medmol_diffusion.mri.judge.scans import EVERYTHING, JudgedGrid, Reading, ScanFolder, judged_grid
from medmol_diffusion.mri.part import Part
from medmol_diffusion.plural import counted

NEAREST = 5
"""Generated scans nearest to a training scan that are listed and pictured."""


@dataclass(frozen=True)
class Shown:
    """A scan to be pictured: its file's name, and (X, Y, Z) in [-1, 1]."""

    name: str
    data: np.ndarray


@dataclass(frozen=True)
class Judgement:
    """What was read of the folders, and the tables made of it.

    Attributes:
        generated, real: the two sides.
        judged: the grid both are on.
        reading: how the scans are read.
        tables: in the order in which they are shown.
        closest_files: the NEAREST generated scans of the lowest authenticity, each with its nearest training scan;
            empty without a training folder.
    """

    generated: Measured
    real: Measured
    judged: JudgedGrid
    reading: Reading
    tables: list[ScoreTable]
    closest_files: list[tuple[Path, Path]]

    def closest(self) -> Iterator[tuple[Shown, Shown]]:
        """Each pair of `closest_files`, read again and on the judge's grid."""
        for pair in self.closest_files:
            found = self.reading.read(pair)
            shown = [Shown(file.name, self.judged.grid.prepare(scan).volume.data) for file, scan in found]
            yield shown[0], shown[1]


def judge_scans(
    path: Path,
    reference: Path | Part,
    extractor: Extractor,
    stage: Stage,
    training: Path | Part | None = None,
    full: bool = False,
    reading: Reading = EVERYTHING,
    seed: int = 0,
    cache: Path | None = None,
) -> Judgement:
    """Judge a folder of generated scans.

    Args:
        reference: the folder of real scans, or a run's part. training: of those that the model was trained on.
        reading: how the scans are found and read; its pattern is for `reference` and `training`.
        stage: makes the bar of what takes long.
        full: intensities, volumes and spectra too.
        seed: of the bootstrap, of the splits and of which scans MS-SSIM looks at.
        cache: a folder to keep what is measured of each scan, see Kept.

    Raises:
        InputError: a folder without usable scans, fields of view that differ, fewer than two scans on a side.
    """
    generated = ScanFolder.survey(path, replace(reading, pattern=None), stage, cache)
    real = ScanFolder.survey(reference, reading, stage, cache)
    trained = None
    if training is not None:
        trained = real if _same(training, reference) else ScanFolder.survey(training, reading, stage, cache)
    judged = judged_grid(real, generated, *([] if trained is None else [trained]))
    with stage("generated scans", len(generated)) as reach:
        ours = measure(generated, judged, extractor, full, seed, reach)
    with stage("real scans", len(real)) as reach:
        theirs = measure(real, judged, extractor, full, seed, reach)
    pooled = pooled_features(ours, theirs, extractor)
    distances = feature_distances(pooled, len(ours), seed)
    tables = [
        _distances(distances, ours, theirs, judged, extractor),
        _shares(shares(pooled, len(ours), seed), ours, theirs),
        _diversity(ours, theirs, seed),
    ]
    if full:
        tables += _anatomy(ours, theirs, seed)
    if trained is None:
        return Judgement(ours, theirs, judged, reading, tables, [])
    if trained is real:
        thumbnails = Thumbnails(theirs.names, theirs.thumbnails)
    else:
        with stage("training scans", len(trained)) as reach:
            thumbnails = read_thumbnails(trained, judged, reach)
    copied = nearest(ours.thumbnails, thumbnails.values)
    tables += _memorisation(copied, ours, theirs, thumbnails, seed)
    files = [extent.file for extent in generated.extents], [extent.file for extent in trained.extents]
    closest = [(files[0][i], files[1][copied.place[i]]) for i in copied.order()[:NEAREST]]
    return Judgement(ours, theirs, judged, reading, tables, closest)


def _same(one: Path | Part, other: Path | Part) -> bool:
    if isinstance(one, Part) or isinstance(other, Part):
        return one == other
    return one.resolve() == other.resolve()


def _equal(figures: list[Figure]) -> tuple[str, ...]:
    """The header of rows of Figure."""
    n = figures[0].floor.n
    return "score", "value", "95 % interval", f"at n = {n}", f"real, n = {n}", "its spread"


FLOOR = (
    f"Real: the same of n real scans against the rest of them, the mean over {SPLITS} random splits, and the middle "
    "95 % of these. Beside it n generated scans against that same rest: compare these two."
)


def _distances(
    figures: list[Figure], ours: Measured, theirs: Measured, judged: JudgedGrid, extractor: Extractor
) -> ScoreTable:
    unit = " Features in units of the real set's own spread." if extractor.in_spreads else ""
    moved = f" {counted(judged.resampled, 'scan')} resampled to it." if judged.resampled else ""
    declared = {
        "extractor": extractor.name,
        "extractor_sha256": extractor.hash,
        "generated": len(ours),
        "real": len(theirs),
        "grid": judged.to_dict(),
    }
    return ScoreTable(
        "distances",
        "Distance from the real scans",
        f"{len(ours)} generated against {len(theirs)} real scans on {judged}.{moved} Extractor {extractor.name}, "
        f"sha256 {extractor.hash[:12]}: figures of different extractors or real sets cannot be compared.{unit} "
        f"The Frechet distance grows as scans get fewer, the MMD does not. {FLOOR}",
        _equal(figures),
        [one.row() for one in figures],
        declared | {"figures": [one.to_dict() for one in figures]},
    )


def _shares(figures: list[Figure], ours: Measured, theirs: Measured) -> ScoreTable:
    return ScoreTable(
        "precision_recall",
        "Precision and recall",
        "Precision: generated scans that lie among the real ones. Recall: real scans that lie among the generated ones "
        "(low: the model leaves some out). Density and coverage: the same, hardened against outliers; density may pass "
        "1. Real scans do not reach 1 themselves: compare the columns of equal n.",
        _equal(figures),
        [one.row() for one in figures],
        {"generated": len(ours), "real": len(theirs), "figures": [one.to_dict() for one in figures]},
    )


def _diversity(ours: Measured, theirs: Measured, seed: int) -> ScoreTable:
    rows: list[tuple[str, ...]] = []
    data: dict[str, Any] = {}
    for name, measured in (("generated", ours), ("real", theirs)):
        value, low, high, scales = diversity(measured.scans(), seed)
        count = len(measured.kept)
        rows.append((f"between {name}", number(value, ".3f"), interval(low, high, ".3f"), str(count)))
        data[name] = {"value": value, "low": low, "high": high, "scans": count, "scales": scales}
    return ScoreTable(
        "diversity",
        f"Diversity: MS-SSIM between scans, {counted(data['real']['scales'], 'scale')}",
        "Mean over pairs of different scans: the two should be alike, and a higher one between generated scans says "
        "that they are more alike than real ones are.",
        ("pairs", "MS-SSIM", "95 % interval", "scans looked at"),
        rows,
        data,
    )


def _anatomy(ours: Measured, theirs: Measured, seed: int) -> list[ScoreTable]:
    assert ours.anatomy is not None
    assert theirs.anatomy is not None
    both = ours.anatomy, theirs.anatomy
    volumes = [intensity_distance(*both, seed), *volume_distances(*both, seed)]
    spectra = spectrum_differences(*both, seed)
    n = volumes[0].floor.n
    columns = "95 % interval", f"at n = {n}", f"real, n = {n}", "its spread"

    def row(figure: Figure, form: str) -> tuple[str, ...]:
        name, *cells = figure.row()
        return (name, number(figure.generated, form), number(figure.real, form), *cells)

    return [
        ScoreTable(
            "anatomy",
            "Intensities and volumes",
            "Means over scans, and Wasserstein-1: of the intensities inside the head, of the head's volume, and of the "
            "share of its dark, middle and bright voxels. These are classes of intensity (exact 3-means inside the "
            "head mask), no segmentation: on skull-stripped T1w near CSF, grey and white matter; on whole heads skin, "
            "fat and muscle are among them.",
            ("quantity", "generated", "real", "W1", *columns),
            [row(one, ".4g") for one in volumes],
            [one.to_dict() for one in volumes],
        ),
        ScoreTable(
            "spectrum",
            "Power spectrum",
            "How much stronger each band of spatial frequencies is than in real scans, in decibels: below 0 at the "
            "high ones is blur, above 0 noise; 3 dB is a factor of 2. Nyquist is half a cycle a voxel.",
            ("of Nyquist", "generated", "real", "difference", *columns),
            [row(one, ".1f") for one in spectra],
            [one.to_dict() for one in spectra],
        ),
    ]


def _memorisation(
    copied: Nearest, ours: Measured, theirs: Measured, training: Thumbnails, seed: int
) -> list[ScoreTable]:
    to_training = nearest(theirs.thumbnails, training.values)
    new = to_training.distance > 1e-5  # what is not in the training set itself
    rows: list[tuple[str, ...]] = []
    data: dict[str, Any] = {}
    for name, found in (("generated", copied), ("real, not trained on", to_training.only(new))):
        count = len(found.place)
        rows.append((name, *_nearness(found, seed), str(count)))
        data[name] = {"n": count, "copies": int(found.copies.sum()), **found.to_dict()}
    trained = len(theirs) - int(new.sum())
    same = f" {trained} of the {len(theirs)} real scans are training scans." if trained else ""
    order = copied.order()[:NEAREST]
    return [
        ScoreTable(
            "memorisation",
            f"Memorisation: nearest of {counted(len(training.names), 'training scan')}",
            "Distance: root mean square difference of coarse scans, of a range from -1 to 1. Authentic: farther from "
            "the nearest training scan than that one from its own nearest other. A copy: less than "
            f"{COPY:g} times as far. New real scans say what to expect of a model that memorises nothing.{same}",
            ("scans", "median distance", "least distance", "authentic", "95 % interval", "copies", "n"),
            rows,
            {"distance": f"RMS of block means, copy below {COPY}", "training": list(training.names), **data},
        ),
        ScoreTable(
            "nearest",
            "Nearest to a training scan",
            "The generated scans of the lowest authenticity: look at them beside what they may be copies of.",
            ("generated", "training scan", "distance", "authenticity", "copy"),
            [
                (
                    ours.names[i],
                    training.names[copied.place[i]],
                    f"{copied.distance[i]:.4f}",
                    f"{copied.authenticity[i]:.3f}",
                    "yes" if copied.copies[i] else "no",
                )
                for i in order
            ],
            [_pair(i, ours, training, copied) for i in order],
        ),
    ]


def _pair(i: int, ours: Measured, training: Thumbnails, copied: Nearest) -> dict[str, Any]:
    return {
        "generated": ours.names[i],
        "training": training.names[copied.place[i]],
        "distance": float(copied.distance[i]),
        "authenticity": float(copied.authenticity[i]),
        "copy": bool(copied.copies[i]),
    }


def _nearness(found: Nearest, seed: int) -> tuple[str, ...]:
    count = len(found.place)
    if count == 0:
        return (NONE,) * 5
    authentic = (found.authenticity > 1).astype(np.float64)
    low, high = Bootstrap(count, seed=seed).fraction(authentic, np.ones(count))
    return (
        number(float(np.median(found.distance)), ".4f"),
        number(float(found.distance.min()), ".4f"),
        number(100 * float(authentic.mean()), ".1f", "%"),
        interval(100 * float(low), 100 * float(high), ".1f"),
        str(int(found.copies.sum())),
    )
