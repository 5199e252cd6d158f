"""Whole heads from several studies as one folder, real T1w scans beside simulated contrasts of label maps:

    python datasets/prepare_heads.py ixi10_2mm nichart_demo23_2mm synthseg_labels_1mm --spacing 4 -o heads-4mm

Every folder has a participants.tsv with the columns id, modality (T1w, FLAIR, or label map ...), image (or
segmentation) and skull_stripped; age, sex and lesion_mask where known.
With --brains the labels that a study's table names for a real scan lie beside it, on its grid, as NAME_dseg.nii.gz:
above 0 in the brain. What comes of it, and what the simulated ones are not: see heads.md.
"""

import argparse
import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.ndimage import label
from simulate_heads import FAMILIES, draws, simulate

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import Volume
from medmol_diffusion.mri.formats.nifti import says_where
from medmol_diffusion.mri.transforms import foreground_mask
from medmol_diffusion.progress import Bar

EXTENT = np.array([192, 240, 192])
"""Millimetres of the grid, to the right, forward and up."""
ABOVE = 8
"""Millimetres of air above the crown."""
HIGH = 140
"""Millimetres below the crown within which the head is centred: the neck and the shoulders are not."""
COLUMNS = ("participant_id", "file", "study", "source", "contrast", "stripped", "age", "sex", "padded")


@dataclass(frozen=True)
class Head:
    """A row of a study's table: a scan, or a label map. ``brain``: labels that lie over a scan by the affines, above 0
    in the brain; ``lesions``: a mask of them."""

    study: str
    subject: str
    image: Path
    labels: bool
    stripped: bool
    age: str
    sex: str
    brain: Path | None = None
    lesions: Path | None = None


def heads(folder: Path, contrast: str = "T1w") -> list[Head]:
    """Those of one study; one scan of the contrast a subject.

    Raises:
        InputError: the table is missing, or lacks a column.
    """
    table = folder / "participants.tsv"
    try:
        rows = list(csv.DictReader(table.read_text().splitlines(), delimiter="\t"))
        study = folder.resolve().name.partition("_")[0]
        # Labels may stand in the row of another contrast, the one that they were made of.
        brains = {row["id"]: folder / row["segmentation"] for row in rows if row["image"] and row.get("segmentation")}
        return [
            Head(
                study,
                f"sub-{study}{re.sub('[^A-Za-z0-9]', '', row['id'])}",
                folder / (row["image"] or row["segmentation"]),
                row["modality"].startswith("label map"),
                row["skull_stripped"] == "yes",
                row.get("age") or "n/a",
                row.get("sex") or "n/a",
                brains.get(row["id"]),
                folder / row["lesion_mask"] if row.get("lesion_mask") else None,
            )
            for row in rows
            if row["modality"] == contrast or row["modality"].startswith("label map")
        ]
    except (OSError, KeyError) as error:
        raise InputError(f"{table} cannot be used ({error}): it needs id, modality, image, skull_stripped") from error


def labelled(head: Head) -> bool:
    """Whether it is a real scan with labels."""
    return not head.labels and head.brain is not None


def placed(volume: Volume, head: np.ndarray, spacing: float) -> tuple[Volume, float]:
    """(the scan on the common grid, moved there by whole voxels; the share of the grid that is outside of it). ``head``
    (X, Y, Z) is where it is; its crown comes to lie ABOVE mm below the top, its middle at the middle."""
    shape = np.rint(EXTENT / spacing).astype(int)
    crown = int(np.nonzero(head.any(axis=(0, 1)))[0].max())
    upper = head[:, :, max(0, crown - round(HIGH / spacing)) :]
    ends = [np.nonzero(upper.any(axis=axes))[0][[0, -1]] for axes in ((1, 2), (0, 2))]
    middle = [int((low + high + 1) // 2) for low, high in ends]
    first = np.array([*(m - n // 2 for m, n in zip(middle, shape[:2], strict=True)), 0])
    first[2] = crown + 1 + round(ABOVE / spacing) - shape[2]
    last = first + shape
    data = np.full(shape, volume.data.min(), dtype=np.float32)
    low, high = np.maximum(first, 0), np.minimum(last, volume.shape)
    own = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    data[tuple(slice(a, b) for a, b in zip(low - first, high - first, strict=True))] = volume.data[own]
    affine = volume.affine.copy()
    affine[:3, 3] = volume.to_mm(first)
    return replace(volume, data=data, affine=affine), 1 - np.prod(high - low) / np.prod(shape)


def made(head: Head, spacing: float, copies: int, seed: int) -> Iterator[tuple[str, str, Volume, float]]:
    """(the end of its name, contrast, scan, share of padding) of what one row gives: a real scan, or ``copies``
    simulated ones of every contrast."""
    volume = Volume.read(head.image).straighten().reorient()
    if not head.labels:
        volume = volume.resample(spacing)
        yield "T1w", "T1w", *placed(volume, foreground_mask(volume.data), spacing)
        return
    factor = round(spacing / volume.spacing[0])
    if factor < 1 or not np.allclose(np.array(volume.spacing) * factor, spacing, rtol=1e-3):
        raise InputError(f"{head.image} has voxels of {volume.spacing} mm, no whole part of {spacing}: resample it")
    parts, _ = label(volume.data > 0)  # some maps have specks in the air
    largest = parts == np.argmax(np.bincount(parts.ravel())[1:]) + 1
    labels, padded = placed(volume, largest, spacing / factor)
    for contrast in FAMILIES:
        for copy in range(1, copies + 1):
            name = f"acq-sim{copy}_{contrast}"
            yield name, contrast, simulate(labels, contrast, factor, draws(seed, f"{head.subject}_{name}")), padded


def partial_of(output: Path, spacing: float) -> Path:
    """Where OUTPUT is made before it appears.

    Raises:
        InputError: OUTPUT exists, or the grid has no whole voxels of this spacing.
    """
    partial = output.with_name(f".{output.name}.partial")
    if output.exists() or partial.exists():
        raise InputError(f"{output if output.exists() else partial} exists: remove it, or name another folder")
    if np.any(EXTENT % spacing):
        raise InputError(f"a grid of {EXTENT.tolist()} mm has no whole voxels of {spacing} mm: 1, 2 and 4 are possible")
    return partial


def finish(
    partial: Path, output: Path, rows: list[dict[str, str]], title: str, by: dict[str, object], folders: list[Path]
) -> None:
    """Write the table and what says how the folder was made (``by``), and let it appear."""
    with (partial / "participants.tsv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, COLUMNS, delimiter="\t", lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    description = {
        "Name": title,
        "BIDSVersion": "1.10.0",
        "DatasetType": "raw",
        "GeneratedBy": [by],
        "SourceDatasets": [{"URL": folder.resolve().as_uri()} for folder in folders],
    }
    (partial / "dataset_description.json").write_text(json.dumps(description, indent=2) + "\n")
    partial.rename(output)


def prepare(
    folders: list[Path],
    output: Path,
    spacing: float,
    copies: int = 1,
    seed: int = 0,
    stripped: bool = False,
    brains: bool = False,
) -> list[dict[str, str]]:
    """Write OUTPUT, which appears whole or not at all; returns the rows of its participants.tsv.

    Raises:
        InputError: OUTPUT exists, a folder cannot be used, nothing is left, or no scan has labels for ``brains``.
    """
    partial = partial_of(output, spacing)
    found = [head for folder in folders for head in heads(folder)]
    names = Counter(head.subject for head in found)
    if twice := [name for name, count in names.items() if count > 1]:
        raise InputError(f"{twice[0]} is there twice: every folder once, and one T1w scan of a subject")
    chosen = [head for head in found if (stripped or not head.stripped) and says_where(head.image)]
    if not chosen:
        raise InputError("no whole head is left: skull-stripped scans are only taken with --stripped")
    if brains and not any(labelled(head) for head in chosen):
        raise InputError("no real scan has labels to be laid beside it: the column segmentation names none")
    rows = []
    with Bar("heads", len(chosen)) as bar:
        for place, head in enumerate(chosen):
            for end, contrast, volume, padded in made(head, spacing, copies, seed):
                file = f"{head.subject}/anat/{head.subject}_{end}.nii.gz"
                volume.write(partial / file, np.int16 if head.labels else np.float32)
                if brains and labelled(head):
                    laid = Volume.read(head.brain).resample(like=volume, order=0)
                    laid.write(partial / f"{head.subject}/anat/{head.subject}_dseg.nii.gz", np.int16)
                source = "simulated" if head.labels else "real"
                values = (head.study, source, contrast, "yes" if head.stripped else "no", head.age, head.sex)
                row = (head.subject, file, *values, f"{padded:.3f}")
                rows.append(dict(zip(COLUMNS, row, strict=True)))
            bar.reach(place + 1)
    how = {
        "spacing": spacing,
        "simulated_of_each_contrast": copies,
        "seed": seed,
        "skull_stripped_too": stripped,
        "brains": brains,
    }
    title = f"Whole heads at {spacing:g} mm, real and simulated"
    finish(partial, output, rows, title, {"Name": "datasets/prepare_heads.py", **how}, folders)
    if brains and (bare := [head.subject for head in chosen if not head.labels and not labelled(head)]):
        print(f"without labels: {', '.join(bare)}")
    for head in found:
        if head not in chosen:
            why = "skull-stripped" if head.stripped and not stripped else "its header does not say where it lies"
            print(f"left out: {head.image} ({why})")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FOLDER", help="must not exist")
    parser.add_argument("--spacing", type=float, default=4, help="mm (default 4)")
    parser.add_argument("--simulated", type=int, default=1, metavar="N", help="of each label map and contrast")
    parser.add_argument("--seed", type=int, default=0, help="of the simulated contrasts")
    parser.add_argument("--stripped", action="store_true", help="skull-stripped scans too")
    parser.add_argument("--brains", action="store_true", help="labels of the real scans beside them, on the same grid")
    options = parser.parse_args()
    if options.simulated < 0 or options.spacing <= 0:
        parser.error("--simulated must be 0 or more, --spacing above 0")
    arguments = (options.spacing, options.simulated, options.seed, options.stripped, options.brains)
    try:
        rows = prepare(options.folders, options.output, *arguments)
    except InputError as error:
        parser.error(str(error))
    counts = Counter((row["source"], row["contrast"]) for row in rows)
    listed = ", ".join(f"{count} {source} {contrast}" for (source, contrast), count in counts.items())
    people = len({row["participant_id"] for row in rows})
    print(f"{len(rows)} scans of {people} people in {options.output}: {listed}")


if __name__ == "__main__":
    main()
