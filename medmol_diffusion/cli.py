"""`medmol`: the command line. User errors end with one sentence and exit code 2."""

import argparse
import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from medmol_diffusion import __version__
from medmol_diffusion.errors import InputError
from medmol_diffusion.progress import Bar

if TYPE_CHECKING:
    from medmol_diffusion.molecules.judge.verdict import Protocol

console = Console()
MOLECULE_SUFFIXES = (".sdf", ".sdf.gz", ".xyz", ".npz")


class CoreNames(Sequence[str]):
    """The names in a registry of the core, looked up when somebody asks: --help should not wait for torch."""

    def __init__(self, registry: str) -> None:
        self.registry = registry

    def _names(self) -> list[str]:
        from medmol_diffusion import core

        return list(getattr(core, self.registry))

    def __getitem__(self, place: Any) -> Any:
        return self._names()[place]

    def __len__(self) -> int:
        return len(self._names())


SAMPLERS, GRIDS = CoreNames("STEPPERS"), CoreNames("GRIDS")

FIT_HELP = """usage: medmol fit --config FILE [--key value ...]

Trains from a config. Every key of the config can be set on the command line too; the most useful ones:

  --config FILE                     YAML; of several the last wins. Copy one of configs/ to begin with
  --trainer.default_root_dir DIR    the run folder: config.yaml, checkpoints/, metrics.csv, TensorBoard events
  --ckpt_path last                  go on where the run in that folder stopped; or a checkpoint file
  --data.path PATH                  the data
  --trainer.max_steps N             how long; with --model.decay_steps N, the end of the cosine of the learning rate
  --trainer.max_time DD:HH:MM:SS    stop in time, saved
  --trainer.accelerator gpu         with --trainer.devices and --trainer.precision bf16-mixed: as Lightning has them
  --print_config                    show the whole config, every key with its value, and do nothing else
"""


def fit(arguments: list[str]) -> None:
    if {"-h", "--help"} & set(arguments):
        console.print(FIT_HELP, end="", markup=False, highlight=False, soft_wrap=True)
        return
    if not arguments:
        raise InputError("fit needs a config: medmol fit --config FILE; medmol fit --help says more")
    for flag, value in pairwise(arguments):
        if flag == "--config" and not Path(value).exists():
            raise InputError(f"--config {value} does not exist: check the path")
    from pytorch_lightning.utilities import rank_zero_only

    from medmol_diffusion.training.fit import fit as train
    from medmol_diffusion.training.memory import keep_freed_memory

    keep_freed_memory()
    folder = train(arguments)
    if getattr(rank_zero_only, "rank", 0):  # one of several processes, whose first one speaks
        return
    console.print(f"The run is in [bold]{folder}[/]: try medmol validate {folder}, medmol sample {folder} -o ...")


def _load(source: str, device: str) -> Any:
    import torch

    from medmol_diffusion.training.memory import keep_freed_memory
    from medmol_diffusion.training.saved import load_model

    chosen = device if device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    keep_freed_memory()
    try:
        return load_model(source).to(chosen)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {device} is not to be had here: {str(error).splitlines()[0]}") from error


def validate(options: argparse.Namespace) -> None:
    from medmol_diffusion.training.validation import (
        baseline_summary,
        bound_table,
        chosen,
        open_data,
        validate_baseline,
        validate_model,
    )

    model = _load(options.model, options.device)
    data, split = open_data(model, options.model, options.data, options.split, options.conditional)
    if options.method != "bound" and options.steps == 0:
        raise InputError(f"--steps 0 is the continuous-time bound; --method {options.method} needs at least 1")
    if options.map is not None and not isinstance(model, _molecule_model()):
        raise InputError("--map writes the scores of atoms: it is for molecules, medmol detect for scans")
    with Bar(options.method, len(chosen(data, split, options.limit)), transient=True) as bar:
        bound = validate_model(
            model,
            data,
            split,
            options.steps,
            options.draws,
            options.seed,
            options.limit,
            lambda done, _: bar.reach(done),
            options.method,
            options.conditional,
        )
    baseline = validate_baseline(model, data, split, options.limit)
    console.print(bound_table(model, bound, baseline))
    beside = {} if baseline is None else {"baseline": baseline_summary(model, bound, baseline)}
    content = {
        "method": bound.method,
        "terms": bound.summary(),
        "settings": bound.settings,
        "examples": len(bound.total),
        **beside,
    }
    if bound.blocks:
        content["blocks"] = bound.block_summary()
    _write_json(options.json, content)
    if options.map is not None:
        from medmol_diffusion.molecules.atom_map import write_atom_map

        rows = chosen(data, split, options.limit)
        with Bar("map", len(rows), transient=True) as bar:
            batches = data.evaluation_dataloader(split, rows)  # type: ignore[attr-defined]
            write_atom_map(model, batches, options.map, options.seed, bar.reach)
        console.print(f"nats of every atom in [bold]{escape(options.map)}[/], in the field atom_nats")


def _molecule_model() -> type:
    from medmol_diffusion.molecules import MoleculeDiffusion

    return MoleculeDiffusion


def sample(options: argparse.Namespace) -> None:
    from medmol_diffusion.core import grid
    from medmol_diffusion.molecules import MoleculeDiffusion, write_sdf

    out = Path(options.output)
    model = _load(options.model, options.device)
    molecules = isinstance(model, MoleculeDiffusion)
    if molecules and out.suffix != ".sdf":
        raise InputError(f"-o {out}: molecules are written to one file that ends in .sdf")
    if not molecules and out.suffix:
        raise InputError(f"-o {out}: scans are written to a folder, one .nii.gz each")
    sampler = options.sampler or ("ancestral" if molecules else "dpm++2m")
    try:
        grid(model.schedule, options.steps, options.grid)
    except ValueError as error:
        raise InputError(f"--grid {options.grid}: {error}") from error
    settings: dict[str, Any] = {
        "steps": options.steps,
        "sampler": sampler,
        "spacing": options.grid,
        "seed": options.seed,
        "guide": _guide(options, model),
    }
    steering = _steering(options) | ({} if options.formula is None else {"formula": options.formula})
    if options.size is not None:
        steering["sizes"] = [options.size] * options.n
    if steering and not molecules:
        raise InputError("--property, --composition, --formula, --guidance and --size are for molecules")
    settings |= steering
    with Bar("sampling", options.n, transient=True) as bar:
        found = model.sample(options.n, progress=bar.reach, **settings)
    if molecules:
        write_sdf(found, out)
    else:
        out.mkdir(parents=True, exist_ok=True)
        for i, volume in enumerate(found):
            volume.write(out / f"sample-{i:04d}.nii.gz")
    console.print(f"{len(found)} {'molecules' if molecules else 'scans'} in [bold]{escape(str(out))}[/]")


def _steering(options: argparse.Namespace) -> dict[str, Any]:
    """What molecules are asked to be, by the names of MoleculeDiffusion.sample; what is not asked is left out."""
    asked: dict[str, float] = {}
    for text in options.property or ():
        name, _, value = text.partition("=")
        try:
            asked[name.strip()] = float(value)
        except ValueError:
            raise InputError(f"--property {text}: write NAME=VALUE, qed=0.8 for example") from None
    found: dict[str, Any] = {"properties": asked, "composition": options.composition}
    if options.guidance != 1:
        found["guidance"] = options.guidance
    if options.interval is not None:
        found["interval"] = tuple(options.interval)
    return {name: value for name, value in found.items() if value}


def _guide(options: argparse.Namespace, model: Any) -> Any:
    """Away from the model of --worse, if there is one."""
    if options.worse is None:
        if options.away is not None:
            raise InputError("--away says how far to go from a worse model: name it by --worse MODEL")
        return None
    scale = 2.0 if options.away is None else options.away
    return model.away_from(_load(options.worse, options.device), scale, name=f"--worse {options.worse}")


def _molecules_model(options: argparse.Namespace) -> Any:
    """The model, if it makes molecules and -o can hold them."""
    if Path(options.output).suffix != ".sdf":
        raise InputError(f"-o {options.output}: molecules are written to one file that ends in .sdf")
    model = _load(options.model, options.device)
    if not isinstance(model, _molecule_model()):
        raise InputError(f"{options.model} makes scans: medmol {options.verb} is for molecules")
    return model


def inpaint(options: argparse.Namespace) -> None:
    from medmol_diffusion.molecules import write_sdf
    from medmol_diffusion.molecules.fragment import joined, kept_atoms

    model, molecules = _molecules_model(options), _readable(Path(options.molecules))
    if options.link:
        molecules = [joined(molecules)]
    fixed = [kept_atoms(molecule, options.fixed, options.fixed_smarts, options.free) for molecule in molecules]
    molecules, fixed = ([item for item in items for _ in range(options.n)] for items in (molecules, fixed))
    sizes = {"drawn": "drawn", "own": None}.get(options.size, options.size)
    with Bar("inpainting", len(molecules), transient=True) as bar:
        found = model.inpaint(
            molecules,
            fixed,
            [int(sizes)] * len(molecules) if isinstance(sizes, int) else sizes,
            options.steps,
            options.sampler,
            options.seed,
            options.resamples,
            options.jump,
            options.grid,
            progress=bar.reach,
            guide=_guide(options, model),
            **_steering(options),
        )
    write_sdf(found, options.output)
    console.print(
        f"{len(found)} molecules in [bold]{escape(options.output)}[/]: first the fixed atoms in the order of the file, "
        "then the new ones"
    )


def vary(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from medmol_diffusion.molecules import write_sdf
    from medmol_diffusion.molecules.optimise import optimise

    model, molecules = _molecules_model(options), _readable(Path(options.molecules))
    settings = {"steps": options.steps, "sampler": options.sampler, "spacing": options.grid, **_steering(options)}
    settings["guide"] = _guide(options, model)
    if options.objective is None:
        molecules = [molecule for molecule in molecules for _ in range(options.n)]
        with Bar("varying", len(molecules), transient=True) as bar:
            found = model.vary(molecules, options.strength, seed=options.seed, progress=bar.reach, **settings)
    else:
        with Bar("rounds", options.rounds, transient=True) as bar:
            best = optimise(
                model,
                molecules,
                options.objective,
                options.rounds,
                options.n,
                strength=options.strength,
                minimise=options.minimise,
                seed=options.seed,
                progress=bar.reach,
                **settings,
            )
        table = Table("molecule", f"{options.objective} of the seed", "reached", "similarity to the seed", "rounds")
        found = []
        for one in best:
            figures: dict[str, float | str] = {
                "seed_score": one.seed_score,
                options.objective: one.score,
                "similarity": one.similarity,
            }
            found.append(replace(one.molecule, properties=figures))
            row = (f"{one.seed_score:.4g}", f"{one.score:.4g}", f"{one.similarity:.2f}", str(one.rounds))
            table.add_row(escape(one.molecule.name), *row)
        console.print(table)
    write_sdf(found, options.output)
    console.print(f"{len(found)} molecules in [bold]{escape(options.output)}[/]")


def score(options: argparse.Namespace) -> None:
    path = Path(options.path)
    if not path.is_dir():
        _score_molecules(path, options)
        return
    from medmol_diffusion.mri.metrics import score_volumes
    from medmol_diffusion.mri.volume import read_folder

    if options.reference is None:
        raise InputError("scans are scored against real ones: give --reference FOLDER")
    if options.full or options.html or options.protocol:
        raise InputError("--full, --html and --protocol are for molecules: leave them out for a folder of scans")
    scores = score_volumes(read_folder(path), read_folder(options.reference), seed=options.seed)
    _show(str(path), ("score", "value", "95 % interval", "n"), scores.rows())
    _write_json(options.json, scores.to_dict())


def _score_molecules(path: Path, options: argparse.Namespace) -> None:
    from medmol_diffusion.molecules.judge.score_report import LIMIT, full_tables, rules_table
    from medmol_diffusion.score_page import write_score_page

    molecules = _readable(path)
    reference = None if options.reference is None else _readable(Path(options.reference))
    bonded = all(molecule.bonds is not None for molecule in [*molecules, *(reference or [])])
    # rule 1 is what everybody reports; what asks for chemistry goes by the file's own bonds where there are any
    protocol: Protocol = options.protocol or ("bonds" if options.full and bonded else "distances")
    workers = min(2, os.cpu_count() or 1)
    protocols: list[Protocol] = (
        ["distances", "bonds"] if options.full and bonded and not options.protocol else [protocol]
    )
    tables = {one: [rules_table(molecules, reference, one, options.seed, workers)] for one in protocols}
    if options.full:
        limit = options.limit or LIMIT
        tables[protocol] += full_tables(molecules, reference, protocol, _stage, limit, options.seed, workers)
    for one in (one for group in tables.values() for one in group):
        _show(f"{path}: {one.title}", one.header, one.rows, one.meaning if options.full else None)
    if not options.full:
        console.print("Distances from a reference, strain, PoseBusters, drug-likeness and diversity: [bold]--full[/]")
    _write_json(options.json, {name: {one.key: one.data for one in group} for name, group in tables.items()})
    if options.html is not None:
        every = [one for group in tables.values() for one in group]
        page = write_score_page(Path(options.html), path.name, molecules, reference, every, protocol, options.seed)
        console.print(f"open [bold]{escape(str(page))}[/]")


@contextmanager
def _stage(title: str, total: int) -> Iterator[Callable[[int], None]]:
    with Bar(title, total, transient=True) as bar:
        yield bar.reach


def _show(title: str, header: Sequence[str], rows: Iterable[Sequence[str]], caption: str | None = None) -> None:
    table = Table(*header, title=escape(title), caption=caption, caption_justify="left")
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def _readable(path: Path) -> list[Any]:
    """The molecules of a file; the records that cannot be read are listed and counted."""
    from medmol_diffusion.molecules import read_molecules

    molecules, bad = read_molecules(path)
    if not molecules:
        raise InputError(f"{path}: none of its {len(bad)} records can be read; the first: {bad[0].reason}")
    for record in bad[:10]:
        console.print(f"[yellow]skipped[/] {escape(str(path))}: {escape(str(record))}")
    if bad:
        console.print(f"[yellow]{len(bad)} of {len(bad) + len(molecules)} records could not be read[/]")
    return molecules


def split(options: argparse.Namespace) -> None:
    from medmol_diffusion.molecules import MoleculeData

    data = MoleculeData(
        options.path,
        group_by=options.group_by,
        validation=options.validation,
        test=options.test,
        split_seed=options.seed,
    )
    data.setup()
    data.write_split(options.output)
    sizes = f"{len(data.train)} to train, {len(data.validation)} to validate, {len(data.test)} to test"
    console.print(f"{sizes}, in [bold]{escape(options.output)}[/]: use it by --data.split_file")


def detect(options: argparse.Namespace) -> None:
    from medmol_diffusion.mri.anomaly import AnomalyDetector
    from medmol_diffusion.mri.evaluation import evaluate
    from medmol_diffusion.mri.picture import detection_sheet
    from medmol_diffusion.mri.volume import Volume, find_scans, read_scans, stem

    out = Path(options.output)
    files = [Path(scan) for scan in options.scans]
    names = [stem(file) for file in files]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(
            f"several scans are called {twice[0]}, and their results would lie in one file: give them apart"
        )
    detector = AnomalyDetector(_load(options.model, options.device), options.method, options.seed)
    masks = None if options.masks is None else Path(options.masks)
    if options.healthy:
        detector.calibrate(find_scans(options.healthy))
    found, done, truth = [], [], []
    with Bar(options.method, len(options.scans), transient=True) as bar:
        for file, volume in read_scans(files):
            mask = None if masks is None else Volume.read(masks / file.name, constant=True)
            truth += [] if mask is None else [mask]
            detection = detector.detect(volume)
            out.mkdir(parents=True, exist_ok=True)
            detection.map.write(out / f"{stem(file)}_anomaly.nii.gz")
            detection.restored.write(out / f"{stem(file)}_restored.nii.gz")
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
        table = Table("figure", "value", "95 % interval", "note", title=f"against {len(truth)} masks")
        for row in evaluation.rows():
            table.add_row(*row)
        console.print(table)
        summary["evaluation"] = evaluation.to_dict()
    _write_json(options.json or out / "detect.json", summary)
    console.print(f"maps, restored scans and pictures in [bold]{escape(str(out))}[/]")


def export(options: argparse.Namespace) -> None:
    from medmol_diffusion.training.saved import export_model

    console.print(f"exported to [bold]{export_model(options.run_folder, options.output)}[/]")


def models(options: argparse.Namespace) -> None:
    from medmol_diffusion.pretrained import scores, shipped

    if not shipped():
        console.print("no model ships with this version")
    for name, folder in shipped().items():
        table = Table("figure", "measured", title=escape(name))
        for row in scores(name).items():
            table.add_row(*(escape(cell) for cell in row))
        console.print(table)
        console.print(f"its card: {escape(str(folder / 'card.md'))}", soft_wrap=True)


def demo(options: argparse.Namespace) -> None:
    from medmol_diffusion.demo import run_demo

    console.print(f"open [bold]{run_demo(Path(options.output))}[/]")


def _write_json(path: str | Path | None, content: Any) -> None:
    if path is not None:
        Path(path).write_text(json.dumps(_finite(content), indent=2, allow_nan=False) + "\n")


def _finite(content: Any) -> Any:
    """JSON has no NaN and no infinity: null stands for them."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{self.prog}: {message}")


def _there(text: str) -> str:
    """A path that exists: told while parsing, before torch is loaded."""
    if not Path(text).exists():
        raise argparse.ArgumentTypeError(f"{text} does not exist: check the path")
    return text


def _model_there(text: str) -> str:
    """The name of a model that there is."""
    from medmol_diffusion.training.folder import find_model

    try:
        find_model(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if (value := int(text)) < least:
            raise argparse.ArgumentTypeError(f"{value} must be at least {least}")
        return value

    return number


def _draws(text: str) -> int | str:
    if text == "exact":
        return text
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text}: give a number of draws, or exact")
    return _at_least(1)(text)


def _size(text: str) -> int | str:
    if text in ("drawn", "own"):
        return text
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text}: give a number of atoms, drawn or own")
    return _at_least(2)(text)


def _sampling(sub: argparse.ArgumentParser, default: str | None) -> None:
    sub.add_argument("--steps", type=_at_least(1), default=100, help="of the sampler (default 100)")
    said = f"default {default}" if default else "default: ancestral for molecules, dpm++2m for scans"
    sub.add_argument(
        "--sampler", choices=SAMPLERS, metavar="NAME", default=default, help=f"one of %(choices)s ({said})"
    )
    sub.add_argument(
        "--grid",
        choices=GRIDS,
        metavar="NAME",
        default="time",
        help="how the steps are spaced: one of %(choices)s (default time)",
    )
    sub.add_argument(
        "--worse",
        type=_model_there,
        metavar="MODEL",
        help="an earlier or smaller model of the same data, to move the samples away from (autoguidance)",
    )
    sub.add_argument("--away", type=float, metavar="W", help="how far: 1 is not at all (default 2)")


def _asking(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--property", action="append", metavar="NAME=VALUE", help="molecules: ask for it; may come several times"
    )
    sub.add_argument(
        "--composition", metavar="C7H10O2", help="molecules: ask for it, of a model that knows compositions"
    )
    sub.add_argument(
        "--guidance",
        type=float,
        default=1.0,
        help="scale of classifier-free guidance to it (default 1: none)",
    )
    sub.add_argument(
        "--interval", type=float, nargs=2, metavar=("LOW", "HIGH"), help="levels gamma inside which guidance holds"
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="medmol", description="Diffusion models for brain MRI and 3-D molecules, with a likelihood you can trust."
    )
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, about: str, run: Any, model: bool = False) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=about, description=about)
        sub.set_defaults(run=run)
        if model:
            sub.add_argument(
                "model", type=_model_there, metavar="MODEL", help="a run folder, an exported folder, or a shipped model"
            )
            sub.add_argument("--device", default="auto", help="cpu, cuda, ... (default: a GPU if there is one)")
            sub.add_argument("--seed", type=int, default=0, help="of the random streams (default 0)")
        return sub

    verb("fit", "train from a config: medmol fit --config FILE [--key value ...]; --ckpt_path last resumes", fit)

    sub = verb("validate", "the likelihood table: every term of -log p with its standard error", validate, model=True)
    sub.add_argument("--data", type=_there, metavar="PATH", help="data to validate on (default: the run's own)")
    sub.add_argument(
        "--split", choices=("all", "train", "validation", "test"), help="default: all of PATH, else the run's test part"
    )
    sub.add_argument(
        "--method",
        choices=("bound", "iwae", "flow"),
        default="bound",
        help="the bound (default), the importance-weighted bound, or the estimate by the probability flow",
    )
    sub.add_argument(
        "--steps",
        type=_at_least(0),
        help="T of the bound, 0 for continuous time (default: 1000 for molecules, 0 for scans); of iwae (default "
        "1000); steps of the flow (default 64)",
    )
    sub.add_argument(
        "--draws",
        type=_draws,
        metavar="N",
        help="per example (default: 4 for molecules, 16 for scans): noise draws of the bound, trajectories of iwae, "
        "probes of the flow; exact sums the bound over all T",
    )
    sub.add_argument(
        "--conditional", action="store_true", help="-log p given every example's own values of what the model knows"
    )
    sub.add_argument("--map", metavar="FILE.sdf", help="write the molecules there with the nats of every atom")
    sub.add_argument("--limit", type=_at_least(1), help="look at this many examples only, drawn at random")
    sub.add_argument("--json", metavar="FILE", help="write the figures there too")

    sub = verb(
        "sample", "generate molecules (-o FILE.sdf, with bonds) or scans (-o FOLDER of .nii.gz)", sample, model=True
    )
    sub.add_argument("-n", type=_at_least(1), default=100, help="how many (default 100)")
    sub.add_argument("-o", "--output", required=True, metavar="PATH")
    _sampling(sub, None)
    _asking(sub)
    sub.add_argument("--formula", metavar="C7H10O2", help="molecules: keep to it exactly, with any model")
    sub.add_argument("--size", type=_at_least(2), help="molecules: their number of atoms (default: drawn)")

    sub = verb("inpaint", "new molecules round fixed atoms: scaffolds decorated, linkers designed", inpaint, model=True)
    sub.add_argument(
        "molecules", type=_there, metavar="FILE", help="SDF or XYZ that holds the fixed atoms where they are to be"
    )
    sub.add_argument("-o", "--output", required=True, metavar="FILE.sdf")
    sub.add_argument("-n", type=_at_least(1), default=1, help="molecules for every record (default 1)")
    sub.add_argument("--fixed", metavar="1,2,5-9", help="the fixed atoms, counted from 1 (default: all of the record)")
    sub.add_argument("--fixed-smarts", metavar="PATTERN", help="the fixed atoms are those of every match")
    sub.add_argument("--free", metavar="1,2,5-9", help="all atoms are fixed but these")
    sub.add_argument(
        "--link", action="store_true", help="all records are fragments of one molecule, each where it lies"
    )
    sub.add_argument(
        "--size",
        type=_size,
        default="drawn",
        help="atoms of a result: a number, own (the record's) or drawn (default)",
    )
    sub.add_argument("--resamples", type=_at_least(1), default=5, help="rounds of RePaint (default 5)")
    sub.add_argument("--jump", type=_at_least(1), default=10, help="steps of a round (default 10)")
    _sampling(sub, "ancestral")
    _asking(sub)

    sub = verb("vary", "molecules like the given ones, by partial noise; better ones by --objective", vary, model=True)
    sub.add_argument("molecules", type=_there, metavar="FILE", help="SDF or XYZ of the seeds")
    sub.add_argument("-o", "--output", required=True, metavar="FILE.sdf")
    sub.add_argument(
        "-n", type=_at_least(1), default=4, help="variations of every molecule, in every round (default 4)"
    )
    sub.add_argument("--strength", type=float, default=0.3, help="0 to 1: how much is noised (default 0.3)")
    sub.add_argument("--objective", metavar="NAME", help="a ready property (qed, logp, ...) to be made large")
    sub.add_argument("--minimise", action="store_true", help="make it small instead")
    sub.add_argument("--rounds", type=_at_least(1), default=5, help="of variation and selection (default 5)")
    _sampling(sub, "ancestral")
    _asking(sub)

    sub = verb("score", "score anyone's molecules (.sdf .xyz .npz) or scans (a folder of NIfTI files)", score)
    sub.add_argument("path", type=_there, metavar="PATH")
    sub.add_argument(
        "--reference", type=_there, metavar="PATH", help="real molecules (for novelty), or a folder of real scans"
    )
    sub.add_argument(
        "--protocol",
        choices=("distances", "bonds"),
        help="of molecules: bonds from distances by rule 1 (default), or the file's own (default with --full, if any)",
    )
    sub.add_argument("--full", action="store_true", help="of molecules: every measure, minutes instead of seconds")
    sub.add_argument(
        "--limit", type=_at_least(1), help="how many, drawn at random, strain and PoseBusters look at (default 200)"
    )
    sub.add_argument("--html", metavar="FILE", help="of molecules: a page with tables, histograms and 3-D pictures")
    sub.add_argument("--seed", type=int, default=0, help="of the bootstrap and of what is drawn (default 0)")
    sub.add_argument("--json", metavar="FILE", help="write the figures there too")

    sub = verb("detect", "anomaly map and score of scans, in each scan's own space", detect, model=True)
    sub.add_argument("scans", nargs="+", metavar="SCAN")
    sub.add_argument("-o", "--output", required=True, metavar="FOLDER")
    sub.add_argument("--method", default="one_shot", help="one_shot, partial or smoothing (default one_shot)")
    sub.add_argument("--healthy", type=_there, metavar="FOLDER", help="healthy scans that fix the threshold")
    sub.add_argument(
        "--masks", type=_there, metavar="FOLDER", help="lesion masks named like the scans: they evaluate maps"
    )
    sub.add_argument("--json", metavar="FILE", help="write the figures there (default: FOLDER/detect.json)")

    sub = verb("split", "write which molecules are for training, validation and testing to a file", split)
    sub.add_argument("path", type=_there, metavar="DATA")
    sub.add_argument("-o", "--output", required=True, metavar="FILE.json")
    sub.add_argument("--validation", type=float, default=0.05, help="share of the molecules (default 0.05)")
    sub.add_argument("--test", type=float, default=0.05, help="share of the molecules (default 0.05)")
    sub.add_argument("--seed", type=int, default=0, help="of the permutation (default 0)")
    sub.add_argument("--group-by", metavar="NAME", help="keep together what is equal in a field, 'name' or 'scaffold'")

    sub = verb("export", "write a run as safetensors + config.yaml + card.md", export)
    sub.add_argument("run_folder", type=_model_there, metavar="RUN")
    sub.add_argument("-o", "--output", required=True, metavar="FOLDER")

    verb("models", "the models that ship with the package, with their measured scores", models)

    sub = verb("demo", "both domains on the embedded data, end to end, with report.html", demo)
    sub.add_argument("-o", "--output", default="demo", metavar="FOLDER", help="default: demo")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `medmol`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        warnings.showwarning = lambda message, *_, **__: _say("[yellow]warning:[/]", str(message))
        try:
            if given[:1] == ["fit"]:
                fit(given[1:])  # LightningCLI parses its own
            else:
                options = _parser().parse_args(given)
                options.run(options)
        except (InputError, OSError) as error:
            _say("[red]error:[/]", str(error))
            sys.exit(2)
        except KeyboardInterrupt as interrupt:
            _say("[yellow]interrupted[/]", str(interrupt))
            sys.exit(130)


def _say(title: str, message: str) -> None:
    Console(stderr=True, soft_wrap=True).print(f"{title} {escape(message)}", highlight=False)


if __name__ == "__main__":
    main()
