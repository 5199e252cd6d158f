"""`medmol detect`: anomaly maps of scans."""

import argparse
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from medmol_diffusion.cli.inputs import load
from medmol_diffusion.cli.output import console, write_json
from medmol_diffusion.cli.parser import Verbs, add_model, add_reading, add_verb, there
from medmol_diffusion.errors import InputError
from medmol_diffusion.plural import counted
from medmol_diffusion.progress import Bar


def add(verbs: Verbs) -> None:
    sub = add_verb(verbs, "detect", "anomaly map and score of scans, in each scan's own space", detect)
    add_model(sub)
    sub.add_argument("scans", nargs="+", metavar="SCAN")
    sub.add_argument("-o", "--output", required=True, metavar="FOLDER")
    sub.add_argument("--method", default="one_shot", help="one_shot, partial or smoothing (default one_shot)")
    sub.add_argument("--healthy", type=there, metavar="FOLDER", help="healthy scans that fix the threshold")
    sub.add_argument(
        "--masks", type=there, metavar="FOLDER", help="lesion masks named like the scans: they evaluate maps"
    )
    sub.add_argument("--bids", action="store_true", help="write BIDS derivatives with sidecars: sub-XX/anat/...")
    add_reading(sub)
    sub.add_argument("--json", metavar="FILE", help="write the figures there (default: FOLDER/detect.json)")


def detect(options: argparse.Namespace) -> None:
    from medmol_diffusion.mri.anomaly import AnomalyDetector
    from medmol_diffusion.mri.bids import Derivatives
    from medmol_diffusion.mri.evaluation import evaluate
    from medmol_diffusion.mri.formats.files import find_scans, read_scans, stem
    from medmol_diffusion.mri.picture import detection_sheet
    from medmol_diffusion.mri.volume import Volume

    out = Path(options.output)
    files = [Path(scan) for scan in options.scans]
    names = [stem(file) for file in files]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            f"several scans are called {twice[0]}, and their results would lie in one file: give them apart"
        )
    detector = AnomalyDetector(load(options.model, options.device), options.method, options.seed)
    model = Path(options.model).name or Path(options.model).resolve().name
    derivatives = Derivatives(out, {"Model": model, "Method": options.method, "Seed": options.seed})
    masks = None if options.masks is None else Path(options.masks)
    if options.healthy:
        detector.fit(find_scans(options.healthy))
    found, done, truth = [], [], []
    with Bar(options.method, len(options.scans), transient=True) as bar:
        for file, volume in read_scans(files, options.frame, options.series):
            mask = None if masks is None else Volume.read(_named_like(file, masks), constant=True)
            truth += [] if mask is None else [mask]
            detection = detector.detect(volume)
            out.mkdir(parents=True, exist_ok=True)
            for what, volume in (("anomaly", detection.map), ("restored", detection.restored)):
                if options.bids:
                    # the folder of a series may be called by the patient's name, its source is not
                    derivatives.write_of(volume, volume.provenance["source"] if file.is_dir() else str(file), what)
                else:
                    volume.write(out / f"{stem(file)}_{what}.nii.gz")
            (out / f"{stem(file)}.png").write_bytes(detection_sheet(detection, mask))
            found.append(detection)
            done.append(str(file))
            bar.reach(len(found))
    table = Table(
        "scan", "score", "percentile of healthy", title=f"{options.method}: mean of the highest 1 % of the map"
    )
    for name, detection in zip(done, found, strict=True):
        known = "" if detection.percentile is None else f"{detection.percentile:.0f}"
        table.add_row(escape(stem(name)), f"{detection.score:.4f}", known)
    console.print(table)
    summary: dict[str, Any] = {
        "method": options.method,
        "threshold": detector.threshold,
        "scores": {name: detection.score for name, detection in zip(done, found, strict=True)},
    }
    if truth:
        evaluation = evaluate(found, truth, detector.threshold)
        table = Table("figure", "value", "95 % interval", "note", title=f"against {counted(len(truth), 'mask')}")
        for row in evaluation.rows():
            table.add_row(*row)
        console.print(table)
        summary["evaluation"] = evaluation.to_dict()
    write_json(options.json or out / "detect.json", summary)
    console.print(f"maps, restored scans and pictures in [bold]{escape(str(out))}[/]")


def _named_like(scan: Path, masks: Path) -> Path:
    """The mask of a scan: a file of its name, or NIfTI of the name of a DICOM folder."""
    return masks / (f"{scan.name}.nii.gz" if scan.is_dir() else scan.name)
