"""inpaint: what a first map marks is made anew, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import Inpainting
from medmol_diffusion.mri.anomaly import METHODS, Method, Restored
from medmol_diffusion.mri.anomaly.postprocess import Cleaned
from medmol_diffusion.mri.anomaly.restore.inpaint import Inpaint
from medmol_diffusion.mri.anomaly.restore.partial import Partial
from tests.mri.anomaly.exact import MEAN, STD, certain, healthy, in_blob, scans

FLAT = Method(lambda setting, exam: Restored(torch.full_like(exam.data, MEAN)), postprocess=Cleaned(1, 0.0))
"""A first map that is the distance from MEAN."""


@pytest.mark.parametrize("task", [None, Inpainting(0.2, 0.5)], ids=["scans alone", "inpainting"])
def test_a_planted_blob_is_removed_and_the_rest_is_as_it_was(task: Inpainting | None) -> None:
    setting, sick = certain(task), scans(2, blob=0.8)
    restore = Inpaint(FLAT, quantile=0.9999, steps=15, resamples=2).fitted(setting, healthy())
    blob = in_blob(sick.data)
    sick.data[~blob] = MEAN + (sick.data[~blob] - MEAN) / 2  # all of it nearer than the healthy
    found = restore(setting, sick)
    assert (found.scans[blob] - MEAN).abs().max() < 8 * STD
    assert torch.equal(found.scans != sick.data, restore.grown(blob))
    assert found.weight is not None
    assert torch.equal(found.weight == 1, blob)


@pytest.mark.parametrize("task", [None, Inpainting(0.2, 0.5)], ids=["scans alone", "inpainting"])
def test_the_first_map_left_out_marks_the_blob(task: Inpainting | None) -> None:
    setting, sick = certain(task), scans(1, blob=0.8)
    found = Inpaint(dilation=2, steps=10, resamples=2).fitted(setting, healthy())(setting, sick)
    assert (found.scans[in_blob(sick.data)] - MEAN).abs().max() < 0.2
    assert found.weight is not None
    assert found.weight[..., 3:5, 3:5, 4].min() == 1


def test_the_threshold_is_the_quantile_of_the_healthy_scans_first_maps() -> None:
    setting, exams, first = certain(), healthy(), Method(Partial(-0.65, steps=3, repeats=1))
    fitted = Inpaint(first, quantile=0.9).fitted(setting, exams)
    maps = [first(setting, exam).maps.flatten().numpy() for exam in exams]
    assert fitted.threshold == pytest.approx(np.quantile(np.concatenate(maps), 0.9))
    found = fitted(setting, exams[0])
    assert found.weight is not None
    weight = (maps[0] / fitted.threshold).clip(max=1)
    torch.testing.assert_close(found.weight.flatten(), torch.from_numpy(weight))


def test_a_scan_without_a_mask_comes_back_as_it_was_beside_one_with_a_mask() -> None:
    setting, sick = certain(), scans(2, blob=0.8)
    sick.data[0] = MEAN
    restore = Inpaint(FLAT, steps=5, resamples=1).fitted(setting, healthy())
    found = restore(setting, sick).scans
    assert torch.equal(found[0], sick.data[0])
    assert (found[1] != sick.data[1]).any()
    flat = sick.take(torch.tensor([0]))
    assert torch.equal(restore(setting, flat).scans, flat.data)


def test_it_starts_from_what_the_first_map_restored_or_from_noise_that_knows_nothing_of_it() -> None:
    setting, sick, steps = certain(), scans(1, blob=0.8), {"dilation": 0, "steps": 2, "resamples": 1}
    setting.model.first_stage.spectrum.std.fill_(1.0)  # so that what is lightly noised is believed
    blob = in_blob(sick.data)

    def first(value: float) -> Method:
        return Method(lambda _, exam: Restored(torch.full_like(exam.data, value)), postprocess=Cleaned(1, 0.0))

    def means(gamma: float | None) -> list[float]:
        made = [Inpaint(first(v), gamma=gamma, threshold=0.5, **steps)(setting, sick).scans for v in (-0.2, -0.3)]
        return [float(scan[blob].mean()) for scan in made]

    published, noise = means(Inpaint().gamma), means(None)
    assert published == pytest.approx([-0.2, -0.3], abs=0.05)
    assert noise[0] == pytest.approx(noise[1], abs=1e-6), "nothing of it is read"


def test_the_mask_is_dilated_and_stays_inside() -> None:
    region = torch.zeros(1, 1, 8, 8, 8, dtype=torch.bool)
    region[0, 0, 4, 4, 4] = True
    assert [int(Inpaint(dilation=n).grown(region).sum()) for n in (0, 1, 2)] == [1, 7, 25]
    setting, sick = certain(), scans(1, blob=0.8)
    sick = replace(sick, inside=sick.inside & ~in_blob(sick.data))
    restore = Inpaint(FLAT, quantile=0.999, dilation=0, steps=5, resamples=1).fitted(setting, healthy())
    found = restore(setting, sick).scans
    assert torch.equal(found[in_blob(found)], sick.data[in_blob(found)])


def test_it_has_to_see_healthy_scans_first() -> None:
    with pytest.raises(InputError, match="needs healthy scans"):
        METHODS["inpaint"](certain(), scans(1))
    with pytest.raises(InputError, match="must lie in"):
        Inpaint(quantile=97.5)
