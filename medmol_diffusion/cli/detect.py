"""`medmol detect`: anomaly maps of scans, and how good they are."""

import argparse
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from medmol_diffusion.cli.cases import Cases
from medmol_diffusion.cli.inputs import load
from medmol_diffusion.cli.output import console, show, stage, write_json
from medmol_diffusion.cli.parser import Verbs, add_model, add_reading, add_verb, there
from medmol_diffusion.cli.sampling import asked_covariates
from medmol_diffusion.cli.scans import add_also
from medmol_diffusion.errors import InputError
from medmol_diffusion.progress import Bar

if TYPE_CHECKING:
    from medmol_diffusion.mri import Volume
    from medmol_diffusion.mri.anomaly import AnomalyDetector, Detection, Ensemble, Method
    from medmol_diffusion.mri.anomaly.evaluation import Case, Cost

ALL, METHOD, QUANTILE = "all", "one_shot", 0.99


def add(verbs: Verbs) -> None:
    about = "anomaly map, restored scan, mask and score of scans, in each scan's own space"
    sub = add_verb(verbs, "detect", about, detect)
    add_model(sub)
    sub.add_argument("scans", nargs="+", metavar="SCAN")
    sub.add_argument("-o", "--output", required=True, metavar="FOLDER")
    sub.add_argument(
        "--method",
        action="append",
        metavar="NAME",
        help=f"may come several times, or {ALL} for all that the model can serve (default {METHOD})",
    )
    sub.add_argument(
        "--postprocess",
        metavar="NAME",
        help="of every map: plain, cleaned (median 3^3, rim eroded) or published (median 5^3, pieces below 8 voxels "
        "dropped, rim eroded: for 1 mm); each method's own without",
    )
    sub.add_argument(
        "--healthy",
        type=there,
        metavar="FOLDER",
        help="healthy scans, which fix the threshold and teach methods",
    )
    sub.add_argument("--pattern", metavar="GLOB", help="which files of --healthy are scans")
    sub.add_argument(
        "--quantile",
        type=float,
        default=QUANTILE,
        help=f"of the healthy scans' voxels, which becomes the threshold (default {QUANTILE})",
    )
    sub.add_argument(
        "--masks",
        type=there,
        metavar="FOLDER",
        help="lesion masks named like the scans, empty ones of healthy subjects too: evaluate, beside all baselines",
    )
    sub.add_argument(
        "--aside",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="of the healthy subjects, not to be learnt from, but to count false alarms on (default 0)",
    )
    sub.add_argument(
        "--brains", type=there, metavar="FOLDER", help="where to look: masks named like the scans, healthy ones too"
    )
    sub.add_argument("--table", type=there, metavar="FILE", help="csv or tsv that says whose scans are")
    sub.add_argument(
        "--covariate",
        action="append",
        metavar="NAME=VALUE",
        help="of a model of covariates: what a healthy scan is, lesion_load=0 for example; may come several times",
    )
    sub.add_argument("--guidance", type=float, default=1.0, help="scale of classifier-free guidance to it (default 1)")
    sub.add_argument(
        "--autoencoder", metavar="MODEL", help="of healthy scans: for the method of that name, a baseline of --masks"
    )
    what = "of a model of Translation: what it makes scans from, in the order of the scans: --also T1w a.nii b.nii"
    add_also(sub, what)
    sub.add_argument(
        "--healthy-also",
        action="append",
        nargs=2,
        metavar=("NAME", "GLOB"),
        help="the same of the healthy subjects: which files of --healthy they are",
    )
    sub.add_argument("--bids", action="store_true", help="write BIDS derivatives with sidecars: sub-XX/anat/...")
    add_reading(sub)
    sub.add_argument("--json", metavar="FILE", help="write the figures there (default: FOLDER/detect.json)")


def detect(options: argparse.Namespace) -> None:
    from medmol_diffusion.mri.anomaly import METHODS, AnomalyDetector

    if options.masks and not options.healthy:
        raise InputError("--masks evaluates at a threshold that healthy scans give: name them by --healthy FOLDER")
    for name, needs in (("aside", "masks"), ("pattern", "healthy"), ("healthy_also", "healthy")):
        if getattr(options, name) and not getattr(options, needs):
            raise InputError(f"--{name.replace('_', '-')} says something of --{needs}: give both, or leave it out")
    asked = asked_covariates(options.covariate or ())
    chosen = list(dict.fromkeys(options.method or [METHOD]))
    every = ALL in chosen
    chosen = list(METHODS) if every else chosen
    cases = Cases.of(options)
    model = load(options.model, options.device)
    autoencoder = load(options.autoencoder, options.device) if options.autoencoder else None
    how = (options.seed, asked, options.guidance, autoencoder)
    detectors = {name: AnomalyDetector(model, _method(name, options), *how) for name in chosen}
    for name, detector in detectors.items():
        detector.name = name
    next(iter(detectors.values())).check_images([*cases.also, *cases.healthy_also])
    results = Results(options, several=len(chosen) > 1)
    summary = _evaluated(detectors, cases, results) if options.masks else _answered(detectors, cases, results, every)
    rows = [
        (name, file, f"{score:.4f}", "" if percentile is None else f"{percentile:.0f}")
        for name, answers in results.answers.items()
        for file, score, percentile in answers
    ]
    show("scores of scans", ("method", "scan", "score", "percentile of healthy"), rows)
    for name, why in summary["left_out"].items():
        console.print(f"[yellow]left out[/] {escape(name)}: {escape(why)}")
    write_json(options.json or results.out / "detect.json", results.content() | summary)
    console.print(f"maps, restored scans and pictures in [bold]{escape(str(results.out))}[/]")


def _method(name: str, options: argparse.Namespace) -> "Method | Ensemble":
    """With the post-processing that is asked for.

    Raises:
        InputError: there is no such method, or no such post-processing.
    """
    from medmol_diffusion.mri.anomaly import method_named
    from medmol_diffusion.mri.anomaly.postprocess import postprocess_named

    method = method_named(name)
    return method.with_postprocess(postprocess_named(options.postprocess)) if options.postprocess else method


def _answered(
    detectors: dict[str, "AnomalyDetector"], cases: Cases, results: "Results", every: bool
) -> dict[str, dict[str, Any]]:
    """Maps of the scans, one after the other: none but the one at work is held."""
    from medmol_diffusion.mri.anomaly import Unserved
    from medmol_diffusion.mri.anomaly.evaluation import Meter

    model = next(iter(detectors.values())).model
    meters = {name: Meter(model.network, model.device) for name in detectors}
    left_out: dict[str, str] = {}
    if cases.healthy:
        healthy = cases.to_learn()
        rows = ((case.scan, case.brain, case.images, case.subject) for case in healthy)
        scans, brains, images, subjects = zip(*rows, strict=True)
        with stage("healthy scans", len(detectors)) as reach:
            for place, (name, detector) in enumerate(detectors.items(), start=1):
                try:
                    detector.fit(scans, results.options.quantile, brains, images, subjects)
                except Unserved as error:
                    if not every:
                        raise
                    left_out[name] = str(error)
                reach(place)
    with Bar("scans", len(cases.files), transient=True) as bar:
        for place, (file, case) in enumerate(cases.to_test(), start=1):
            for name, detector in detectors.items():
                if name in left_out:
                    continue
                try:
                    with meters[name]:
                        found = detector.detect(case.scan, case.brain, case.images)
                except Unserved as error:
                    if not every:
                        raise
                    left_out[name] = str(error)
                else:
                    results.add(name, file, found)
            bar.reach(place)
    results.costs = {name: meters[name].cost() for name in results.answers}
    return {"left_out": left_out}


def _evaluated(detectors: dict[str, "AnomalyDetector"], cases: Cases, results: "Results") -> dict[str, dict[str, Any]]:
    """The same by the protocol of the Evaluator, which adds the baselines; they are figures, and write no maps."""
    from medmol_diffusion.anomaly_page import Album, write_anomaly_page
    from medmol_diffusion.mri.anomaly.evaluation import (
        BASELINES,
        Evaluator,
        protocol_of,
        set_aside,
        tables_of,
        write_subjects,
    )
    from medmol_diffusion.mri.part import trained_subjects

    options, setting = results.options, next(iter(detectors.values())).setting
    healthy, controls = set_aside(cases.to_learn(), options.aside, options.seed)
    pairs = list(cases.to_test())
    files = {id(case): file for file, case in pairs}
    test = [case for _, case in pairs]
    models = [options.model, *([options.autoencoder] if options.autoencoder else [])]
    trained = [subject for model in models for subject in trained_subjects(model)]
    evaluator = Evaluator(setting, healthy, [*test, *controls], options.quantile, seed=options.seed, trained=trained)
    album = Album()

    def seen(name: str, case: "Case", found: "Detection") -> None:
        album.add(name, case, found)
        if name in detectors and id(case) in files:
            results.add(name, files[id(case)], found, case.lesions)

    methods = {name: _method(name, options) for name in dict.fromkeys([*detectors, *BASELINES])}
    found, left_out = evaluator.run(methods, seen, stage)
    if not found:
        raise InputError(f"none of the methods can be served; the first, {next(iter(left_out.values()))}")
    tables = tables_of(found, left_out, evaluator)
    for table in tables:
        show(table.title, table.header, table.rows, table.meaning)
    console.print(protocol_of(evaluator))
    results.costs = {one.name: one.cost for one in found}
    write_subjects(results.out / "subjects.csv", found)
    page = write_anomaly_page(results.out / "report.html", results.model, evaluator, found, tables, album)
    console.print(f"open [bold]{escape(str(page))}[/]")
    figures = {table.key: table.data for table in tables if table.key != "left_out"}
    return {"left_out": left_out, "evaluation": {"protocol": protocol_of(evaluator), **figures}}


@dataclass
class Results:
    """What was found, written as it is found.

    Attributes:
        options: of the verb.
        several: whether there are several methods, each of which then has a folder of its own.
        answers: method -> (file, score, percentile) of each scan.
        thresholds, costs: of each method.
    """

    options: argparse.Namespace
    several: bool
    answers: dict[str, list[tuple[str, float, float | None]]] = field(default_factory=dict)
    thresholds: dict[str, float | None] = field(default_factory=dict)
    costs: dict[str, "Cost"] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        return Path(self.options.output)

    @property
    def model(self) -> str:
        """What the model is called."""
        return Path(self.options.model).name or Path(self.options.model).resolve().name

    def add(self, method: str, file: Path, found: "Detection", truth: "Volume | None" = None) -> None:
        """Write the map, the restored scan, the mask if there is a threshold, and the picture of one scan."""
        import numpy as np

        from medmol_diffusion.mri.bids import Derivatives
        from medmol_diffusion.mri.formats.files import stem
        from medmol_diffusion.mri.picture import detection_sheet

        out = self.out / method if self.several else self.out
        out.mkdir(parents=True, exist_ok=True)
        derivatives = Derivatives(out, {"Model": self.model, "Method": method, "Seed": self.options.seed})
        volumes = [("anomaly", found.map), ("restored", found.restored)]
        if found.threshold is not None:
            volumes.append(("mask", found.to_mask()))
        for what, volume in volumes:
            if self.options.bids:
                # the folder of a series may be called by the patient's name, its source is not
                derivatives.write_of(volume, volume.provenance["source"] if file.is_dir() else str(file), what)
            else:
                volume.write(out / f"{stem(file)}_{what}.nii.gz", np.uint8 if what == "mask" else np.float32)
        (out / f"{stem(file)}.png").write_bytes(detection_sheet(found, truth))
        self.answers.setdefault(method, []).append((str(file), found.score, found.percentile))
        self.thresholds[method] = found.threshold

    def content(self) -> dict[str, Any]:
        """For JSON: that of the first method, and of all by name."""
        methods = {
            name: {
                "method": name,
                "threshold": self.thresholds[name],
                "scores": {file: score for file, score, _ in answers},
                "percentiles": {file: percentile for file, _, percentile in answers},
                "cost": asdict(self.costs[name]),
            }
            for name, answers in self.answers.items()
        }
        return {**next(iter(methods.values()), {}), "methods": methods}
