"""Anomaly methods by cross-validation over subjects: every person is left out once.

    python -m tests.benchmarks.anomaly_folds CONFIG --data scans --folder HEADS --scans "*_FLAIR.nii.gz" --brains GLOB \
        --masks "*_WMH*.nii.gz" -o FOLDER --folds 5 --steps 2000 -- --data.exclude "*_WMH*.nii.gz"
    python -m tests.benchmarks.anomaly_folds CONFIG --data planted --folder HEADS --brains GLOB -o FOLDER ...

Each fold trains a model by the config (what follows -- overrides its keys; data.path is --folder) on the subjects of
the others but a few, fits every method on those few, and tests it on its own subjects: planted with lesions, or as they
are. Of scans with lesions, data.exclude leaves those voxels out of training, and methods learn from the voxels well
away from them. All folds' subjects are pooled: a map is held against the threshold of its own fold. Killed and started
again with the same arguments, it goes on training where it was; methods are run anew. Writes what
tests.benchmarks.anomaly writes.
"""

import argparse
import copy
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import METHODS
from medmol_diffusion.mri.anomaly.evaluation import Cost, Evaluation, Evaluator, Figures, Measured
from medmol_diffusion.mri.split import SubjectSplit
from medmol_diffusion.training.saved import load_model
from tests.benchmarks.anomaly import add_heads, add_protocol, curves_of, heads_of, sets_of, setting_of, write
from tests.benchmarks.anomaly_curves import Curves
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


class Pool:
    """What all folds found, method by method."""

    def __init__(self, overlap: float) -> None:
        self.overlap = overlap
        self.measured: dict[str, list[Measured]] = {}
        self.evaluations: dict[str, list[Evaluation]] = {}

    def fold(self, by: Evaluator, methods: Sequence[str], curves: Curves) -> dict[str, str]:
        """Run the methods on a fold; those left out, with the reason."""

        def seen(method: str, case, found) -> None:  # type: ignore[no-untyped-def]
            curves.seen(method, case, found)
            self.measured.setdefault(method, []).append(Measured.of(case, found, self.overlap))

        found, left_out = by.run(methods, seen)
        for one in found:
            self.evaluations.setdefault(one.name, []).append(one)
        return left_out

    def together(self, draws: int, seed: int) -> list[Evaluation]:
        """One evaluation for each method; costs and thresholds are means over folds, memory the most."""
        out = []
        for name, parts in self.evaluations.items():
            costs = [one.cost for one in parts]
            calls, seconds, fit = (
                float(np.mean([getattr(cost, what) for cost in costs])) for what in ("calls", "seconds", "fit_seconds")
            )
            cost = Cost(calls, seconds, max(cost.memory for cost in costs), fit)
            threshold = float(np.mean([one.threshold for one in parts]))
            out.append(Evaluation(name, Figures.of(self.measured[name], draws, seed), cost, threshold))
        return out


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
    pool, every, test, healthy = None, Sets([], [], []), [], []
    for k, split in enumerate(with_validation(splits, options.validation)):
        folder = options.output / f"fold-{k}"
        folder.mkdir(exist_ok=True)
        setting = setting_of(options, load_model(str(training.train(split, folder))))
        fitted_on = [name for name in split.validation if name not in options.leave_out]
        sets = sets_of(options, heads_of(options, fitted_on), heads_of(options, split.test), setting.model.grid.upper)
        by = Evaluator(setting, sets.healthy, sets.test, options.quantile, draws=options.draws, seed=options.seed)
        if pool is None:
            pool, curves = Pool(by.overlap), curves_of(options, every, by.overlap)
        curves.groups = {**curves.groups, **curves_of(options, sets, by.overlap).groups}
        left_out = pool.fold(by, options.methods or list(METHODS), curves)
        test, healthy = [*test, *sets.test], [*healthy, *sets.healthy]
        print(f"fold {k}: {', '.join(split.test)}", flush=True)
    assert pool is not None
    whole = copy.copy(by)  # for the words and the counts of all folds; none of it is run
    whole.test, whole.healthy = test, healthy
    write(options, pool.together(options.draws, options.seed), left_out, whole, curves)


if __name__ == "__main__":
    main()
