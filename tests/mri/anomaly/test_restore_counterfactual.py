"""counterfactual: inversion and the way back against exact flows of Gaussians."""

from typing import Any

import pytest
import torch
from torch import Tensor

from medmol_diffusion.core import Denoiser, GaussianDenoiser, Prediction, Space
from medmol_diffusion.core.parameterization import X
from medmol_diffusion.core.schedule import alpha, per_example, sigma
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly import Setting
from medmol_diffusion.mri.anomaly.restore.counterfactual import Counterfactual
from tests.mri.anomaly.exact import MEAN, SHAPE, Exact, drawn, gaussian

GAMMA = 2.46
A, S = (f(torch.tensor(GAMMA, dtype=torch.float64)) for f in (alpha, sigma))


class Shifted(Denoiser):
    """x ~ N(0.1 n, l) given the covariate n, N(0, l) where none is asked."""

    def __init__(self, plain: GaussianDenoiser) -> None:
        super().__init__()
        self.plain = plain

    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: Any = None) -> Prediction:
        shift = per_example(0.1 * condition.numbers[:, 0] * condition.numbers[:, 1], z)
        centred = self.plain(z - per_example(alpha(gamma), z) * shift, gamma, space).x
        return Prediction(centred + shift, z, gamma, X(), space)


def silent(z: Tensor, gamma: Tensor, space: Space, condition: Any) -> Tensor:
    return 0 * z.flatten(1).sum(1)


def errors(restore: type[Counterfactual], exact: Tensor, setting: Setting, steps: list[int], **how: Any) -> list[float]:
    scans = drawn(gaussian())
    return [float((restore(GAMMA, n, **how)(setting, scans).scans - exact).abs().max()) for n in steps]


def asked(guidance: float = 1.0) -> Setting:
    model = Exact(Shifted(gaussian()), {"age": None})
    covariates = model.known_covariates()
    covariates.mean.fill_(0.0)
    covariates.std.fill_(1.0)
    return Setting(model, {"age": 1.5}, guidance)


@pytest.mark.parametrize(("sampler", "order"), [("ddim", 1), ("heun", 2)])
def test_without_guidance_the_scan_comes_back_with_the_order_of_the_sampler(sampler: str, order: int) -> None:
    setting = Setting(Exact(gaussian()))
    scans = drawn(gaussian())
    how = {"classifier": silent, "sampler": sampler}
    first, second, third = errors(Counterfactual, scans.data, setting, [20, 40, 80], **how)
    assert first / second > 0.75 * 2**order
    assert second / third > 0.75 * 2**order
    assert third < 0.05


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_guided_by_covariates_a_scan_moves_by_the_shift_of_the_healthy(guidance: float) -> None:
    """Of two Gaussians of one variance the scores guided by w are those of the mean w c: the flow up from N(0, l) and
    down to N(w c, l) takes x to x + w c (1 - alpha sqrt(l / Var))."""
    spread = gaussian().eigenvalues.view(1, 1, *SHAPE)
    shift = guidance * 0.15 * (1 - A * (spread / (A**2 * spread + S**2)).sqrt())
    exact = drawn(gaussian()).data + shift
    coarse, fine = errors(Counterfactual, exact, asked(), [30, 120], guidance=guidance)
    assert fine < 0.4 * coarse
    assert fine < 0.03
    of_the_setting = errors(Counterfactual, exact, asked(guidance), [120], guidance=guidance)
    assert of_the_setting == [fine]


def test_guided_by_a_classifier_the_flow_back_is_that_of_the_healthy() -> None:
    """p(healthy | x) proportional to N(c; x, r), voxel by voxel: the healthy are N(c l / (l + r), l r / (l + r)), and
    the exact log p(healthy | z) is that of N(c; E[x | z], Var[x | z] + r)."""
    spread, centre, r = gaussian().eigenvalues, 0.2, 0.02

    def healthy(z: Tensor, gamma: Tensor, space: Space, condition: Any) -> Tensor:
        a, s = per_example(alpha(gamma), z), per_example(sigma(gamma), z)
        own = spread.view(1, *SHAPE, 1)
        mean, variance = a * own / (a**2 * own + s**2) * z, own * s**2 / (a**2 * own + s**2)
        return -0.5 * ((centre - mean) ** 2 / (variance + r)).flatten(1).sum(1)

    own = spread.view(1, 1, *SHAPE)
    mean, variance = centre * own / (own + r), own * r / (own + r)
    scans = drawn(gaussian())
    top = (scans.data - MEAN) * ((A**2 * own + S**2) / own).sqrt()
    exact = MEAN + mean + (variance / (A**2 * variance + S**2)).sqrt() * (top - A * mean)
    how = {"classifier": healthy, "classifier_scale": 1.0}
    coarse, fine = errors(Counterfactual, exact, Setting(Exact(gaussian())), [30, 120], **how)
    assert fine < 0.4 * coarse
    assert fine < 0.03
    further = Counterfactual(GAMMA, 40, classifier=healthy, classifier_scale=3.0)
    nearer, plain = (
        restore(Setting(Exact(gaussian())), scans).scans
        for restore in (further, Counterfactual(GAMMA, 40, classifier=healthy, classifier_scale=1.0))
    )
    assert (nearer - MEAN - centre).abs().mean() < (plain - MEAN - centre).abs().mean()


def test_told_its_own_covariates_a_scan_of_the_healthy_comes_back() -> None:
    """Up and down by the same flow."""
    setting, scans = asked(), drawn(gaussian())
    with pytest.raises(InputError, match="they bring none"):
        Counterfactual(told=True)(setting, scans)
    scans.batch.covariates[:] = [{"age": "1.5"}] * 2
    restore = Counterfactual(GAMMA, 80, guidance=1.0, told=True)
    torch.testing.assert_close(restore(setting, scans).scans, scans.data, atol=0.05, rtol=0)


def test_what_cannot_be_guided_or_inverted_is_refused() -> None:
    with pytest.raises(InputError, match="or a classifier"):
        Counterfactual()(Setting(Exact(gaussian())), drawn(gaussian()))
    with pytest.raises(InputError, match="cannot invert"):
        Counterfactual(sampler="ancestral")
