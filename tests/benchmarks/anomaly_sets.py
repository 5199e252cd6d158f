"""The scans of an anomaly benchmark: heads read from a folder or made, planted with lesions or as they are."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
from scipy.ndimage import binary_dilation

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import Volume
from medmol_diffusion.mri.anomaly.evaluation import Case
from medmol_diffusion.mri.anomaly.lesion_shape import LesionShape
from medmol_diffusion.mri.anomaly.planted import plant
from medmol_diffusion.mri.formats.files import find_scans
from medmol_diffusion.mri.partners import Partners
from medmol_diffusion.mri.phantom import KINDS, LABEL, Contrast, Phantom, head_phantom
from medmol_diffusion.mri.table import Table, find_table
from medmol_diffusion.mri.transforms import Grid, foreground_mask

PHANTOMS = 700_000_000
"""The first seed: those of PhantomData, of which models are made, are far below."""
AROUND = 2
"""Voxels round a lesion that a scan taken as healthy without its lesions leaves out too."""

Group = dict[str, str | float]
"""What the lesions of a scan are: {"kind": "mass"}, or {"contrast": 0.5, "ml": 2.0}; empty without any."""


@dataclass(frozen=True)
class Head:
    """A scan, whose it is, and what is known of it: masks of the brain, of white matter and of lesions, and other
    contrasts."""

    subject: str
    scan: Volume
    brain: Volume
    white: Volume | None = None
    lesions: Volume | None = None
    images: Mapping[str, Volume] = field(default_factory=dict)

    def case(self) -> Case:
        """As it is."""
        return Case(self.scan, self.subject, self.lesions, self.brain, self.images)

    def healthy(self) -> Case:
        """To learn from: where it has lesions, and AROUND, nothing is looked at."""
        brain = self.brain
        if self.lesions is not None and (self.lesions.data > 0).any():
            left_out = binary_dilation(self.lesions.data > 0, iterations=AROUND)
            brain = replace(brain, data=(brain.data > 0) & ~left_out)
        return Case(self.scan, self.subject, None, brain, self.images)


@dataclass(frozen=True)
class Sets:
    """What methods learn from, what they are tested on, and the group of each test scan, in the same order."""

    healthy: list[Case]
    test: list[Case]
    groups: list[Group]


def read_heads(
    folder: Path,
    scans: str,
    brains: str | None,
    whites: str | None,
    masks: str | None,
    only: Sequence[str] = (),
    images: Mapping[str, str] = MappingProxyType({}),
) -> list[Head]:
    """The heads of a folder; globs say which files are what, and what belongs together has one subject and session.

    Masks are brought to the scan's grid by the affines. A head without a mask of the brain is looked at whole; one
    without lesions is healthy.

    Args:
        only: the subjects; all when empty.
        images: name -> glob of other contrasts.
    """
    table = Table.read(path) if (path := find_table(folder)) else None
    globs = {"brain": brains, "white": whites, "lesions": masks}
    partners = Partners.of(
        folder,
        {name: glob for name, glob in globs.items() if glob} | dict(images),
        lambda file: str(file.relative_to(folder)),
        table,
        option="heads",
    )
    heads = []
    for file in find_scans(folder, scans):
        subject = partners.subject_of(file)
        if only and subject not in only:
            continue
        scan = Volume.read(file)
        beside = partners.of_scan(file)
        own = {name: _mask(Volume.read(path, constant=True), scan) for name, path in beside.items() if name in globs}
        others = {name: Volume.read(path) for name, path in beside.items() if name in images}
        brain = own.get("brain") or replace(scan, data=foreground_mask(scan.data))
        heads.append(Head(subject, scan, brain, own.get("white"), own.get("lesions"), others))
    if not heads:
        raise InputError(f"no scan of {folder} is of the subjects asked for")
    return heads


def phantom_head(seed: int, grid: Grid, contrast: Contrast, kind: str | None = None, lesions: int = 0) -> Head:
    """A phantom on a model's grid."""
    kinds = {"lesion_kind": kind, "lesions": lesions} if kind else {}
    made: Phantom = head_phantom(PHANTOMS + seed, grid.shape, grid.spacing, contrast, **kinds)  # type: ignore[arg-type]
    scan = replace(made.volume, provenance={"source": f"phantom-{seed:04d}{f'_{kind}' if kind else ''}"})
    brain, white, truth = (
        replace(scan, data=mask) for mask in (made.brain, made.labels == LABEL["white"], made.lesion)
    )
    return Head(f"phantom-{seed:04d}", scan, brain, white, truth if kind else None)


def phantoms(grid: Grid, contrast: Contrast, count: int, lesions: int, images: Sequence[Contrast] = ()) -> Sets:
    """``count`` healthy heads to learn from, as many to count false alarms on, and as many other people, each with
    every kind of lesion in turn. ``images`` are further contrasts of the same heads, lesions and all."""

    def made(seed: int, kind: str | None = None) -> Case:
        case = phantom_head(seed, grid, contrast, kind, lesions).case()
        return replace(case, images={name: phantom_head(seed, grid, name, kind, lesions).scan for name in images})

    healthy = [made(i) for i in range(count)]
    test = [made(count + i) for i in range(count)]
    groups: list[Group] = [{} for _ in test]
    for i in range(count):
        for kind in KINDS:
            test.append(made(2 * count + i, kind))
            groups.append({"kind": kind})
    return Sets(healthy, test, groups)


def planted(
    healthy: Sequence[Head],
    test: Sequence[Head],
    contrasts: Sequence[float],
    volumes: Sequence[float],
    shapes: Sequence[LesionShape],
    upper: float,
    seed: int,
    per_head: int | None = None,
) -> Sets:
    """Every test head with one lesion of every contrast and volume; the same lesion at every contrast. Where white
    matter is known, lesions lie there and are relative to it; elsewhere in the brain, relative to what is there.
    With ``per_head``, every head has so many of them alone, dealt in turn, so that each comes as often.

    A third of the test heads stay as they are: false alarms are counted on them.
    """
    cut = len(test) // 3
    controls, people = list(test[:cut]), list(test[cut:])
    cases, groups = [head.healthy() for head in controls], [{} for _ in controls]
    for number, head in enumerate(people):
        for contrast, ml, place in _dealt(_conditions(contrasts, volumes), number, per_head):
            made = plant(
                head.scan,
                head.white or head.brain,
                seed + 1000 * number + place,
                ml,
                contrast,
                shapes,
                reference=head.white,
                upper=upper,
            )
            name = {"source": f"{head.subject}_contrast{contrast:g}_{ml:g}ml"}
            scan = replace(made.scan, provenance=made.scan.provenance | name)
            cases.append(Case(scan, head.subject, made.truth, head.brain, head.images))
            groups.append({"contrast": contrast, "ml": ml})
    return Sets([head.healthy() for head in healthy], cases, groups)


def shuffled(heads: Sequence[Head], seed: int) -> list[Head]:
    """In the order of the SHA-256 of seed and subject, which no order of files changes."""
    return sorted(heads, key=lambda head: hashlib.sha256(f"{seed}:{head.subject}".encode()).hexdigest())


def split(heads: Sequence[Head], share: float) -> tuple[list[Head], list[Head]]:
    """(the first ``share`` of the subjects, the others)."""
    subjects = list(dict.fromkeys(head.subject for head in heads))
    first = set(subjects[: max(1, round(share * len(subjects)))])
    return [h for h in heads if h.subject in first], [h for h in heads if h.subject not in first]


Condition = tuple[float, float, int]
"""Contrast, ml, number of the volume."""


def _conditions(contrasts: Sequence[float], volumes: Sequence[float]) -> list[Condition]:
    return [(contrast, ml, place) for place, ml in enumerate(volumes) for contrast in contrasts]


def _dealt(conditions: Sequence[Condition], number: int, per_head: int | None) -> list[Condition]:
    """Those of head ``number``."""
    count = len(conditions) if per_head is None else min(per_head, len(conditions))
    return [conditions[(number * count + i) % len(conditions)] for i in range(count)]


def _mask(mask: Volume, scan: Volume) -> Volume:
    found = replace(mask, data=np.asarray(mask.data > 0)).resample(like=scan, order=0)
    return replace(found, data=found.data > 0)
