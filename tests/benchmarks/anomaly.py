"""All anomaly methods and all baselines, by the protocol, on one kind of data:

    python -m tests.benchmarks.anomaly MODEL --data phantoms [--contrast FLAIR] [--heads 10] -o FOLDER
    python -m tests.benchmarks.anomaly MODEL --data planted [HEADS] [--shapes MASKS] [--contrasts ...] [--volumes ...]
    python -m tests.benchmarks.anomaly MODEL --data scans HEADS --masks "*_lesions.nii.gz" [--learn DIR]

HEADS: --folder DIR --scans GLOB [--brains GLOB] [--whites GLOB] [--images NAME=GLOB], files that belong together by
subject and session.

phantoms: healthy heads to learn from, others to count false alarms on, and others with lesions of each kind. planted:
every head of the test with one lesion of each contrast and volume, of real shapes (a folder of masks) or random blobs;
without a folder, in phantoms. scans: as they are, with their masks; what is learnt from scans with lesions is learnt
from the voxels well away from them. With --learn DIR all of that is learnt from the heads of another folder, found by
the same globs, and --folder is tested whole: a study on which nothing was fitted. MODEL must not have been trained on
the test heads: for real heads of one study, tests.benchmarks.anomaly_folds trains one for each fold.

What one method found is kept in FOLDER/methods as soon as it is there: killed and started again with the same
arguments, it goes on at the next one. FOLDER gets figures.json (or --json), subjects.csv and sensitivity.svg: the share
of lesions found at the threshold of the healthy scans, and the AUROC, by kind, or by contrast and by volume.
"""

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from medmol_diffusion.cli.sampling import asked_covariates
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import METHODS, VolumeDiffusion
from medmol_diffusion.mri.anomaly import Setting
from medmol_diffusion.mri.anomaly.evaluation import Evaluation, Evaluator, protocol_of, tables_of, write_subjects
from medmol_diffusion.mri.anomaly.lesion_shape import LesionShape, read_shapes
from medmol_diffusion.mri.part import trained_subjects
from medmol_diffusion.mri.split import SubjectSplit
from medmol_diffusion.training.saved import load_model
from tests.benchmarks.anomaly_curves import Curves, draw, rows, to_list
from tests.benchmarks.anomaly_kept import one_by_one, with_baselines
from tests.benchmarks.anomaly_own import add_own, models_of, own_setting, stamp
from tests.benchmarks.anomaly_sets import Head, Sets, phantom_head, phantoms, planted, read_heads, shuffled, split


def add_heads(parser: argparse.ArgumentParser) -> None:
    """What says which files are what, and which lesions are planted."""
    parser.add_argument("--folder", type=Path, help="of heads")
    parser.add_argument("--scans", default="*T1w.nii.gz", metavar="GLOB")
    parser.add_argument("--brains", metavar="GLOB", help="masks or labels, above 0 where to look; else the whole head")
    parser.add_argument("--whites", metavar="GLOB", help="masks of white matter: where to plant")
    parser.add_argument("--masks", metavar="GLOB", help="lesions; a scan without is healthy")
    parser.add_argument(
        "--images",
        nargs="*",
        default=[],
        metavar="NAME[=GLOB]",
        help="other contrasts of the same heads, to translate; of phantoms their names; lesions are not planted there",
    )
    parser.add_argument("--shapes", type=Path, metavar="FOLDER", help="masks whose components are planted; else blobs")
    parser.add_argument("--contrasts", type=float, nargs="+", default=[-0.6, -0.3, -0.15, 0.15, 0.3, 0.6])
    parser.add_argument("--volumes", type=float, nargs="+", default=[0.5, 2.0, 8.0], metavar="ML")
    parser.add_argument("--per-head", type=int, metavar="N", help="N of those lesions a head, in turn; else all")


def add_protocol(parser: argparse.ArgumentParser) -> None:
    """How methods are run and judged."""
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="all when left out; baselines always come too")
    parser.add_argument("--covariate", action="append", metavar="NAME=VALUE", help="what a healthy scan is asked to be")
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--quantile", type=float, default=0.99, help="of healthy voxels: the threshold")
    parser.add_argument("--draws", type=int, default=200, help="of the bootstrap")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)


def setting_of(options: argparse.Namespace, model: Any) -> Setting:
    if not isinstance(model, VolumeDiffusion):
        raise InputError("anomalies are found by a model of scans")
    return Setting(model.eval(), asked_covariates(options.covariate or ()), options.guidance, options.seed)


def shapes_of(options: argparse.Namespace) -> Sequence[LesionShape]:
    return read_shapes(options.shapes) if options.shapes else ()


def heads_of(options: argparse.Namespace, only: Sequence[str] = (), folder: Path | None = None) -> list[Head]:
    """Those of --folder, or of another one with the same globs."""
    globs = (options.brains, options.whites, options.masks)
    return read_heads(folder or options.folder, options.scans, *globs, only, images_of(options))


def images_of(options: argparse.Namespace) -> dict[str, str]:
    """Name -> glob of the other contrasts."""
    pairs = [text.partition("=") for text in options.images]
    if bare := [name for name, _, glob in pairs if not glob]:
        raise InputError(f"--images {bare[0]}: of heads of a folder write NAME=GLOB, which files they are")
    return {name: glob for name, _, glob in pairs}


def learnt_from(options: argparse.Namespace) -> list[Head]:
    """Of --learn: all heads, or those that a split keeps for validation."""
    only = SubjectSplit.read(options.learn_split).validation if options.learn_split else ()
    if options.learn_split and not only:
        raise InputError(f"{options.learn_split} has nobody for validation to learn from: give a split with some")
    return heads_of(options, only, options.learn)


def sets_of(options: argparse.Namespace, healthy: Sequence[Head], test: Sequence[Head], upper: float) -> Sets:
    """Of heads from files: planted, or as they are."""
    if options.data == "planted":
        shapes = shapes_of(options)
        return planted(healthy, test, options.contrasts, options.volumes, shapes, upper, options.seed, options.per_head)
    sick = [head.lesions is not None and bool(head.lesions.data.any()) for head in test]
    groups = [{"kind": "real"} if ill else {} for ill in sick]
    return Sets([head.healthy() for head in healthy], [head.case() for head in test], groups)


def own_sets(options: argparse.Namespace, model: VolumeDiffusion) -> Sets:
    grid = model.grid
    if options.data == "phantoms":
        return phantoms(grid, options.contrast, options.heads, options.lesions, options.images)
    if options.folder is None:
        if options.data != "planted":
            raise InputError("--data scans needs --folder DIR, the heads, and --masks GLOB, their lesions")
        heads = [phantom_head(i, grid, options.contrast) for i in range(3 * options.heads)]
    elif options.learn is not None:
        return sets_of(options, learnt_from(options), heads_of(options), grid.upper)
    else:
        heads = shuffled(heads_of(options), options.seed)
    return sets_of(options, *split(heads, options.calibration), grid.upper)


def curves_of(options: argparse.Namespace, sets: Sets, overlap: float) -> Curves:
    groups = {id(case): group for case, group in zip(sets.test, sets.groups, strict=True)}
    return Curves(groups, overlap, options.draws, options.seed)


def evaluator_of(options: argparse.Namespace, setting: Setting, sets: Sets, trained: Iterable[str]) -> Evaluator:
    how = {"draws": options.draws, "seed": options.seed, "trained": trained}
    return Evaluator(setting, sets.healthy, sets.test, options.quantile, **how)


def deciding(options: argparse.Namespace) -> dict[str, Any]:
    """What decides the result of a method, besides its name and its model."""
    apart = ("model", "output", "json", "methods", "own", "device")
    return {name: value for name, value in vars(options).items() if name not in apart}


def write(
    options: argparse.Namespace, found: Sequence[Evaluation], left_out: dict[str, str], by: Evaluator, curves: Curves
) -> None:
    """Tables on the terminal; figures.json, subjects.csv and sensitivity.svg."""
    console, tables, points = Console(width=200), tables_of(found, left_out, by), curves.points()
    shown = [(one.title, one.header, one.rows, one.meaning) for one in tables]
    header = ("method", "lesions", "scans", "found", "AUROC, mean of subjects")
    shown.append(("Sensitivity", header, rows(points), "95 % intervals over subjects"))
    for title, header, cells, meaning in shown:
        table = Table(*header, title=title, caption=meaning)
        for row in cells:
            table.add_row(*row)
        console.print(table)
    options.output.mkdir(parents=True, exist_ok=True)
    content = {
        "protocol": protocol_of(by),
        "settings": {name: value for name, value in vars(options).items() if name not in ("output", "json")},
        "methods": {one.name: {"cost": asdict(one.cost), "threshold": one.threshold} for one in found},
        "tables": {one.key: one.data for one in tables},
        "sensitivity": to_list(points),
    }
    (options.json or options.output / "figures.json").write_text(json.dumps(content, indent=2, default=str) + "\n")
    write_subjects(options.output / "subjects.csv", found)
    draw(points, options.output / "sensitivity.svg", f"{len(by.test)} scans; thresholds of healthy scans alone")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", choices=("phantoms", "planted", "scans"), required=True)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--contrast", default="FLAIR", help="of phantoms")
    parser.add_argument("--heads", type=int, default=10, help="phantoms of each set")
    parser.add_argument("--lesions", type=int, default=2, help="of a phantom")
    parser.add_argument("--calibration", type=float, default=0.4, help="share of the people that is learnt from")
    parser.add_argument("--learn", type=Path, metavar="DIR", help="heads to learn from; else a share of --folder")
    parser.add_argument("--learn-split", metavar="FILE", help="of medmol split: learn from its validation part alone")
    parser.add_argument("--device", default="cpu")
    add_heads(parser)
    add_protocol(parser)
    add_own(parser)
    options = parser.parse_args(arguments)
    own = models_of(options.own)
    setting = setting_of(options, load_model(options.model).to(options.device))
    sets = own_sets(options, setting.model)
    by = evaluator_of(options, setting, sets, trained_subjects(options.model))
    curves = curves_of(options, sets, by.overlap)

    def run(name: str) -> Evaluation:
        if name not in own:
            return by.evaluate(name, seen=curves.seen)
        trained = [*trained_subjects(options.model), *trained_subjects(own[name])]
        other = evaluator_of(options, own_setting(setting, own[name], options.own_covariate), sets, trained)
        return other.evaluate(name, seen=curves.seen)

    def decides(name: str) -> dict[str, Any]:
        return deciding(options) | stamp(options.model) | {"own": stamp(own[name]) if name in own else ""}

    found, left_out = one_by_one(
        with_baselines([*(options.methods or METHODS), *own]), options.output, decides, run, curves
    )
    write(options, found, left_out, by, curves)


if __name__ == "__main__":
    main()
