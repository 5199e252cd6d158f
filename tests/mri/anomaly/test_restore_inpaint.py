"""inpaint: what a first map marks is made anew, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import Inpainting
from medmol_diffusion.mri.anomaly import METHODS, Method
from medmol_diffusion.mri.anomaly.postprocess import Cleaned
from medmol_diffusion.mri.anomaly.restore.inpaint import PARTIAL, Inpaint
from medmol_diffusion.mri.anomaly.restore.smoothing import Smoothing
from tests.mri.anomaly.exact import MEAN, certain, healthy, in_blob, scans

SMOOTHING = Method(Smoothing(1.0), postprocess=Cleaned(1, 0.0))


@pytest.mark.parametrize("task", [None, Inpainting(0.2, 0.5)], ids=["scans alone", "inpainting"])
def test_a_planted_blob_is_removed_and_the_rest_is_as_it_was(task: Inpainting | None) -> None:
    setting, sick = certain(task), scans(2, blob=0.8)
    found = Inpaint(dilation=2, steps=15, resamples=2).fitted(setting, healthy())(setting, sick)
    blob, changed = in_blob(sick.data), found.scans != sick.data
    assert (found.scans[blob] - MEAN).abs().max() < 0.2
    assert changed[blob].all()
    assert changed.sum() < 0.75 * changed.numel()
    assert torch.equal(found.scans[~changed], sick.data[~changed])
    weight = found.weight
    assert weight is not None
    assert weight.max() <= 1
    assert weight[..., 3:5, 3:5, 4].min() == 1


def test_the_threshold_is_the_quantile_of_the_healthy_scans_first_maps() -> None:
    setting, exams = certain(), healthy()
    fitted = Inpaint(quantile=0.9).fitted(setting, exams)
    maps = [PARTIAL(setting, exam).maps.flatten().numpy() for exam in exams]
    assert fitted.threshold == pytest.approx(np.quantile(np.concatenate(maps), 0.9))
    found = fitted(setting, exams[0])
    assert found.weight is not None
    torch.testing.assert_close(
        found.weight, (torch.from_numpy(maps[0]) / fitted.threshold).clamp(max=1).view(1, 1, 8, 8, 8)
    )


def test_a_scan_without_a_mask_comes_back_as_it_was_beside_one_with_a_mask() -> None:
    setting, sick = certain(), scans(2, blob=0.8)
    sick.data[0] = MEAN
    restore = Inpaint(SMOOTHING, steps=5, resamples=1).fitted(setting, healthy())
    found = restore(setting, sick).scans
    assert torch.equal(found[0], sick.data[0])
    assert (found[1] != sick.data[1]).any()
    flat = sick.take(torch.tensor([0]))
    assert restore(setting, flat).scans is flat.data


def test_the_mask_is_dilated_and_stays_inside() -> None:
    region = torch.zeros(1, 1, 8, 8, 8, dtype=torch.bool)
    region[0, 0, 4, 4, 4] = True
    assert [int(Inpaint(dilation=n).grown(region).sum()) for n in (0, 1, 2)] == [1, 7, 25]
    setting, sick = certain(), scans(1, blob=0.8)
    sick = replace(sick, inside=sick.inside & ~in_blob(sick.data))
    restore = Inpaint(SMOOTHING, quantile=0.999, dilation=0, steps=5, resamples=1).fitted(setting, healthy())
    found = restore(setting, sick).scans
    assert torch.equal(found[in_blob(found)], sick.data[in_blob(found)])


def test_it_has_to_see_healthy_scans_first() -> None:
    with pytest.raises(InputError, match="fit it on some"):
        METHODS["inpaint"](certain(), scans(1))
    with pytest.raises(InputError, match="quantile = 97.5"):
        Inpaint(quantile=97.5)
