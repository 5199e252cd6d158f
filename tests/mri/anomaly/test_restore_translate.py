"""translate: the scan that other contrasts foretell, and what every restore owes to batches and seeds."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import Translation
from medmol_diffusion.mri.anomaly import METHODS, Exam, Setting
from medmol_diffusion.mri.anomaly.method import Restore
from medmol_diffusion.mri.anomaly.restore.counterfactual import Counterfactual
from medmol_diffusion.mri.anomaly.restore.harmonise import Harmonise
from medmol_diffusion.mri.anomaly.restore.inpaint import Inpaint
from medmol_diffusion.mri.anomaly.restore.partial import Partial
from medmol_diffusion.mri.anomaly.restore.patched import Patched
from medmol_diffusion.mri.anomaly.restore.translate import Translate
from medmol_diffusion.mri.anomaly.simplex import Simplex
from tests.mri.anomaly.exact import STD, certain, exam_of, scans
from tests.mri.anomaly.test_method import white


def translating() -> Setting:
    """v = 0.2 - 0.5 s, within STD."""
    task = Translation("T1w")
    task.coefficients.copy_(torch.tensor([0.2, -0.5]))
    return certain(task)


def pairs(count: int = 2) -> Exam:
    draw = torch.Generator().manual_seed(3)
    source, data = (0.4 * torch.randn(count, 1, 8, 8, 8, generator=draw) for _ in range(2))
    return exam_of(data.clamp(-1, 1), {"T1w": source.clamp(-1, 1)})


def test_one_call_is_the_conditional_mean_and_knows_nothing_of_the_scan_itself() -> None:
    setting, exam = translating(), pairs()
    found = Translate()(setting, exam).scans
    torch.testing.assert_close(found, 0.2 - 0.5 * exam.batch.images["T1w"], atol=1e-3, rtol=0)
    other = replace(exam, batch=replace(exam.batch, data=-exam.data))
    torch.testing.assert_close(Translate()(setting, other).scans, found, rtol=0, atol=0)


@pytest.mark.parametrize("draws", [1, 4])
def test_the_mean_of_draws_has_the_spread_of_one_over_their_root(draws: int) -> None:
    setting, exam = translating(), pairs()
    found = Translate(steps=25, draws=draws, sampler="dpm++2m")(setting, exam).scans
    apart = found - (0.2 - 0.5 * exam.batch.images["T1w"])
    assert apart.std() == pytest.approx(STD / draws**0.5, rel=0.1)


def test_other_models_and_scans_without_the_other_contrast_are_refused() -> None:
    with pytest.raises(InputError, match="a model of Translation, and this is one of scans alone"):
        Translate()(certain(), scans(1))
    with pytest.raises(InputError, match="translates T1w"):
        Translate()(translating(), scans(1))


def centred(z: Tensor, *_: object) -> Tensor:
    return -z.square().flatten(1).sum(1)


RESTORES: dict[str, Restore] = {
    "patched": Patched(boxes=2),
    "simplex": Partial(steps=3, repeats=2, noise=Simplex()),
    "counterfactual": Counterfactual(steps=3, classifier=centred, classifier_scale=1.0),
    "inpaint": Inpaint(threshold=0.05, steps=4, resamples=2, jump=2),
    "harmonise": Harmonise(steps=5),
    "translate": Translate(steps=3, draws=2),
}


@pytest.mark.parametrize("name", RESTORES)
def test_a_scan_is_restored_alike_alone_and_among_others_and_otherwise_by_another_seed(name: str) -> None:
    setting, exam = (translating(), pairs(3)) if name == "translate" else (certain(), scans(3, blob=0.3))
    restore = RESTORES[name]
    together, alone = (restore(setting, part).scans for part in (exam, exam.take(torch.tensor([1]))))
    torch.testing.assert_close(together[1:2], alone, atol=1e-5, rtol=0)
    again = restore(setting, exam).scans
    assert torch.equal(again, together)
    other = restore(replace(setting, seed=1), exam).scans
    assert torch.equal(other, together) == (name == "counterfactual")  # which draws nothing


def test_the_methods_of_other_models_have_answers_of_them() -> None:
    asked = replace(white({"age": None}), healthy={"age": 0.0})
    covariates = asked.model.known_covariates()
    covariates.mean.fill_(0.0)
    covariates.std.fill_(1.0)
    for name, setting, exam in (("counterfactual", asked, scans(2)), ("translate", translating(), pairs())):
        answer = METHODS[name](setting, exam)
        assert answer.maps.shape == answer.restored.shape == exam.data.shape
        assert answer.maps.min() >= 0
        assert answer.scores.shape == (2,)
