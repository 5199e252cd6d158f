"""Guided scores against the closed forms of a mixture whose components are classes."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from medmol_diffusion.core import (
    STEPPERS,
    Autoguidance,
    Classifier,
    ClassifierFree,
    Denoiser,
    Dense,
    Eps,
    LinearGamma,
    Logits,
    MixtureDenoiser,
    NetworkDenoiser,
    Parameterization,
    PerBlock,
    Preconditioned,
    Prediction,
    Space,
    Streams,
    V,
    X,
    grid,
    sample,
    stepper_named,
)
from medmol_diffusion.core.denoiser import check_zero_snr
from tests.core.oracle import molecule_space
from tests.core.test_denoiser import PARAMETERIZATIONS, Seen, parameterizations

MEANS = torch.tensor([[2.0, 0.0], [1.5, 1.0], [-2.0, 0.5], [-1.0, -1.5]], dtype=torch.float64)
CLASSES = [[0, 1], [2, 3]]  # the components of each class
WEIGHTS = torch.tensor([0.1, 0.3, 0.4, 0.2], dtype=torch.float64)
GAMMA = torch.tensor([-6.0, -2.0, 0.0, 2.0, 9.0], dtype=torch.float64)
Z = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def mixture(components: list[int], means: Tensor = MEANS) -> MixtureDenoiser:
    weights = WEIGHTS[components]
    return MixtureDenoiser(means[components], torch.full((len(weights),), 0.3).double(), weights / weights.sum())


class ByClass(Denoiser):
    """The mixture of one class, condition = 0 or 1; of both, None."""

    def __init__(self, means: Tensor = MEANS) -> None:
        super().__init__()
        self.both = mixture([0, 1, 2, 3], means)
        self.each = [mixture(components, means) for components in CLASSES]

    def of(self, condition: int | None) -> MixtureDenoiser:
        return self.both if condition is None else self.each[condition]

    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: Any = None) -> Prediction:
        return self.of(condition)(z, gamma, space)

    def log_posterior(self, z: Tensor, gamma: Tensor, space: Space, condition: int) -> Tensor:
        """log p(y | z) by Bayes' rule."""
        prior = WEIGHTS[CLASSES[condition]].sum().log()
        return prior + self.of(condition).log_prob(z, gamma) - self.both.log_prob(z, gamma)


class Unconditional(Denoiser):
    def __init__(self, inner: ByClass) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: Any = None) -> Prediction:
        return self.inner(z, gamma, space)


@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.5, 1.0, 3.0])
def test_the_guided_score_is_that_of_the_tilted_marginal(scale: float) -> None:
    """grad log p(z) + w grad log p(y | z) of the noisy marginals, by automatic differentiation of their densities."""
    oracle = ByClass()
    z = Z.clone().requires_grad_()
    tilted = oracle.both.log_prob(z, GAMMA) + scale * oracle.log_posterior(z, GAMMA, Dense(z), 1)
    (exact,) = torch.autograd.grad(tilted.sum(), z)
    guided = ClassifierFree(oracle, scale)(Z, GAMMA, Dense(Z), 1)
    torch.testing.assert_close(guided.score, exact, rtol=1e-10, atol=1e-10)
    classified = Classifier(Unconditional(oracle), oracle.log_posterior, scale)(Z, GAMMA, Dense(Z), 1)
    torch.testing.assert_close(classified.score, exact, rtol=1e-10, atol=1e-10)


@parameterizations
def test_scale_one_is_the_conditional_bit_for_bit_and_scale_zero_the_unconditional(
    parameterization: Parameterization,
) -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(2, 5, 4, 3, generator=generator, dtype=torch.float64)
    z = torch.randn(5, 4, 3, generator=generator, dtype=torch.float64)
    network = NetworkDenoiser(Outputs(outputs), parameterization)
    conditional, unconditional = (network(z, GAMMA, Dense(z), k) for k in (1, 0))
    for scale, plain in ((1.0, conditional), (0.0, unconditional)):
        guided = ClassifierFree(network, scale, unconditional=0)(z, GAMMA, Dense(z), 1)
        torch.testing.assert_close(guided.x, plain.x, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(guided.eps, plain.eps, rtol=1e-10, atol=1e-10)
    guided = ClassifierFree(network, 1.0, unconditional=0)(z, GAMMA, Dense(z), 1)
    assert torch.equal(guided.x, conditional.x)
    assert torch.equal(guided.eps, conditional.eps)
    strong = ClassifierFree(network, 2.5, unconditional=0)(z, GAMMA, Dense(z), 1)
    torch.testing.assert_close(
        strong.x, unconditional.x + 2.5 * (conditional.x - unconditional.x), rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(strong.eps, 2.5 * conditional.eps - 1.5 * unconditional.eps, rtol=1e-9, atol=1e-9)


class Outputs(torch.nn.Module):
    """A network that says what it was told for each condition."""

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: int) -> Tensor:
        return self.outputs[condition]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-3)])
def test_the_exact_classifier_makes_the_unconditional_oracle_the_conditional_one(
    dtype: torch.dtype, tolerance: float
) -> None:
    oracle = ByClass()
    for parameterization in (Eps(), X(), V(), Preconditioned(torch.tensor(1.5, dtype=dtype))):
        denoiser = Classifier(Seen(oracle.both, parameterization), oracle.log_posterior)
        z, gamma = Z.to(dtype), GAMMA
        with torch.no_grad():
            guided = denoiser(z, gamma, Dense(z), 0)
        exact = oracle(z, gamma, Dense(z), 0)
        assert guided.x.dtype == dtype
        assert not guided.x.requires_grad
        torch.testing.assert_close(guided.x, exact.x, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(guided.eps, exact.eps, rtol=tolerance, atol=tolerance)


def test_guidance_stays_in_the_space_and_knows_no_padding() -> None:
    """Zero-centre positions and masked features: class means in the space, the classifier's gradient projected onto
    it."""
    mask = torch.arange(4) < torch.tensor([4, 3, 4])[:, None]
    space = molecule_space(mask, 2)
    generator = torch.Generator().manual_seed(0)
    z = space.project(torch.randn(space.shape, generator=generator, dtype=torch.float64))
    means = torch.randn(4, space.shape[1], generator=generator, dtype=torch.float64)
    outside = torch.randn(space.shape, generator=generator, dtype=torch.float64)
    gamma = GAMMA[1:4]
    plain = NetworkDenoiser(Outputs(means[:2, None].expand(2, 3, -1)), V())

    def tilt(state: Tensor, gamma: Tensor, space: Space, condition: Any) -> Tensor:
        return (state * outside).sum(1)

    cfg = ClassifierFree(plain, 3.0, unconditional=0)(z, gamma, space, 1)
    classified = Classifier(plain, tilt, 0.7)(z, gamma, space, 1)
    for guided in (cfg, classified):
        torch.testing.assert_close(space.project(guided.x), guided.x)
        torch.testing.assert_close(space.project(guided.eps), guided.eps)
    told = plain(z, gamma, space, 1)
    torch.testing.assert_close(classified.score, told.score + 0.7 * space.project(outside), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["classifier_free", "autoguidance", "classifier"])
def test_outside_the_interval_nothing_changes_by_a_bit(kind: str) -> None:
    oracle = ByClass()
    inside = (GAMMA >= 0.0) & (GAMMA <= 2.0)
    for dtype in (torch.float64, torch.float32):
        z = Z.to(dtype)
        plain = Seen(oracle, V())
        if kind == "classifier_free":
            network = ByCondition(V())
            told = network(z, GAMMA, Dense(z), 1)
            guided = ClassifierFree(network, 4.0, interval=(0.0, 2.0))(z, GAMMA, Dense(z), 1)
        elif kind == "autoguidance":
            told = plain(z, GAMMA, Dense(z))
            bad = Seen(mixture([0, 1, 2, 3], 0.5 * MEANS), X())
            guided = Autoguidance(plain, bad, 4.0, (0.0, 2.0))(z, GAMMA, Dense(z))
        else:
            told = plain(z, GAMMA, Dense(z))
            guided = Classifier(plain, oracle.log_posterior, 4.0, (0.0, 2.0))(z, GAMMA, Dense(z), 1)
        assert torch.equal(guided.x[~inside], told.x[~inside])
        assert torch.equal(guided.eps[~inside], told.eps[~inside])
        assert ((guided.x - told.x)[inside].abs().amax(1) > 1e-6).all()


class ByCondition(Denoiser):
    """The classes, read in another way."""

    def __init__(self, parameterization: Any) -> None:
        super().__init__()
        oracle = ByClass()
        self.seen = {None: Seen(oracle.both, parameterization), 0: Seen(oracle.each[0], parameterization)}
        self.seen[1] = Seen(oracle.each[1], parameterization)

    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: Any = None) -> Prediction:
        return self.seen[condition](z, gamma, space)


@pytest.mark.parametrize("good", ["eps", "x", "v", "preconditioned", "logits"])
@pytest.mark.parametrize("bad", ["eps", "v", "per_channel", "logits"])
def test_autoguidance_combines_models_that_are_read_in_different_ways(good: str, bad: str) -> None:
    generator = torch.Generator().manual_seed(0)
    outputs, z = torch.randn(2, 5, 4, 3, generator=generator, dtype=torch.float64).split(1)
    denoisers = [NetworkDenoiser(Outputs(outputs), PARAMETERIZATIONS[kind]) for kind in (good, bad)]
    z = z[0]
    gamma = GAMMA.clamp(-4, 4)
    better, worse = (denoiser(z, gamma, Dense(z), 0) for denoiser in denoisers)
    guided = Autoguidance(*denoisers, scale=1.8)(z, gamma, Dense(z), 0)
    torch.testing.assert_close(guided.x, worse.x + 1.8 * (better.x - worse.x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(guided.eps, worse.eps + 1.8 * (better.eps - worse.eps), rtol=1e-9, atol=1e-9)


def test_blocks_with_logits_are_combined_in_their_estimates_not_in_their_logits() -> None:
    space = molecule_space(torch.ones(5, 4, dtype=torch.bool), 3)
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(2, *space.shape, generator=generator, dtype=torch.float64)
    z = space.project(torch.randn(space.shape, generator=generator, dtype=torch.float64))
    network = NetworkDenoiser(Outputs(outputs), PerBlock({"positions": V(), "features": Logits(0.25)}))
    told, other = (network(z, GAMMA, space, k) for k in (1, 0))
    guided = ClassifierFree(network, 2.0, unconditional=0, interval=(-3.0, 3.0))(z, GAMMA, space, 1)
    outside = GAMMA.abs() > 3
    assert torch.equal(guided.x[outside], told.x[outside])
    torch.testing.assert_close(guided.x[~outside], (2 * told.x - other.x)[~outside], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(guided.eps[~outside], (2 * told.eps - other.eps)[~outside], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sampler", STEPPERS)
def test_every_sampler_lands_in_the_class_it_is_guided_to(sampler: str) -> None:
    """Well-separated classes: without guidance some samples fall in each."""
    oracle = ByClass()
    denoisers = {
        "free": ClassifierFree(oracle, 1.5),
        "exact": Classifier(Unconditional(oracle), oracle.log_posterior),
        "none": Unconditional(oracle),
    }
    gammas = grid(LinearGamma(-6.0, 8.0), 40)
    in_class = {}
    for name, denoiser in denoisers.items():
        streams = Streams(0, torch.arange(40))
        z = Dense(torch.zeros(40, 2)).noise(torch.zeros(40, 2, dtype=torch.float64), streams)
        with torch.no_grad():
            x = sample(denoiser, stepper_named(sampler), gammas, Dense(z), z, streams, condition=1)
        in_class[name] = torch.cdist(x, MEANS).argmin(1) >= 2
    assert in_class["free"].double().mean() > 0.95
    assert in_class["exact"].double().mean() > 0.95
    assert 0.3 < in_class["none"].double().mean() < 0.9


def test_zero_snr_is_a_level_like_any_other_where_the_classifier_is_silent() -> None:
    gamma = torch.full((5,), math.inf, dtype=torch.float64)
    outputs = torch.stack([Z, 2 * Z])
    plain = NetworkDenoiser(Outputs(outputs), V())
    for guided in (
        ClassifierFree(plain, 3.0, unconditional=0),
        Autoguidance(plain, NetworkDenoiser(Outputs(outputs), X()), 3.0),
        Classifier(plain, ByClass().log_posterior, interval=(-2.0, 2.0)),
    ):
        assert guided(Z, gamma, Dense(Z), 1).x.isfinite().all()
        check_zero_snr(guided, math.inf)
    for interval in (None, (0.0, math.inf)):
        with pytest.raises(ValueError, match="zero terminal SNR"):
            check_zero_snr(Classifier(plain, ByClass().log_posterior, interval=interval), math.inf)
    with pytest.raises(ValueError, match="zero terminal SNR"):
        check_zero_snr(ClassifierFree(NetworkDenoiser(Outputs(Z), Eps()), 2.0), math.inf)


def test_guidance_wraps_guidance() -> None:
    """w = 2 of 1.5 is w = 3, for the inner conditional is the only thing that is moved."""
    oracle = ByClass()
    twice = ClassifierFree(ClassifierFree(oracle, 1.5), 2.0)(Z, GAMMA, Dense(Z), 0)
    once = ClassifierFree(oracle, 3.0)(Z, GAMMA, Dense(Z), 0)
    torch.testing.assert_close(twice.eps, once.eps, rtol=1e-10, atol=1e-10)


def test_an_interval_upside_down_is_refused() -> None:
    oracle = ByClass()
    with pytest.raises(ValueError, match=r"interval = \(2.0, -2.0\)"):
        ClassifierFree(oracle, 2.0, interval=(2.0, -2.0))
    with pytest.raises(ValueError, match="interval"):
        Autoguidance(oracle, oracle, 2.0, (0.0, 0.0))
    with pytest.raises(ValueError, match="interval"):
        Classifier(oracle, oracle.log_posterior, 2.0, (1.0, 0.0))
