"""patched: boxes that hold every voxel once, each restored in a clean context."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from medmol_diffusion.core.schedule import alpha
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import Inpainting
from medmol_diffusion.mri.anomaly import Exam, Setting
from medmol_diffusion.mri.anomaly.restore.patched import Patched
from medmol_diffusion.mri.known import box_round
from tests.mri.anomaly.exact import MEAN, STD, Exact, certain, drawn, gaussian, in_blob, scans
from tests.mri.anomaly.test_method import exam, slope, white


def narrow(whole: Exam) -> Exam:
    """Looked at is less, another part of each scan, and no box."""
    inside = torch.zeros_like(whole.inside)
    inside[0, :, 1:8, 2:7, 3:5] = True
    inside[0, :, 1, 2, 3] = False
    inside[1:, :, 0:5, 0:8, 1:6] = True
    return replace(whole, inside=inside)


@pytest.mark.parametrize("boxes", [1, 2, 3])
def test_the_boxes_hold_every_voxel_once(boxes: int) -> None:
    inside = narrow(exam(2)).inside
    parts = Patched(boxes=boxes).cut(inside)
    assert len(parts) == boxes**3
    assert torch.equal(torch.stack(parts).sum(0), box_round(inside).long())
    for part in parts:
        whole = part.flatten(1).any(1)
        assert torch.equal(box_round(part)[whole], part[whole])


def test_a_patched_scan_is_the_posterior_mean_inside_and_itself_outside() -> None:
    gamma = -2.0
    gain = 0.2**2 / (0.2**2 + math.exp(gamma))
    setting, whole = white(), exam(4)
    found = Patched(gamma)(setting, whole).scans
    assert slope(found, whole) == pytest.approx(gain, abs=0.06)
    part = narrow(whole)
    found = Patched(gamma)(setting, part).scans
    outside = ~box_round(part.inside)
    assert torch.equal(found[outside], whole.data[outside])
    assert (found != whole.data)[~outside].all()


def test_the_box_alone_is_noised_and_its_context_is_clean() -> None:
    oracle = gaussian()
    model, whole, seen = Exact(oracle), drawn(oracle), list[Tensor]()
    oracle.register_forward_hook(lambda module, arguments, out: seen.append(arguments[0]))
    restore = Patched(1.42, boxes=2)
    restore(Setting(model), whole)
    assert len(seen) == 8
    clean = alpha(torch.tensor(1.42, dtype=torch.float64)) * (whole.data - MEAN)
    for z, box in zip(seen, restore.cut(whole.inside), strict=True):
        apart = z.movedim(-1, 1) - clean
        assert apart[~box].abs().max() < 1e-12
        assert apart[box].std() == pytest.approx(math.exp(0.71) / math.sqrt(1 + math.exp(1.42)), rel=0.15)


def test_a_model_of_inpainting_is_given_the_rest_as_it_was_in_training() -> None:
    """One that expects the harmonic fill, within a little, puts it in the place of every box: a bright spot that the
    boxes cut is gone where the fill comes from beside it, and the network reads the rest without the box."""
    setting, whole = certain(Inpainting(0.2, 0.5)), scans(2)
    found = Patched(1.42, boxes=2)(setting, whole).scans
    assert (found - MEAN).std() < 1.5 * STD
    torch.testing.assert_close(found.mean(), torch.tensor(MEAN), atol=0.01, rtol=0)
    far = replace(whole, inside=in_blob(whole.data))
    bright = scans(2, blob=0.8)
    found = Patched(1.42, boxes=1)(setting, replace(bright, inside=far.inside)).scans
    assert (found[far.inside] - MEAN).abs().max() < 0.15
    assert torch.equal(found[~far.inside], bright.data[~far.inside])


def test_a_model_of_regions_is_no_model_of_whole_scans_and_no_box_is_no_box() -> None:
    setting = certain(Inpainting(0.2, 0.5))
    with pytest.raises(InputError, match="choose the method patched or inpaint"):
        setting.state(scans(1), setting.streams(scans(1)))
    with pytest.raises(InputError, match="boxes = 0"):
        Patched(boxes=0)
