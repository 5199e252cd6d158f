"""datasets/register_pairs.py finds a motion that is known."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from medmol_diffusion.mri.phantom import head_phantom

sys.path.insert(0, str(Path(__file__).parent.parent / "datasets"))
from register_pairs import mutual_information, register, rigid


def test_a_known_motion_is_undone_and_no_voxel_changes() -> None:
    fixed = head_phantom(3, (48, 60, 48), contrast="FLAIR").volume
    scan = head_phantom(3, (48, 60, 48), contrast="T1w").volume
    true = np.array([9.0, -6.0, 4.0, 5.0, -4.0, 6.0])
    moving = replace(scan, affine=rigid(true, np.array([5.0, 0.0, -10.0])) @ scan.affine).reorient("LPS")
    found, _, (before, after) = register(fixed, moving)
    assert after > before + 0.1
    np.testing.assert_array_equal(found.data, moving.data)
    corners = np.stack(np.meshgrid(*[(8, size - 8) for size in scan.shape]), -1).reshape(-1, 3)
    there = found.reorient("RAS").to_mm(corners)
    assert np.linalg.norm(there - scan.to_mm(corners), axis=1).max() < 2.0, "mm, half a voxel of the finest grid"


def test_mutual_information_of_itself_is_the_entropy_and_of_noise_is_none() -> None:
    a = np.repeat(np.arange(4.0), 1000)
    assert np.isclose(mutual_information(a, a), np.log(4))
    assert mutual_information(a, np.tile(np.arange(4.0), 1000)) < 1e-9
