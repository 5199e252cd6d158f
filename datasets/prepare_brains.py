"""Real scans of one contrast with the skull cut away, on the grid of prepare_heads.py, lesion masks beside them:

    python datasets/prepare_brains.py nichart_demo23_2mm --contrast FLAIR --spacing 2 -o brains

Folders are those of prepare_heads.py. A whole head is cut out by the labels that its study's table names, above 0 in
the brain, which are put over the scan by both affines; a scan without a skull is taken as it is. A pair that is not in
register by its headers is cut out wrongly: leave it out.
"""

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from prepare_heads import COLUMNS, Head, finish, heads, partial_of, placed

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import Volume
from medmol_diffusion.progress import Bar


def cut_out(head: Head, spacing: float) -> tuple[Volume, float, Volume]:
    """(the scan, its smallest value outside of the brain; the share of padding; the mask of the brain) on the grid."""
    scan = Volume.read(head.image)
    low = scan.data.min()
    if head.stripped or head.brain is None:
        inside = scan.data > low
    else:
        inside = Volume.read(head.brain).resample(like=scan, order=0).data > 0
    cut, mask = (replace(scan, data=data) for data in (np.where(inside, scan.data, low), inside))
    cut, mask = (volume.straighten().reorient().resample(spacing) for volume in (cut, mask))
    mask = replace(mask, data=mask.data > 0.5)
    brain = mask.data > 0
    return *placed(cut, brain, spacing), placed(mask, brain, spacing)[0]


def prepare(
    folders: list[Path], output: Path, spacing: float, contrast: str, leave_out: list[str]
) -> list[dict[str, str]]:
    """Write OUTPUT, which appears whole or not at all; returns the rows of its participants.tsv.

    Raises:
        InputError: OUTPUT exists, a folder cannot be used, a name to be left out is none, or nobody is left.
    """
    partial = partial_of(output, spacing)
    found = [head for folder in folders for head in heads(folder, contrast) if not head.labels]
    names = {head.subject: head for head in found}
    if len(names) < len(found):
        raise InputError(f"a subject has several scans of {contrast}: every folder once, and one scan of a subject")
    if unknown := [name for name in leave_out if name not in names]:
        raise InputError(f"nobody is called {unknown[0]}: leave out some of {', '.join(names)}")
    usable = [head for head in found if (head.stripped or head.brain) and head.subject not in leave_out]
    if not usable:
        raise InputError(f"no scan of {contrast} has labels to be cut out by, or has no skull: check --contrast")
    rows = []
    with Bar("brains", len(usable)) as bar:
        for place, head in enumerate(usable):
            scan, padded, brain = cut_out(head, spacing)
            start = f"{head.subject}/anat/{head.subject}"
            scan.write(partial / f"{start}_{contrast}.nii.gz")
            brain.write(partial / f"{start}_desc-brain_mask.nii.gz", np.uint8)
            if head.lesions is not None:  # as it is: affines say where, and nothing is lost
                shutil.copy(head.lesions, partial / f"{start}_label-lesion_mask.nii.gz")
            values = (head.study, "real", contrast, "yes", head.age, head.sex, f"{padded:.3f}")
            rows.append(dict(zip(COLUMNS, (head.subject, f"{start}_{contrast}.nii.gz", *values), strict=True)))
            bar.reach(place + 1)
    by = {"Name": "datasets/prepare_brains.py", "spacing": spacing, "contrast": contrast, "left_out": leave_out}
    finish(partial, output, rows, f"Brains at {spacing:g} mm, {contrast}", by, folders)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FOLDER", help="must not exist")
    parser.add_argument("--contrast", default="FLAIR", help="in the column modality (default FLAIR)")
    parser.add_argument("--spacing", type=float, default=2, help="mm (default 2)")
    parser.add_argument("--leave-out", nargs="+", default=[], metavar="SUBJECT", help="sub-nichartSubj3, for example")
    options = parser.parse_args()
    try:
        rows = prepare(options.folders, options.output, options.spacing, options.contrast, options.leave_out)
    except InputError as error:
        parser.error(str(error))
    print(f"{len(rows)} brains in {options.output}")


if __name__ == "__main__":
    main()
