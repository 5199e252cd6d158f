"""AnomalyDetector: a model and a method, for scans of any size and orientation."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly.ensemble import Ensemble
from medmol_diffusion.mri.anomaly.exam import Exam
from medmol_diffusion.mri.anomaly.method import Method
from medmol_diffusion.mri.anomaly.registry import method_named
from medmol_diffusion.mri.anomaly.setting import Setting
from medmol_diffusion.mri.autoencoder import Autoencoder
from medmol_diffusion.mri.batch import VolumeBatch
from medmol_diffusion.mri.covariates import Value
from medmol_diffusion.mri.model import VolumeDiffusion
from medmol_diffusion.mri.tasks.translation import Translation
from medmol_diffusion.mri.transforms import Prepared, foreground_mask
from medmol_diffusion.mri.volume import Volume

FOLDS = 5
"""Turns in which a method that learns is calibrated."""
Scan = Volume | str | Path
"""A scan or its file."""
Images = Mapping[str, Volume]
"""Name -> another scan of the same head, of another contrast."""


class Unserved(InputError):
    """The method asks for something that the model is not, or has not been given: other methods may do."""


@dataclass(frozen=True)
class Detection:
    """What a detector says of one scan; every volume lies on the scan's own grid.

    Attributes:
        scan: the scan, in its own units.
        map: anomaly of every voxel; of the methods whose residual is l1 in the model's units (the range of intensities
            is 2). 0 outside of what is looked at.
        restored: the healthy version, in the scan's own units.
        inside: bool, the voxels that are looked at.
        score: of the whole scan.
        percentile: share of the healthy scans with a lower score, in percent; None before ``fit``.
        threshold: of the map, from the healthy scans, and then None before ``fit``; or of the map's own.
    """

    scan: Volume
    map: Volume
    restored: Volume
    inside: np.ndarray
    score: float
    percentile: float | None = None
    threshold: float | None = None

    @property
    def flagged(self) -> np.ndarray:
        """bool, the voxels that are looked at and whose anomaly is above the threshold.

        Raises:
            InputError: there is no threshold yet.
        """
        if self.threshold is None:
            raise InputError("what is abnormal needs a threshold, which healthy scans give: call fit first")
        return (self.map.data > self.threshold) & self.inside

    def to_mask(self) -> Volume:
        """``flagged`` as a mask of 0 and 1 on the scan's own grid."""
        return replace(self.map, data=self.flagged)

    def to_nifti(self) -> object:
        """The map as a nibabel image."""
        return self.map.to_nifti()


class AnomalyDetector:
    """A model and a method.

    Args:
        model: trained on healthy scans, or on scans of all kinds that it can be asked for.
        method: a name in METHODS, a Method, or an Ensemble of several.
        seed: of the noise.
        healthy: of a model of covariates, what the healthy version of a scan is asked to be: {"lesion_load": 0}.
        guidance: scale of classifier-free guidance to that; 1 is the conditional model.
        autoencoder: of healthy scans, for the baseline of that name; a model of latents has its own.

    Raises:
        InputError: an unknown method, a model of something else, or a covariate that the model does not know.
    """

    def __init__(
        self,
        model: VolumeDiffusion,
        method: str | Method | Ensemble = "one_shot",
        seed: int = 0,
        healthy: Mapping[str, Value] | None = None,
        guidance: float = 1.0,
        autoencoder: Autoencoder | None = None,
    ) -> None:
        self.name = method if isinstance(method, str) else type(getattr(method, "restore", method)).__name__
        self.method = method_named(method) if isinstance(method, str) else method
        if not isinstance(model, VolumeDiffusion):
            raise InputError(f"anomalies are found in scans: a {type(model).__name__} knows none")
        if healthy:
            model.known_covariates().asked(1, healthy)
        elif guidance != 1:
            raise InputError(f"guidance = {guidance} needs something to guide to: say what is healthy")
        if not (autoencoder is None or isinstance(autoencoder, Autoencoder)):
            raise InputError(
                f"a {type(autoencoder).__name__} is no autoencoder: train one by configs/mri/autoencoder.yaml"
            )
        self.setting = Setting(model, healthy or {}, guidance, seed, autoencoder)
        self.quantile = 0.99
        self.threshold: float | None = None
        self.healthy_scores: np.ndarray | None = None

    @property
    def model(self) -> VolumeDiffusion:
        return self.setting.model

    @property
    def sources(self) -> list[str]:
        """The other contrasts that the model reads."""
        return self.model.task.sources if isinstance(self.model.task, Translation) else []

    def check_images(self, names: Iterable[str]) -> None:
        """Raises InputError for the name of an image that the model does not read."""
        if unknown := [name for name in names if name not in self.sources]:
            reads = f"reads {', '.join(self.sources)}" if self.sources else "reads no other contrast"
            raise InputError(
                f"an image of the name {unknown[0]} is given, and the model {reads}: give it what it reads"
            )

    def detect(self, scan: Scan, brain: Volume | None = None, images: Images | None = None) -> Detection:
        """Anomaly map and score of a scan of any size and orientation.

        Args:
            scan: the scan or its file.
            brain: where to look, above 0; the whole head, found by its brightness, when left out.
            images: of a model of Translation, the scans that it makes this contrast from, by its names for them.

        Raises:
            InputError: the file cannot be read as a scan, or an image is of another name.
            Unserved: the method needs a model, healthy scans or images that are not there.
        """
        return self._detected(self.method, scan, brain, images)

    def _detected(
        self,
        method: Method | Ensemble,
        scan: Scan,
        brain: Volume | None,
        images: Images | None,
    ) -> Detection:
        volume, prepared, exam = self._examined(scan, brain, images)
        with self._served(exam):
            answer = method(self.setting, exam)
        on_grid = replace(prepared.volume, provenance={"source": exam.batch.names[0], "method": self.name})
        found, restored = (tensor[0, 0].cpu().numpy() for tensor in (answer.maps, answer.restored))
        healthy, inside = prepared.intensities(restored), exam.inside[0, 0].cpu().numpy()
        own = [
            replace(on_grid, data=data).resample(like=volume, order=order, value=value)
            for data, order, value in ((found, 1, 0.0), (healthy, 1, prepared.window[0]), (inside, 0, 0.0))
        ]
        calibrate, looked_at = method.calibrate, own[2].data > 0.5
        threshold = calibrate.rule(own[0].data[looked_at], self.quantile) if calibrate.own else self.threshold
        score = float(answer.scores[0])
        percentile = None if self.healthy_scores is None else float((self.healthy_scores < score).mean() * 100)
        return Detection(volume, own[0], own[1], looked_at, score, percentile, threshold)

    def fit(
        self,
        healthy: Sequence[Scan],
        quantile: float = 0.99,
        brains: Sequence[Volume | None] | None = None,
        images: Sequence[Images] | None = None,
        subjects: Sequence[str] | None = None,
    ) -> Self:
        """Learn from healthy scans: what the method's stages have to know, the threshold (a quantile of the maps'
        voxels, unless the method's ``calibrate`` is another), and the scores that percentiles are of.

        A method that learns knows the scans that it has learnt from, and its maps of them are fainter than those of
        others. Its threshold and scores are therefore taken in FOLDS turns, from the maps of the subjects that it has
        not learnt from in each; then it learns from all.

        Args:
            healthy: scans without lesions.
            quantile: of the maps' voxels.
            brains, images: of each scan, as for ``detect``.
            subjects: whose each scan is; everybody's own when left out.

        Returns:
            The detector itself.

        Raises:
            InputError: no scans are given, or a quantile outside (0, 1).
            Unserved: as for ``detect``; or the method learns, and there is a single subject.
        """
        if not healthy:
            raise InputError("calibration needs at least one healthy scan")
        if not 0 < quantile < 1:
            raise InputError(f"quantile = {quantile} must lie between 0 and 1: 0.99 leaves 1 % of healthy voxels above")
        masks: Sequence[Volume | None] = brains or [None] * len(healthy)
        others: Sequence[Images | None] = images or [None] * len(healthy)
        given = list(zip(healthy, masks, others, strict=True))
        exams = [self._examined(*one)[2] for one in given]
        voxels: list[np.ndarray] = []
        scores = np.zeros(len(given))
        for method, rows in self._turns(exams, list(subjects or map(str, range(len(given))))):
            for row in rows:  # of a map, no more is kept than its voxels
                found = self._detected(method, *given[row])
                voxels.append(found.map.data[found.inside])
                scores[row] = found.score
        if self.method.learns:
            self.method = self._fitted(self.method, exams)
        self.quantile, calibrate = quantile, self.method.calibrate
        self.threshold = None if calibrate.own else calibrate.rule(np.concatenate(voxels), quantile)
        self.healthy_scores = scores
        return self

    def score_samples(self, scans: Sequence[Scan]) -> np.ndarray:
        """[N] minus the score of each scan: the higher, the healthier, as scikit-learn has it.

        Raises:
            InputError, Unserved: as for ``detect``.
        """
        return np.array([-self.detect(scan).score for scan in scans])

    def predict(self, scans: Sequence[Scan], quantile: float = 0.95) -> np.ndarray:
        """[N] 1 for a scan that passes for healthy, -1 for one whose score is above the quantile of the healthy scans'
        scores, as scikit-learn has it.

        Raises:
            InputError: before ``fit``, a quantile outside [0, 1], or as for ``detect``.
            Unserved: as for ``detect``.
        """
        if self.healthy_scores is None:
            raise InputError("which scans are healthy is a question of scores that healthy scans give: call fit first")
        if not 0 <= quantile <= 1:
            raise InputError(f"quantile = {quantile} must lie between 0 and 1: above 0.95 lie 5 % of healthy scans")
        limit = -float(np.quantile(self.healthy_scores, quantile))
        return np.where(self.score_samples(scans) >= limit, 1, -1)

    def _turns(self, exams: list[Exam], subjects: list[str]) -> Iterator[tuple[Method | Ensemble, list[int]]]:
        """(the method as it has learnt from the others, places of some scans), until every scan had its turn."""
        people = sorted(set(subjects))
        if not self.method.learns:
            yield self.method, list(range(len(exams)))
            return
        if len(people) < 2:
            raise Unserved(
                f"{self.name} learns from healthy scans, and its threshold comes from others than it has learnt from: "
                "give those of two subjects at least"
            )
        for fold in range(min(FOLDS, len(people))):
            held = set(people[fold::FOLDS])
            rows = [row for row, subject in enumerate(subjects) if subject in held]
            yield self._fitted(self.method, [exam for row, exam in enumerate(exams) if row not in rows]), rows

    def _fitted(self, method: Method | Ensemble, exams: list[Exam]) -> Method | Ensemble:
        with self._served(exams[0]):
            return method.fitted(self.setting, exams)

    def _examined(self, scan: Scan, brain: Volume | None, images: Images | None) -> tuple[Volume, Prepared, Exam]:
        volume = scan if isinstance(scan, Volume) else Volume.read(scan)
        name = volume.provenance.get("source", "scan")
        prepared = self.model.grid.prepare(volume)
        values = torch.from_numpy(prepared.volume.data)[None, None]
        counted = torch.from_numpy(prepared.mask)[None, None]
        beside = {
            other: torch.from_numpy(self.model.grid.beside(image, prepared))[None, None]
            for other, image in (images or {}).items()
        }
        self.check_images(beside)
        batch = VolumeBatch(values, counted, torch.zeros(1, dtype=torch.int64), [name], images=beside)
        batch = batch.to(self.model.device)
        if brain is None:
            inside = foreground_mask(prepared.volume.data) & prepared.mask
        else:
            inside = (brain.resample(like=prepared.volume, order=0).data > 0) & prepared.mask
            if not inside.any():
                raise InputError(f"the brain mask of {name} marks no voxel of the model's grid: check its affine")
        return volume, prepared, Exam(batch, torch.from_numpy(inside)[None, None].to(self.model.device))

    @contextmanager
    def _served(self, exam: Exam) -> Iterator[None]:
        """What a stage raises, as Unserved."""
        try:
            yield
        except InputError as error:
            missing = [name for name in self.sources if name not in exam.batch.images]
            said = (
                f"the model reads {', '.join(missing)} of the same head: give it (--also, images)" if missing else error
            )
            raise Unserved(f"{self.name}: {said}") from error
