"""A conditional task by cross-validation over subjects, every person left out once:

    python -m tests.benchmarks.cross_validation CONFIG -o FOLDER --folds 5 --steps 2000 -- --data.path STUDY

Each fold trains by the config (what follows -- overrides its keys) on the subjects of the others and answers for its
own; the figures of all of them are pooled. The config's data must be files (VolumeData), its model one of a task. No
checkpoint is chosen by a fold's validation, there is none: the last one answers. Killed and started again with the same
arguments, it goes on: with the fold in hand from its last checkpoint, with the others as they stand in
FOLDER/fold-K/comparison.json.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import VolumeDiffusion
from medmol_diffusion.mri.data import VolumeData
from medmol_diffusion.mri.split import SubjectSplit
from medmol_diffusion.mri.tasks.comparison import HEADER, MEASURES, TABLES, Comparison, compare
from medmol_diffusion.training.fit import FitCLI, assemble, fit, quiet
from medmol_diffusion.training.saved import load_model
from medmol_diffusion.training.validation import open_data


def folds(subjects: Sequence[str], count: int, seed: int, without: Sequence[str] = ()) -> list[SubjectSplit]:
    """``count`` splits; every subject is in the test part of one, and in the training part of the others. Those of
    ``without`` are neither: they stand in the validation part, which nothing reads here.

    The order is that of the SHA-256 of seed and name, as in SubjectSplit.draw.

    Raises:
        InputError: fewer than two folds, fewer subjects than folds, or a subject left out that there is not.
    """
    if unknown := sorted(set(without) - set(subjects)):
        raise InputError(f"there is no subject {unknown[0]} to leave out: they are {', '.join(sorted(set(subjects)))}")
    kept = sorted(set(subjects) - set(without), key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).hexdigest())
    if not 2 <= count <= len(kept):
        raise InputError(f"{count} folds of {len(kept)} subjects: give between 2 and {len(kept)}")
    parts = [kept[k::count] for k in range(count)]
    return [SubjectSplit(sorted(set(kept) - set(part)), sorted(set(without)), sorted(part)) for part in parts]


def pooled(found: Sequence[Comparison]) -> Comparison:
    """The scans of all folds as of one; every answer must be there in each."""
    names = list(found[0].figures)
    figures = {name: np.concatenate([one.figures[name] for one in found]) for name in names}
    return Comparison(found[0].draws, [subject for one in found for subject in one.subjects], figures)


@dataclass(frozen=True)
class CrossValidation:
    """What is trained and how it is asked.

    Attributes:
        folder: where everything goes.
        arguments: of medmol fit, for every fold.
        minutes: of training for each fold at most; None for no limit.
        draws, steps, sampler, seed: as for `compare`.
    """

    folder: Path
    arguments: list[str]
    minutes: float | None
    draws: int
    steps: int
    sampler: str
    seed: int

    def subjects(self) -> list[str]:
        with quiet():
            data = assemble(FitCLI, [*self.arguments, f"--trainer.default_root_dir={self.folder / 'none'}"]).datamodule
        if not isinstance(data, VolumeData):
            raise InputError("cross-validation is over files: set data.class_path to VolumeData")
        return data.subjects()

    def train(self, split: SubjectSplit, folder: Path) -> Path:
        """The run folder; one that is done is left as it is."""
        run, done = folder / "run", folder / "trained"
        if done.is_file():
            return run
        split.write(folder / "split.json")
        more = [f"--trainer.default_root_dir={run}", f"--data.split_file={folder / 'split.json'}"]
        more += ["--trainer.limit_val_batches=0"]
        if self.minutes is not None:  # the time of a run that goes on counts what it took before
            seconds = round(60 * self.minutes)
            more.append(
                f"--trainer.max_time={seconds // 86400:02d}:{seconds // 3600 % 24:02d}"
                f":{seconds // 60 % 60:02d}:{seconds % 60:02d}"
            )
        if (run / "checkpoints" / "last.ckpt").is_file():
            more.append("--ckpt_path=last")
        fit([*self.arguments, *more])
        done.touch()
        return run

    def answer(self, run: Path, file: Path) -> Comparison:
        """Of the fold's own subjects; read from ``file`` where all measures stand there already."""
        if not answered(file):
            model = load_model(str(run))
            if not isinstance(model, VolumeDiffusion):
                raise InputError("the config's model is not one of scans")
            data, split = open_data(model, str(run), None, "test")
            found = compare(model, data, split, self.draws, self.steps, self.sampler, self.seed)
            write(file, found.to_dict())
        content = json.loads(file.read_text())
        figures = {name: np.array(rows) for name, rows in content["scans"].items()}
        return Comparison(content["draws"], content["subjects"], figures)


def answered(file: Path) -> bool:
    """Whether a fold's figures stand there, of every measure there is."""
    return file.is_file() and all(set(one) == set(MEASURES) for one in json.loads(file.read_text())["answers"].values())


def write(file: Path, content: Any) -> None:
    """JSON that appears whole or not at all."""
    temporary = file.with_name(f".{file.name}.tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(file)


def same_as_before(file: Path, settings: dict[str, Any]) -> None:
    """Note what an experiment is, or hold it against what was noted.

    Raises:
        InputError: the folder is of another experiment.
    """
    if file.is_file():
        if changed := [key for key, value in json.loads(file.read_text()).items() if settings.get(key) != value]:
            raise InputError(
                f"{file.parent} is of another experiment ({', '.join(changed)} changed): name a new folder"
            )
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    write(file, settings)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="overrides of its keys, as for medmol fit, follow after --")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--leave-out", nargs="+", default=[], metavar="SUBJECT", help="from training and testing")
    parser.add_argument("--steps", type=int, default=2000, help="of training in each fold")
    parser.add_argument("--minutes", type=float, help="of training in each fold at most")
    parser.add_argument("-n", type=int, default=4, help="draws for each scan")
    parser.add_argument("--sampler", default="dpm++2m")
    parser.add_argument("--sampler-steps", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the folds and the draws")
    parser.add_argument("--json", type=Path, help="write the pooled figures there too, of every scan")
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    options, overrides = parser.parse_args(sys.argv[1:cut]), sys.argv[cut + 1 :]
    settings = {key: value for key, value in vars(options).items() if key not in ("output", "json", "config")} | {
        "overrides": overrides,
        "config": Path(options.config).read_text(),
    }
    same_as_before(options.output / "settings.json", settings)
    length = [f"--trainer.max_steps={options.steps}", f"--model.decay_steps={options.steps}"]
    experiment = CrossValidation(
        options.output,
        ["--config", options.config, *overrides, *length],
        options.minutes,
        options.n,
        options.sampler_steps,
        options.sampler,
        options.seed,
    )
    found = []
    for k, split in enumerate(folds(experiment.subjects(), options.folds, options.seed, options.leave_out)):
        folder = options.output / f"fold-{k}"
        folder.mkdir(exist_ok=True)
        found.append(experiment.answer(experiment.train(split, folder), folder / "comparison.json"))
        print(f"fold {k}: {', '.join(split.test)}", flush=True)
    together = pooled(found)
    for where, measures in TABLES.items():
        table = Table(
            *HEADER,
            title=f"{options.folds} folds, {len(set(together.subjects))} subjects, {where}",
            caption="means over subjects; gains are paired, with the 95 % interval of a bootstrap over subjects",
        )
        for row in together.rows(measures):
            table.add_row(*row)
        Console(width=160).print(table)
    if options.json:
        write(options.json, settings | together.to_dict())


if __name__ == "__main__":
    main()
