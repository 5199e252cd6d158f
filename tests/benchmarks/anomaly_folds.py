"""Anomaly methods by cross-validation over subjects: every person is left out once.

    python -m tests.benchmarks.anomaly_folds CONFIG --data scans --folder HEADS --scans "*_FLAIR.nii.gz" --brains GLOB \
        --masks "*_WMH*.nii.gz" -o FOLDER --folds 5 --steps 2000 -- --data.exclude "*_WMH*.nii.gz"
    python -m tests.benchmarks.anomaly_folds CONFIG --data planted --folder HEADS --brains GLOB -o FOLDER ...

Each fold trains a model by the config (what follows -- overrides its keys; data.path is --folder) on the subjects of
the others but a few, fits every method on those few, and tests it on its own subjects: planted with lesions, or as they
are. Of scans with lesions, data.exclude leaves those voxels out of training, and methods learn from the voxels well
away from them. All folds' subjects are pooled: a map is held against the threshold of its own fold. --own
autoencoder=configs/mri/autoencoder.yaml trains a model of that method's own in each fold, on the same scans. Killed and
started again with the same arguments, it goes on training where it was, then at the next method. Writes what
tests.benchmarks.anomaly writes.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import METHODS
from medmol_diffusion.mri.anomaly import Detection
from medmol_diffusion.mri.anomaly.evaluation import Case, Cost, Evaluation, Evaluator, Figures, Measured
from medmol_diffusion.mri.part import trained_subjects
from medmol_diffusion.mri.split import SubjectSplit
from medmol_diffusion.training.saved import load_model
from tests.benchmarks.anomaly import (
    add_heads,
    add_protocol,
    curves_of,
    deciding,
    evaluator_of,
    heads_of,
    images_of,
    sets_of,
    setting_of,
    write,
)
from tests.benchmarks.anomaly_curves import Curves
from tests.benchmarks.anomaly_kept import one_by_one, with_baselines
from tests.benchmarks.anomaly_own import add_own, models_of, own_config, own_setting
from tests.benchmarks.anomaly_sets import Sets
from tests.benchmarks.cross_validation import CrossValidation, folds, same_as_before


def with_validation(splits: Sequence[SubjectSplit], count: int) -> list[SubjectSplit]:
    """The same; of each training part, the first ``count`` of the next fold's own subjects are for validation.

    Raises:
        InputError: so many that nobody is left to train on, or none.
    """
    out = []
    for k, split in enumerate(splits):
        others = [name for step in range(1, len(splits)) for name in splits[(k + step) % len(splits)].test]
        if not 1 <= count < len(others):
            raise InputError(
                f"{count} of {len(others)} subjects to fit methods on: give between 1 and {len(others) - 1}"
            )
        out.append(SubjectSplit(sorted(others[count:]), sorted([*split.validation, *others[:count]]), split.test))
    return out


@dataclass(frozen=True)
class Fold:
    """A trained fold.

    Attributes:
        run: its model. own: method -> the model of that method's own.
        split: who was for what.
        sets: what methods are fitted on and what they are tested on.
    """

    run: Path
    own: dict[str, str]
    split: SubjectSplit
    sets: Sets

    def evaluator(self, options: argparse.Namespace, method: str) -> Evaluator:
        """Of one method: by its own model, or by the fold's."""
        setting = setting_of(options, load_model(self.run))
        trained = list(self.split.train)
        if method in self.own:
            setting = own_setting(setting, self.own[method], options.own_covariate)
            trained += trained_subjects(self.own[method])
        return evaluator_of(options, setting, self.sets, trained)


def pooled(name: str, evaluators: Iterable[Evaluator], curves: Curves) -> Evaluation:
    """One method on all folds as on one test; cost and threshold are means over folds, memory the most."""
    measured: list[Measured] = []
    parts: list[Evaluation] = []
    for by in evaluators:

        def seen(method: str, case: Case, found: Detection, overlap: float = by.overlap) -> None:
            curves.seen(method, case, found)
            measured.append(Measured.of(case, found, overlap))

        parts.append(by.evaluate(name, seen=seen))
    costs = [one.cost for one in parts]
    calls, seconds, fit = (
        float(np.mean([getattr(cost, what) for cost in costs])) for what in ("calls", "seconds", "fit_seconds")
    )
    cost = Cost(calls, seconds, max(cost.memory for cost in costs), fit)
    thresholds = [one.threshold for one in parts if one.threshold is not None]
    figures = Figures.of(measured, curves.draws, curves.seed)
    return Evaluation(name, figures, cost, float(np.mean(thresholds)) if thresholds else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="overrides of its keys, as for medmol fit, follow after --")
    parser.add_argument("--data", choices=("planted", "scans"), required=True)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--validation", type=int, default=3, help="subjects of each fold that methods are fitted on")
    parser.add_argument("--leave-out", nargs="+", default=[], metavar="SUBJECT")
    parser.add_argument("--steps", type=int, default=2000, help="of training in each fold")
    parser.add_argument("--minutes", type=float, help="of training in each fold at most")
    add_heads(parser)
    add_protocol(parser)
    add_own(parser)
    parser.add_argument("--own-steps", type=int, help="of training for a config of --own; as many as --steps without")
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    options, overrides = parser.parse_args(sys.argv[1:cut]), sys.argv[cut + 1 :]
    if options.folder is None:
        raise InputError("cross-validation is over the subjects of a folder: name it by --folder")
    settings = {
        "folds": options.folds,
        "validation": options.validation,
        "leave_out": options.leave_out,
        "steps": options.steps,
        "minutes": options.minutes,
        "seed": options.seed,
        "overrides": overrides,
        "config": Path(options.config).read_text(),
    }
    same_as_before(options.output / "settings.json", settings)
    length = [f"--trainer.max_steps={options.steps}", f"--model.decay_steps={options.steps}"]
    arguments = ["--config", options.config, f"--data.path={options.folder}", *overrides, *length]
    training = CrossValidation(options.output, arguments, options.minutes, 0, 0, "", options.seed)
    splits = folds(training.subjects(), options.folds, options.seed, options.leave_out)
    own, trained = models_of(options.own), []
    for k, split in enumerate(with_validation(splits, options.validation)):
        folder = options.output / f"fold-{k}"
        folder.mkdir(exist_ok=True)
        run = training.train(split, folder)
        models = {name: own_model(options, path, run, split, folder / name) for name, path in own.items()}
        fitted_on = [name for name in split.validation if name not in options.leave_out]
        upper = setting_of(options, load_model(run)).model.grid.upper
        sets = sets_of(options, heads_of(options, fitted_on), heads_of(options, split.test), upper)
        trained.append(Fold(run, models, split, sets))
        print(f"fold {k}: {', '.join(split.test)}", flush=True)
    healthy, test, groups = (
        [one for fold in trained for one in getattr(fold.sets, what)] for what in ("healthy", "test", "groups")
    )
    every = Sets(healthy, test, groups)
    by = trained[0].evaluator(options, "")
    curves = curves_of(options, every, by.overlap)
    found, left_out = one_by_one(
        with_baselines([*(options.methods or METHODS), *own]),
        options.output,
        lambda name: deciding(options) | {"own": own.get(name, ""), "overrides": overrides},
        lambda name: pooled(name, (fold.evaluator(options, name) for fold in trained), curves),
        curves,
    )
    by.test, by.healthy = every.test, every.healthy  # for the words and the counts of all folds; none of it is run
    write(options, found, left_out, by, curves)


def own_model(options: argparse.Namespace, path: str, run: Path, split: SubjectSplit, folder: Path) -> str:
    """A model of a method's own: as given, or trained by a config on the fold's scans."""
    if not path.endswith(".yaml"):
        return path
    steps = options.own_steps or options.steps
    config = own_config(Path(path), run, folder / "config.yaml", images_of(options))
    arguments = ["--config", str(config), f"--trainer.max_steps={steps}", f"--model.decay_steps={steps}"]
    return str(CrossValidation(folder, arguments, options.minutes, 0, 0, "", options.seed).train(split, folder))


if __name__ == "__main__":
    main()
