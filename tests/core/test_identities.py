"""The identities of the likelihood, one test each, named after docs/theory: exact denoisers, float64."""

import itertools
import math

import pytest
import torch
from scipy.special import roots_legendre
from torch import Tensor, nn

from medmol_diffusion import core
from medmol_diffusion.core import (
    Ancestral,
    Cosine,
    DDPMLinear,
    Dense,
    GaussianDenoiser,
    LinearGamma,
    Polynomial,
    Schedule,
    Streams,
    ZeroCentre,
    diffuse,
    elbo,
)
from medmol_diffusion.core.elbo import continuous_integrand, prior_kl, transition_kl
from medmol_diffusion.core.observation import (
    Categorical,
    DiscretizedGaussian,
    Gaussian,
    Ordinal,
)
from medmol_diffusion.core.observation import (
    Product as ProductObservation,
)
from tests.core.oracle import GivenNoise, molecule_space, sigma_points, zero_centre_basis

SCHEDULES: dict[str, Schedule] = {
    "linear_gamma": LinearGamma(-10.0, 8.0),
    "cosine": Cosine(-10.0, 8.0),
    "ddpm_linear": DDPMLinear(),
    "polynomial_2": Polynomial(),
}
EIGENVALUES = torch.tensor([0.09, 0.5, 1.0, 2.3], dtype=torch.float64)
schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


def snr(gamma: float) -> float:
    return math.exp(-gamma)


def exact_diffusion(eigenvalues: Tensor, schedule: Schedule) -> float:
    """V1's right side: 1/2 sum log[(1 + l SNR_0) / (1 + l SNR_1)]."""
    ratio = (1 + eigenvalues * snr(schedule.gamma_0)) / (1 + eigenvalues * snr(schedule.gamma_1))
    return 0.5 * ratio.log().sum().item()


def quadrature(schedule: Schedule, denoiser: core.Denoiser, x: Tensor, space: core.Space, pieces: int = 60) -> float:
    """The continuous diffusion term, integrated over t with Gauss-Legendre on ``pieces`` intervals."""
    if isinstance(schedule, core.schedule.Tabulated):
        edges = torch.linspace(0, 1, schedule.transitions + 1, dtype=torch.float64)
        nodes, weights = roots_legendre(8)
    else:
        edges = torch.linspace(0, 1, pieces + 1, dtype=torch.float64)
        nodes, weights = roots_legendre(16)
    total = 0.0
    eps = space.noise(x, torch.Generator())
    for node, weight in zip(nodes, weights, strict=True):
        t = edges[:-1] + (edges[1:] - edges[:-1]) * (node + 1) / 2
        width = (edges[1:] - edges[:-1]) / 2 * weight
        for start in range(0, len(t), 250):  # many times at once: tile the batch
            part, size = t[start : start + 250], len(x)
            tiled = x.repeat(len(part), *[1] * (x.dim() - 1))
            noise = eps.repeat(len(part), *[1] * (x.dim() - 1))
            times = part.repeat_interleave(size)
            gamma = schedule.gamma(times)
            prediction = denoiser(diffuse(tiled, noise, gamma), gamma, Dense(tiled))
            integrand = continuous_integrand(prediction, tiled, noise, schedule.derivative(times)).flatten(1).sum(1)
            total += (integrand.reshape(-1, size).mean(1) * width[start : start + 250]).sum().item()
    return total


@schedules
def test_v01_continuous_term_is_half_the_log_snr_ratio(schedule: Schedule) -> None:
    oracle = GaussianDenoiser(EIGENVALUES)
    x, space = sigma_points(oracle, (4,))
    expected = exact_diffusion(EIGENVALUES, schedule)
    assert quadrature(schedule, oracle, x, space) == pytest.approx(expected, abs=1e-10 * max(1, expected))


def test_v01_monte_carlo_agrees_within_three_standard_errors() -> None:
    schedule, oracle = LinearGamma(-10.0, 8.0), GaussianDenoiser(EIGENVALUES)
    generator = torch.Generator().manual_seed(1)
    x = oracle.sample(torch.zeros(4096, 4, dtype=torch.float64), generator)
    bound = elbo(oracle, schedule, Dense(x), x, Gaussian(), x, generator, draws=4)
    diffusion = bound.terms["diffusion"]
    error = diffusion.std().item() / math.sqrt(len(x))
    assert abs(diffusion.mean().item() - exact_diffusion(EIGENVALUES, schedule)) < 3 * error
    assert error < 0.5  # and the test can tell: the term is about 21 nats


def posterior_gap(eigenvalues: Tensor, schedule: Schedule) -> float:
    """E KL(q(x | z_0) || N(x_hat, e^gamma_0)): the price of a decoder that is wider than the true posterior."""
    noise = math.exp(schedule.gamma_0)
    variance = eigenvalues * noise / (eigenvalues + noise)
    return 0.5 * (variance / noise - 1 - (variance / noise).log()).sum().item()


def marginal_prior_kl(eigenvalues: Tensor, schedule: Schedule) -> float:
    """KL(q(z_1) || N(0, I)) of the marginal."""
    gamma_1 = torch.tensor(schedule.gamma_1, dtype=torch.float64)
    variance = core.alpha(gamma_1) ** 2 * eigenvalues + core.sigma(gamma_1) ** 2
    return 0.5 * (variance - 1 - variance.log()).sum().item()


@schedules
def test_v02_gap_of_the_bound_is_prior_plus_decoder_kl(schedule: Schedule) -> None:
    oracle = GaussianDenoiser(EIGENVALUES)
    x, space = sigma_points(oracle, (4,))
    bound = elbo(oracle, schedule, space, x, Gaussian(), x, torch.Generator())
    total = (
        bound.terms["prior"].mean().item()
        + quadrature(schedule, oracle, x, space)
        + bound.terms["reconstruction"].mean().item()
    )
    gap = marginal_prior_kl(EIGENVALUES, schedule) + posterior_gap(EIGENVALUES, schedule)
    assert total - oracle.entropy() == pytest.approx(gap, abs=1e-8)


def discrete_terms(oracle: core.Denoiser, schedule: Schedule, x: Tensor, space: core.Space, steps: int) -> Tensor:
    """[B] exact sum of the T transition terms, tiled rather than looped."""
    eps = space.noise(x, torch.Generator())
    total = torch.zeros(len(x), dtype=torch.float64)
    for start in range(0, steps, 500):
        step = torch.arange(start + 1, min(start + 500, steps) + 1, dtype=torch.float64).repeat_interleave(len(x))
        repeats = len(step) // len(x)
        tiled, noise = x.repeat(repeats, 1), eps.repeat(repeats, 1)
        gamma = schedule.gamma(step / steps)
        prediction = oracle(diffuse(tiled, noise, gamma), gamma, Dense(tiled))
        kl = transition_kl(prediction, tiled, noise, schedule.gamma((step - 1) / steps)).sum(1)
        total += kl.reshape(repeats, len(x)).sum(0)
    return total


def test_v03_discrete_bound_approaches_the_continuous_one_at_first_order() -> None:
    schedule = LinearGamma(-6.0, 4.0)
    oracle = GaussianDenoiser(EIGENVALUES)
    x, space = sigma_points(oracle, (4,))
    limit = exact_diffusion(EIGENVALUES, schedule)

    def h(gamma: float) -> float:
        """E |eps - eps_hat|^2 = sum alpha^2 l / (alpha^2 l + sigma^2)."""
        return (EIGENVALUES * snr(gamma) / (1 + EIGENVALUES * snr(gamma))).sum().item()

    span = schedule.gamma_1 - schedule.gamma_0
    lead = span / 4 * (2 * limit - (h(schedule.gamma_0) - h(schedule.gamma_1)))
    excess = {T: discrete_terms(oracle, schedule, x, space, T).mean().item() - limit for T in (1000, 10_000)}
    # dgamma^2 / 8T * sum of (expm1 correction) and the Euler error of h: the leading coefficient is written out above.
    assert excess[10_000] * 10_000 == pytest.approx(lead, rel=0.01)
    assert math.log(excess[10_000] / excess[1000]) / math.log(10) == pytest.approx(-1, abs=0.02)


@schedules
@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_v05_optimal_variance_is_exact_for_every_T(schedule: Schedule, steps: int) -> None:
    oracle = GaussianDenoiser(EIGENVALUES, optimal_variance=True)
    x, space = sigma_points(oracle, (4,))
    bound = elbo(oracle, schedule, space, x, Gaussian(), x, torch.Generator(), transitions=steps, draws=None)
    gap = bound.total.mean().item() - oracle.entropy()
    assert gap == pytest.approx(marginal_prior_kl(EIGENVALUES, schedule), abs=1e-10)


@pytest.mark.parametrize(("n", "entropy"), [(5, 21.892843), (19, 98.517797)])
def test_v11_zero_centre_bound_is_the_entropy_on_its_own_dimensions(n: int, entropy: float) -> None:
    schedule = LinearGamma(-30.0, 30.0)
    oracle = GaussianDenoiser(torch.full((3 * (n - 1),), 1.5**2, dtype=torch.float64), zero_centre_basis(n))
    x, given = sigma_points(oracle, (n, 3))
    space = GivenNoise(ZeroCentre(torch.ones(len(x), n, dtype=torch.bool)), given.noise(x, torch.Generator()))
    bound = elbo(oracle, schedule, space, x, Gaussian(), x, torch.Generator())
    diffusion = quadrature(schedule, oracle, x, space, pieces=120)
    total = bound.terms["prior"].mean().item() + diffusion + bound.terms["reconstruction"].mean().item()
    assert bound.dim.tolist() == [3.0 * (n - 1)] * len(x)
    assert oracle.entropy() == pytest.approx(entropy, abs=1e-6)
    assert total == pytest.approx(entropy, abs=1e-6)


@schedules
@pytest.mark.parametrize("transitions", [0, 50])
def test_v12_zero_centre_equals_dense_on_an_orthonormal_basis(schedule: Schedule, transitions: int) -> None:
    n, batch = 6, 5
    basis = zero_centre_basis(n)
    eigenvalues = torch.linspace(0.2, 3.0, 3 * (n - 1), dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    coordinates = torch.randn(batch, 3 * (n - 1), generator=generator, dtype=torch.float64)
    noise = torch.randn(batch, 3 * (n - 1), generator=generator, dtype=torch.float64)
    points, points_noise = ((v @ basis.T).reshape(batch, n, 3) for v in (coordinates, noise))
    zero_centre = GivenNoise(ZeroCentre(torch.ones(batch, n, dtype=torch.bool)), points_noise)
    results = [
        elbo(denoiser, schedule, space, x, Gaussian(), x, torch.Generator().manual_seed(3), transitions, draws=3)
        for denoiser, space, x in [
            (GaussianDenoiser(eigenvalues, basis), zero_centre, points),
            (GaussianDenoiser(eigenvalues), GivenNoise(Dense(coordinates), noise), coordinates),
        ]
    ]
    for name in results[0].terms:
        torch.testing.assert_close(results[0].terms[name], results[1].terms[name], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(results[0].dim, results[1].dim)


@pytest.mark.parametrize("gamma_0", [-12.0, -4.0, 1.0])
def test_v14_discrete_observations_sum_to_one_over_their_cells(gamma_0: float) -> None:
    generator = torch.Generator().manual_seed(0)
    gamma = torch.full((20,), gamma_0, dtype=torch.float64)
    z = torch.randn(20, 1, generator=generator, dtype=torch.float64)
    space = Dense(z)

    levels = 256
    centres = 2 * torch.arange(levels, dtype=torch.float64) / (levels - 1) - 1
    observation = DiscretizedGaussian(levels)
    mass = sum(
        torch.exp(-observation.nll((centre.expand(20, 1), torch.ones(20, 1, dtype=torch.bool)), z, gamma, space))
        for centre in centres
    )
    torch.testing.assert_close(mass, torch.ones(20, dtype=torch.float64), rtol=0, atol=1e-12)

    one_hot = torch.randn(20, 1, 5, generator=generator, dtype=torch.float64)
    labels = [torch.full((20, 1), k) for k in range(5)]
    mass = sum(torch.exp(-Categorical(4.0).nll(k, one_hot, gamma, Dense(one_hot))) for k in labels)
    torch.testing.assert_close(mass, torch.ones(20, dtype=torch.float64), rtol=0, atol=1e-12)

    charge = torch.rand(20, 1, 1, generator=generator, dtype=torch.float64)
    mass = sum(
        torch.exp(-Ordinal(10.0).nll(torch.full((20, 1), q), charge, gamma, Dense(charge))) for q in range(-90, 110)
    )
    torch.testing.assert_close(mass, torch.ones(20, dtype=torch.float64), rtol=0, atol=1e-12)


@schedules
def test_v16_scaling_the_data_adds_dim_log_c(schedule: Schedule) -> None:
    """NLL(c x) = NLL(x) + dim log c: data given in another unit, encoded back by 1/c, with log_volume = -dim log c."""
    c = 1 / 0.529177
    oracle = GaussianDenoiser(EIGENVALUES)
    x, space = sigma_points(oracle, (4,))

    def bound(data: Tensor, scale: float) -> core.Elbo:
        state = data * scale
        found = elbo(oracle, schedule, space, state, Gaussian(), state, torch.Generator().manual_seed(0), draws=2)
        return found.with_terms(log_volume=found.dim * math.log(scale))

    expected = bound(x, 1.0).total + 4 * math.log(c)
    torch.testing.assert_close(bound(c * x, 1 / c).total, expected, rtol=1e-10, atol=1e-10)


def flow_error(stepper: core.Stepper, steps: int) -> float:
    oracle = GaussianDenoiser(EIGENVALUES)
    gammas = core.grid(LinearGamma(-3.0, 3.0), steps, "gamma")
    z = torch.ones(2, 4, dtype=torch.float64)
    found = core.sample(oracle, stepper, gammas, Dense(z), z, torch.Generator())
    exact = core.gaussian_flow(z, EIGENVALUES, gammas[0].item(), gammas[-1].item())
    return (found - exact).abs().max().item()


@pytest.mark.parametrize(
    ("stepper", "order"), [(core.DDIM(), 1), (core.Heun(), 2), (core.DPMSolver2M(), 2)], ids=["ddim", "heun", "dpm++2m"]
)
def test_v17_deterministic_samplers_follow_the_flow_at_their_order(stepper: core.Stepper, order: int) -> None:
    coarse, fine = flow_error(stepper, 400), flow_error(stepper, 800)
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.1)


@schedules
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 50, 250])
def test_v17_ancestral_follows_its_variance_recursion_at_every_number_of_steps(schedule: Schedule, steps: int) -> None:
    """Var_s = (a_s / a_t)^2 (1 - c sigma_t^2 / V_t)^2 Var_t + sigma_s^2 c, V = alpha^2 l + sigma^2, derived on its own.

    The step is linear, z_s = A z_t + B eps: A and B are read off with z = 1, eps = 0 and z = 0, eps = 1.
    """
    oracle = GaussianDenoiser(EIGENVALUES)
    gammas = core.grid(schedule, steps)
    expected = torch.ones(4, dtype=torch.float64)
    found = torch.ones(4, dtype=torch.float64)
    like = torch.stack([torch.ones(4), torch.zeros(4)]).double()
    for gamma_t, gamma_s in itertools.pairwise(gammas):
        a_t, b_t, a_s, b_s = (f(g) for g in (gamma_t, gamma_s) for f in (core.alpha, core.sigma))
        c = 1 - (a_t * b_s / (a_s * b_t)) ** 2
        gain = a_s / a_t * (1 - c * b_t**2 / (a_t**2 * EIGENVALUES + b_t**2))
        expected = gain**2 * expected + b_s**2 * c
        step = core.sample(
            oracle,
            Ancestral(),
            torch.stack([gamma_t, gamma_s]),
            GivenNoise(Dense(like), 1 - like),
            like,
            torch.Generator(),
        )
        found = step[0] ** 2 * found + step[1] ** 2
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_v17_ancestral_with_the_optimal_variance_is_exact_at_every_number_of_steps() -> None:
    schedule = LinearGamma(-8.0, 8.0)
    oracle = GaussianDenoiser(EIGENVALUES, optimal_variance=True)
    for steps in (1, 2, 5, 40):
        gammas = core.grid(schedule, steps)
        like = torch.stack([torch.ones(4), torch.zeros(4)]).double()
        gamma_1 = gammas[0]
        variance = core.alpha(gamma_1) ** 2 * EIGENVALUES + core.sigma(gamma_1) ** 2
        for pair in gammas.unfold(0, 2, 1):
            step = core.sample(oracle, Ancestral(), pair, GivenNoise(Dense(like), 1 - like), like, torch.Generator())
            variance = step[0] ** 2 * variance + step[1] ** 2
        gamma_0 = gammas[-1]
        exact = core.alpha(gamma_0) ** 2 * EIGENVALUES + core.sigma(gamma_0) ** 2
        torch.testing.assert_close(variance, exact, rtol=1e-10, atol=1e-10)


class PairNetwork(nn.Module):
    """A small E(3)-equivariant, permutation-equivariant network on the blocks of a molecule-like state."""

    def forward(self, z: Tensor, gamma: Tensor, space: core.Space, condition: object = None) -> Tensor:
        inner = space.inner if isinstance(space, GivenNoise) else space
        assert isinstance(inner, core.Product)
        parts = inner.split(z)
        x, h = parts["positions"], parts["features"]
        mask = inner.blocks["positions"].mask  # type: ignore[attr-defined]
        pairs = (mask[:, :, None] & mask[:, None])[..., None]
        difference = x[:, :, None] - x[:, None]
        weight = (
            torch.exp(-difference.square().sum(-1, keepdim=True)) * (1 + h.sum(-1)[:, None, :, None].tanh()) * pairs
        )
        scale = core.sigma(gamma)[:, None, None].to(z)
        return inner.join(
            {"positions": scale * (difference * weight).sum(2), "features": scale * h.tanh() + weight.sum(2)}
        )


def molecule_bound(positions: Tensor, features: Tensor, mask: Tensor, streams: Streams, transitions: int) -> core.Elbo:
    space = molecule_space(mask, features.shape[-1])
    labels = features.argmax(-1)
    x = space.project(space.join({"positions": positions, "features": features}))
    data = {"positions": space.split(x)["positions"], "features": labels}
    denoiser = core.NetworkDenoiser(PairNetwork(), core.Eps())
    observation = ProductObservation({"positions": Gaussian(), "features": Categorical(1.0)})
    return elbo(denoiser, Cosine(-9.0, 6.0), space, x, observation, data, streams, transitions, draws=2)


@pytest.mark.parametrize("transitions", [0, 100])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_v18_padding_and_batch_composition_leave_every_term_unchanged(transitions: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = [3, 7, 5]
    mask = torch.arange(7) < torch.tensor(sizes)[:, None]
    positions = torch.randn(3, 7, 3, generator=generator, dtype=dtype) * mask[..., None]
    features = nn.functional.one_hot(torch.randint(4, (3, 7), generator=generator), 4).to(dtype) * mask[..., None]
    together = molecule_bound(positions, features, mask, Streams(5, torch.arange(3)), transitions)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    for i, n in enumerate(sizes):
        alone = molecule_bound(
            positions[i : i + 1, :n],
            features[i : i + 1, :n],
            mask[i : i + 1, :n],
            Streams(5, torch.tensor([i])),
            transitions,
        )
        for name, value in alone.terms.items():
            torch.testing.assert_close(value[0], together.terms[name][i], rtol=tolerance, atol=tolerance)


class Moved(core.Product):
    """A molecule space whose noise is that of ``source``, rotated and permuted like the molecule."""

    def __init__(self, source: core.Product, rotation: Tensor, order: Tensor) -> None:
        super().__init__(source.blocks)
        self.rotation, self.order = rotation, order

    def noise(self, like: Tensor, generator: core.Randomness) -> Tensor:
        parts = self.split(super().noise(like, generator))
        return self.join(
            {
                "positions": parts["positions"][:, self.order] @ self.rotation,
                "features": parts["features"][:, self.order],
            }
        )


@pytest.mark.parametrize("reflect", [False, True])
@pytest.mark.parametrize("transitions", [0, 100])
def test_v18_rotation_reflection_translation_and_permutation_leave_every_term_unchanged(
    reflect: bool, transitions: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    n = 6
    positions = torch.randn(2, n, 3, generator=generator, dtype=torch.float64)
    labels = torch.randint(4, (2, n), generator=generator)
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    if (torch.det(rotation) < 0) != reflect:
        rotation = -rotation
    order = torch.randperm(n, generator=generator)
    space = molecule_space(torch.ones(2, n, dtype=torch.bool), 4)
    observation = ProductObservation({"positions": Gaussian(), "features": Categorical(1.0)})
    denoiser = core.NetworkDenoiser(PairNetwork(), core.Eps())

    def bound(where: core.Product, points: Tensor, names: Tensor) -> core.Elbo:
        features = nn.functional.one_hot(names, 4).double()
        x = where.project(where.join({"positions": points, "features": features}))
        data = {"positions": where.split(x)["positions"], "features": names}
        return elbo(
            denoiser, Cosine(-9.0, 6.0), where, x, observation, data, Streams(1, torch.arange(2)), transitions, 2
        )

    still = bound(space, positions, labels)
    moved = bound(Moved(space, rotation, order), positions[:, order] @ rotation + 5.0, labels[:, order])
    for name, value in still.terms.items():
        torch.testing.assert_close(moved.terms[name], value, rtol=1e-10, atol=1e-10)


@schedules
def test_prior_term_is_the_closed_form_kl(schedule: Schedule) -> None:
    x = torch.tensor([[0.3, -1.2]], dtype=torch.float64)
    gamma_1 = torch.tensor([schedule.gamma_1], dtype=torch.float64)
    q = torch.distributions.Normal(core.alpha(gamma_1) * x, core.sigma(gamma_1))
    expected = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(prior_kl(x, gamma_1, Dense(x)), expected, rtol=1e-6, atol=1e-10)
