"""Slices that scroll: every slice is there, upright, and where the slider says."""

import base64
import re
from io import BytesIO

import numpy as np
import pytest
from matplotlib.image import imread

from medmol_diffusion.mri import Volume
from medmol_diffusion.mri.viewer import WIDEST, Stack, slice_viewer


def pictures(page: str) -> list[np.ndarray]:
    return [imread(BytesIO(base64.b64decode(one))) for one in re.findall(r"base64,([^)]+)\)", page)]


def test_slices_lie_below_one_another_upright_whatever_the_orientation() -> None:
    ramp = np.zeros((3, 4, 5))
    ramp[2, 3, 4] = 1.0  # the most right, anterior and superior voxel
    scan = Volume(ramp, np.diag([2.0, 3.0, 4.0, 1.0]))
    for shown in (scan, scan.reorient("PSL")):
        page = slice_viewer([Stack("one", shown)])
        (grey,) = pictures(page)
        assert grey.shape[:2] == (5 * 4, 3)
        assert np.argwhere(grey[..., 0] > 0.5).tolist() == [[4 * 4, 2]]  # last slice, top row, right column
        assert "aspect-ratio: 0.5000" in page
        assert "background-size: 100% 500%" in page


def test_a_map_lies_over_the_scan_and_is_clear_where_it_is_zero() -> None:
    data = np.random.default_rng(0).normal(size=(4, 4, 3))
    found = np.zeros((4, 4, 3))
    found[0, 0, 0], found[1, 1, 1] = 4.0, 1.0
    grey, over = pictures(slice_viewer([Stack("one", Volume(data, np.eye(4)), Volume(found, np.eye(4)))]))
    assert grey[..., 3].min() == 1
    assert over[3, 0, 3] == 1
    assert over[4 + 2, 1, 3] == pytest.approx(0.5, abs=0.01)
    assert (over[..., 3] > 0).sum() == 2


def test_names_are_escaped_large_scans_thinned_and_the_start_is_kept() -> None:
    large = Volume(np.random.default_rng(0).normal(size=(2 * WIDEST, 3, 3)), np.eye(4))
    page = slice_viewer([Stack("<script>'", large)], start=0.25)
    assert "<script>'" not in page
    assert "&lt;script&gt;&#x27;" in page
    assert pictures(page)[0].shape[1] == WIDEST
    assert "--k: 0.000000' data-count='3'" in page  # the nearest slice of three, the lower one of two as near
    assert "--k: 0.500000" in slice_viewer([Stack("one", large)], start=0.3)
    assert "step='0.500000' value='0.250000'" in page
    for stacks, start in (([], 0.5), ([Stack("one", large)], 1.5)):
        with pytest.raises(ValueError, match="a start between 0 and 1"):
            slice_viewer(stacks, start)
