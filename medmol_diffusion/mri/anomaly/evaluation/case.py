"""Case: a scan of an evaluation, whose it is, and what is known of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.volume import Volume


@dataclass(frozen=True)
class Case:
    """A scan under evaluation.

    Attributes:
        scan: in its own space.
        subject: whose it is, bids.subject_of of its name for example: sets are kept apart by subject.
        lesions: the true mask on the scan's own grid, above 0 in lesions; None of a healthy scan.
        brain: where to look, above 0; the whole head when left out.
        images: other contrasts of the same head; a model of Translation is shown those that it reads.

    Raises:
        InputError: the mask has another grid.
    """

    scan: Volume
    subject: str
    lesions: Volume | None = None
    brain: Volume | None = None
    images: Mapping[str, Volume] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.lesions is not None and not self.lesions.same_grid(self.scan):
            raise InputError(
                f"the mask of {self.name} has another grid ({self.lesions.shape} voxels) than the scan "
                f"({self.scan.shape}): resample it to the scan"
            )

    @property
    def name(self) -> str:
        """The scan's file, or its subject where it has none."""
        return self.scan.provenance.get("source", self.subject)

    @property
    def truth(self) -> np.ndarray:
        """bool [X, Y, Z], on the scan's own grid."""
        return np.zeros(self.scan.shape, dtype=bool) if self.lesions is None else self.lesions.data > 0

    @property
    def sick(self) -> bool:
        """Whether there is any lesion."""
        return bool(self.truth.any())


def check_apart(healthy: Sequence[Case], test: Sequence[Case], trained: Iterable[str] = ()) -> None:
    """Raises InputError where a set is empty, a healthy scan has lesions, a subject is in both sets, or one to be
    tested is among those that the model was ``trained`` on."""
    if not healthy:
        raise InputError("an evaluation needs healthy scans, from which thresholds come: give some")
    if not test:
        raise InputError("an evaluation needs scans to be tested on: give some")
    if sick := [case for case in healthy if case.sick]:
        raise InputError(f"{sick[0].name} is given as healthy and its mask marks a lesion: test on it instead")
    known = {one_name(case.subject) for case in healthy}
    if both := sorted({case.subject for case in test if one_name(case.subject) in known}):
        more = f" and {len(both) - 1} others" if len(both) > 1 else ""
        raise InputError(
            f"{both[0]}{more} is among the healthy scans and among those to be tested: a threshold that has seen a "
            "subject flatters it, so keep each in one set"
        )
    seen = {one_name(subject) for subject in trained}
    if both := sorted({case.subject for case in test if one_name(case.subject) in seen}):
        more = f" and {len(both) - 1} others" if len(both) > 1 else ""
        raise InputError(
            f"{both[0]}{more} of those to be tested is among the subjects that the model was trained on: test on "
            "others, or, if these are other people of the same name, export the model, which then names nobody"
        )


def set_aside(healthy: Sequence[Case], share: float, seed: int = 0) -> tuple[list[Case], list[Case]]:
    """The healthy scans that methods learn from, and those of a share of the subjects, drawn at random, that they do
    not: to be tested on, so that false alarms are counted where no threshold has looked.

    Raises:
        InputError: a share outside [0, 1), or so that one part is empty.
    """
    if not 0 <= share < 1:
        raise InputError(f"a share of {share} of the healthy subjects cannot be set aside: give one in [0, 1)")
    subjects = sorted({case.subject for case in healthy})
    count = int(np.ceil(share * len(subjects)))
    if count and count >= len(subjects):
        raise InputError(f"setting aside {count} of {len(subjects)} healthy subjects leaves none: give more, or less")
    drawn = {subjects[i] for i in np.random.default_rng(seed).permutation(len(subjects))[:count]}
    return (
        [case for case in healthy if case.subject not in drawn],
        [replace(case, lesions=None) for case in healthy if case.subject in drawn],
    )


def one_name(subject: str) -> str:
    """The subject with or without sub-, as tables and paths have it."""
    return subject.removeprefix("sub-")
