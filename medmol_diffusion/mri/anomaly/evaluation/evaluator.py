"""Evaluator: methods on scans with known lesions, by a protocol in which no threshold sees what it is tested on."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

from medmol_diffusion.judging.table import Stage, silent
from medmol_diffusion.mri.anomaly.detector import AnomalyDetector, Detection, Unserved
from medmol_diffusion.mri.anomaly.evaluation.case import Case, check_apart
from medmol_diffusion.mri.anomaly.evaluation.cost import Cost, Meter
from medmol_diffusion.mri.anomaly.evaluation.figures import Figures
from medmol_diffusion.mri.anomaly.evaluation.lesions import OVERLAP
from medmol_diffusion.mri.anomaly.evaluation.subject import Measured
from medmol_diffusion.mri.anomaly.method import Method
from medmol_diffusion.mri.anomaly.registry import METHODS
from medmol_diffusion.mri.anomaly.setting import Setting
from medmol_diffusion.mri.volume import Volume

BASELINES = ("intensity", "smoothing", "zscore", "pca", "autoencoder")
"""What every method has to beat; those that are in METHODS stand in every table."""
Seen = Callable[[str, Case, Detection], None]
"""What is told of every answer: the method's name, the scan, the answer."""


@dataclass(frozen=True)
class Evaluation:
    """What came out of one method.

    Attributes:
        name: of the method.
        figures: what it is worth.
        cost: what it takes.
        threshold: of its maps, from the healthy scans alone; None where each map has one of its own.
    """

    name: str
    figures: Figures
    cost: Cost
    threshold: float | None

    @property
    def baseline(self) -> bool:
        return self.name in BASELINES


class Evaluator:
    """Healthy scans that methods learn from, and other subjects' scans that they are tested on.

    Thresholds, z-scores and percentiles come from the healthy set alone: a method is fitted to it before it is shown
    the first scan of the test, and nothing is fitted after. The one figure that looks at the truth for its threshold is
    the best possible Dice, which is called so.

    Args:
        setting: the model, and what it is told that healthy is.
        healthy: scans without lesions.
        test: scans with true masks; those without lesions are where false alarms are counted, and what the AUROC of
            subjects tells the sick from.
        quantile: of the healthy scans' voxels, which is the threshold.
        overlap: the share of a lesion that must be exceeded for it to be found.
        draws, seed: of the bootstrap over subjects; all methods have the same draws.
        trained: the subjects that the model was trained on, as far as they are known (part.trained_subjects).

    Raises:
        InputError: a set is empty, a subject is in both, a healthy scan has a lesion, or the model was trained on a
            subject of the test.
    """

    def __init__(
        self,
        setting: Setting,
        healthy: Sequence[Case],
        test: Sequence[Case],
        quantile: float = 0.99,
        overlap: float = OVERLAP,
        draws: int = 200,
        seed: int = 0,
        trained: Iterable[str] = (),
    ) -> None:
        check_apart(healthy, test, trained)
        self.setting, self.healthy, self.test = setting, list(healthy), list(test)
        self.quantile, self.overlap, self.draws, self.seed = quantile, overlap, draws, seed

    def evaluate(
        self,
        method: str | Method,
        name: str | None = None,
        seen: Seen | None = None,
        reach: Callable[[int], None] | None = None,
    ) -> Evaluation:
        """One method: fitted to the healthy scans, then shown the others.

        Args:
            method: a name in METHODS, or a Method.
            name: what it is called; its own when left out.
            seen: is told of every answer.
            reach: is told how many scans are done.

        Raises:
            Unserved: the method needs what the model is not.
            InputError: no scan has a lesion inside its mask.
        """
        setting = self.setting
        detector = AnomalyDetector(
            setting.model, method, setting.seed, setting.healthy, setting.guidance, setting.autoencoder
        )
        detector.name = name or detector.name

        def read(case: Case) -> dict[str, Volume]:  # other models read other contrasts of the same cases
            return {name: case.images[name] for name in detector.sources if name in case.images}

        began = perf_counter()
        detector.fit(
            [case.scan for case in self.healthy],
            self.quantile,
            [case.brain for case in self.healthy],
            [read(case) for case in self.healthy],
            [case.subject for case in self.healthy],
        )
        fit_seconds = perf_counter() - began
        meter, measured = Meter(setting.model.network, setting.model.device), []
        for place, case in enumerate(self.test, start=1):
            with meter:
                found = detector.detect(case.scan, case.brain, read(case))
            measured.append(Measured.of(case, found, self.overlap))
            if seen is not None:
                seen(detector.name, case, found)
            if reach is not None:
                reach(place)
        figures = Figures.of(measured, self.draws, self.seed)
        return Evaluation(detector.name, figures, meter.cost(fit_seconds), detector.threshold)

    def run(
        self, methods: Iterable[str] | Mapping[str, Method], seen: Seen | None = None, stage: Stage = silent
    ) -> tuple[list[Evaluation], dict[str, str]]:
        """Several methods, and every baseline there is beside them; and those that the model cannot serve, each with
        the reason.

        Args:
            methods: names in METHODS, or name -> Method.
            seen: is told of every answer.
            stage: makes the bar of each method.
        """
        chosen = dict(methods) if isinstance(methods, Mapping) else {name: name for name in methods}
        chosen |= {name: name for name in BASELINES if name in METHODS and name not in chosen}
        found, left_out = [], {}
        for name, method in chosen.items():
            try:
                with stage(name, len(self.test)) as reach:
                    found.append(self.evaluate(method, name, seen, reach))
            except Unserved as error:
                left_out[name] = str(error)
        return found, left_out
