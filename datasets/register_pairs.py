"""Puts the scans of one contrast in register with those of another, person by person, where somebody moved in between:

    python datasets/register_pairs.py STUDY -o REGISTERED --fixed "*_FLAIR.nii.gz" --moving "*_T1w.nii.gz"

Only affines change: no voxel is interpolated, and the output is a copy of the study's scans otherwise.
"""

import argparse
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.ndimage import affine_transform
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import Volume
from medmol_diffusion.mri.formats.files import find_scans
from medmol_diffusion.mri.partners import Partners
from medmol_diffusion.mri.table import Table, find_table
from medmol_diffusion.mri.transforms import normalise, window
from medmol_diffusion.progress import Bar

LEVELS = (8.0, 4.0)
"""Millimetres of the grids on which they are compared, one after the other."""
BINS = 32
REACH = (60.0, 30.0)
"""Of the search: millimetres and degrees."""


def binned(volume: Volume) -> np.ndarray:
    """Between its 0.5th and 99.5th percentile, 0 to BINS - 1 (floats)."""
    return (normalise(volume.data, *window(volume.data)) + 1) / 2 * (BINS - 1)


def mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    r"""$\sum p_{ij} \ln (p_{ij} / p_i p_j)$ in nats, of the joint histogram of two images rounded to bins."""
    pairs = np.rint(a).astype(int) * BINS + np.rint(b).astype(int)
    joint = np.bincount(pairs.ravel(), minlength=BINS**2).reshape(BINS, BINS) / pairs.size
    apart = np.outer(joint.sum(1), joint.sum(0))
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / apart[seen])).sum())


def rigid(parameters: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """(4, 4) of millimetres: turned by three angles in degrees about ``centre``, then moved by three millimetres."""
    motion = np.eye(4)
    motion[:3, :3] = Rotation.from_euler("xyz", parameters[3:], degrees=True).as_matrix()
    motion[:3, 3] = centre + parameters[:3] - motion[:3, :3] @ centre
    return motion


class Likeness:
    """Minus the mutual information of two scans, the second one moved: what is minimised."""

    def __init__(self, fixed: Volume, moving: Volume, centre: np.ndarray) -> None:
        self.fixed, self.moving = binned(fixed), binned(moving)
        self.there, self.back, self.centre = fixed.affine, np.linalg.inv(moving.affine), centre

    def __call__(self, parameters: np.ndarray) -> float:
        to_moving = self.back @ rigid(parameters, self.centre) @ self.there
        moved = affine_transform(self.moving, to_moving[:3, :3], to_moving[:3, 3], self.fixed.shape, order=1)
        return -mutual_information(self.fixed, moved)


def register(fixed: Volume, moving: Volume) -> tuple[Volume, np.ndarray, tuple[float, float]]:
    """(``moving`` with the affine that puts it over ``fixed``; the motion, (3,) mm and (3,) degrees; mutual information
    before and after). Powell's method from where they are (Maes et al. 1997), up to REACH."""
    best, before, after = np.zeros(6), 0.0, 0.0
    centre = fixed.to_mm((np.array(fixed.shape) - 1) / 2)
    for size in LEVELS:
        likeness = Likeness(fixed.reorient().resample(size), moving.reorient().resample(size), centre)
        bounds, options = [(-most, most) for most in REACH for _ in range(3)], {"ftol": 1e-4, "xtol": 1e-2}
        answer = minimize(likeness, best, method="Powell", bounds=bounds, options=options)
        best = min((np.zeros(6), best, answer.x), key=likeness)
        before, after = -likeness(np.zeros(6)), -likeness(best)
    return replace(moving, affine=np.linalg.inv(rigid(best, centre)) @ moving.affine), best, (before, after)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FOLDER", help="must not exist")
    parser.add_argument("--fixed", required=True, metavar="GLOB")
    parser.add_argument("--moving", required=True, metavar="GLOB")
    options = parser.parse_args()
    if options.output.exists():
        parser.error(f"{options.output} exists: remove it, or name another folder")
    try:
        table = find_table(options.study)
        names = {scan: str(scan.relative_to(options.study)) for scan in find_scans(options.study)}
        patterns = {"moving": options.moving}
        partners = Partners.of(options.study, patterns, names.__getitem__, table and Table.read(table))
        scans = partners.complete(find_scans(options.study, options.fixed))
        options.output.mkdir(parents=True)
        if table is not None:
            shutil.copy(table, options.output / table.name)
        with Bar("pairs", len(scans)) as bar:
            for place, scan in enumerate(scans):
                other = partners.of_scan(scan)["moving"]
                moved, motion, (before, after) = register(Volume.read(scan), Volume.read(other))
                (options.output / names[scan]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(scan, options.output / names[scan])
                moved.write(options.output / names[other])
                millimetres, degrees = (
                    " ".join(f"{value:+.1f}" for value in part) for part in (motion[:3], motion[3:])
                )
                print(f"{names[other]}: {millimetres} mm, {degrees} deg, {before:.3f} -> {after:.3f} nats", flush=True)
                bar.reach(place + 1)
    except InputError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
