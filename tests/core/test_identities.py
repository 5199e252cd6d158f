"""The identities of the likelihood, one test each, named after docs/theory: exact denoisers, both precisions."""

import itertools
import math

import pytest
import torch
from scipy.special import roots_hermitenorm, roots_legendre
from torch import Tensor

from medmol_diffusion import core
from medmol_diffusion.core import (
    Dense,
    GaussianDenoiser,
    LinearGamma,
    Schedule,
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
from tests.core.oracle import (
    EIGENVALUES,
    GivenNoise,
    Seen,
    every_space,
    fine_edges,
    precisions,
    readings,
    schedules,
    sigma_points,
    spaces_of,
    subspace_basis,
    zero_centre_basis,
)


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
        edges = fine_edges(pieces)
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


def points(oracle: GaussianDenoiser, dtype: torch.dtype) -> tuple[Tensor, core.Space]:
    """``sigma_points`` in one precision; GivenNoise follows the state's own."""
    x, space = sigma_points(oracle, (4,))
    return x.to(dtype), space


@schedules
@readings
@precisions
def test_v01_continuous_term_is_half_the_log_snr_ratio(
    schedule: Schedule, reading: core.Parameterization, dtype: torch.dtype
) -> None:
    oracle = GaussianDenoiser(EIGENVALUES)
    x, space = points(oracle, dtype)
    expected = exact_diffusion(EIGENVALUES, schedule)
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-5}[dtype] * max(1, expected)
    assert quadrature(schedule, Seen(oracle, reading), x, space) == pytest.approx(expected, abs=tolerance)


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
@readings
@precisions
def test_v02_gap_of_the_bound_is_prior_plus_decoder_kl(
    schedule: Schedule, reading: core.Parameterization, dtype: torch.dtype
) -> None:
    oracle = GaussianDenoiser(EIGENVALUES)
    x, space = points(oracle, dtype)
    seen = Seen(oracle, reading)
    bound = elbo(seen, schedule, space, x, Gaussian(), x, torch.Generator())
    total = (
        bound.terms["prior"].mean().item()
        + quadrature(schedule, seen, x, space)
        + bound.terms["reconstruction"].mean().item()
    )
    gap = marginal_prior_kl(EIGENVALUES, schedule) + posterior_gap(EIGENVALUES, schedule)
    assert total - oracle.entropy() == pytest.approx(gap, abs={torch.float64: 1e-8, torch.float32: 1e-3}[dtype])


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


@readings
@precisions
def test_v03_discrete_bound_approaches_the_continuous_one_at_first_order(
    reading: core.Parameterization, dtype: torch.dtype
) -> None:
    schedule = LinearGamma(-6.0, 4.0)
    oracle = GaussianDenoiser(EIGENVALUES)
    x, space = points(oracle, dtype)
    oracle = Seen(oracle, reading)
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
def test_v04_the_discrete_bound_falls_when_T_doubles(schedule: Schedule) -> None:
    """Strictly, down to the continuous bound: on Gaussian data with exact expectations, and on a mixture, where the
    same expectations are sums over a grid of quadrature."""
    oracle = GaussianDenoiser(EIGENVALUES)
    x, space = sigma_points(oracle, (4,))
    found = [discrete_terms(oracle, schedule, x, space, 2**k).mean().item() for k in range(10)]
    limit = exact_diffusion(EIGENVALUES, schedule)
    assert all(a > b > limit for a, b in itertools.pairwise(found))

    mixture, x, eps, weights = mixture_nodes(12)
    means = [(discrete_terms(mixture, schedule, x, GivenNoise(Dense(x), eps), 2**k) * weights).sum() for k in range(8)]
    assert all(a > b for a, b in itertools.pairwise(means))


@schedules
@readings
@precisions
@pytest.mark.parametrize("steps", [1, 2, 7, 100])
def test_v05_optimal_variance_is_exact_for_every_T(
    schedule: Schedule, steps: int, reading: core.Parameterization, dtype: torch.dtype
) -> None:
    oracle = GaussianDenoiser(EIGENVALUES, optimal_variance=True)
    x, space = points(oracle, dtype)
    seen = Seen(oracle, reading)
    bound = elbo(seen, schedule, space, x, Gaussian(), x, torch.Generator(), transitions=steps, draws=None)
    gap = bound.total.mean().item() - oracle.entropy()
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-3}[dtype]
    assert gap == pytest.approx(marginal_prior_kl(EIGENVALUES, schedule), abs=tolerance)


def mixture_nodes(count: int) -> tuple[core.MixtureDenoiser, Tensor, Tensor, Tensor]:
    """A mixture on the line and Gauss-Hermite nodes for its x and for eps: (denoiser, x, eps [n, 1], weights [n])."""
    means, stds, share = (torch.tensor(v, dtype=torch.float64) for v in ([-0.9, 1.1], [0.5, 0.45], [0.45, 0.55]))
    nodes, weights = (torch.from_numpy(v) for v in roots_hermitenorm(count))
    weights = weights / weights.sum()
    x = (means[:, None, None] + stds[:, None, None] * nodes[:, None]).expand(-1, -1, count)
    eps = nodes.expand(2, count, count)
    joint = share[:, None, None] * weights[:, None] * weights
    return core.MixtureDenoiser(means[:, None], stds, share), x.reshape(-1, 1), eps.reshape(-1, 1), joint.flatten()


def test_v07_mixture_bound_minus_entropy_by_quadrature() -> None:
    """Nothing is drawn: x, eps and gamma are integrated. The gap is the prior's KL plus the decoder's, each found on a
    grid of its own, and at gamma_1 = 10 the bound is the entropy to within what those two are worth."""
    schedule = LinearGamma(-12.0, 10.0)
    oracle, x, eps, weights = mixture_nodes(96)
    space = GivenNoise(Dense(x), eps)

    def total_diffusion() -> float:
        panels, total = 40, 0.0
        nodes, gauss = roots_legendre(8)
        for i in range(panels):
            for node, weight in zip(nodes, gauss, strict=True):
                t = torch.full((len(x),), (i + (node + 1) / 2) / panels, dtype=torch.float64)
                gamma = schedule.gamma(t)
                prediction = oracle(diffuse(x, eps, gamma), gamma, Dense(x))
                integrand = continuous_integrand(prediction, x, eps, schedule.derivative(t))[:, 0]
                total += (weights * integrand).sum().item() * weight / (2 * panels)
        return total

    bound = elbo(oracle, schedule, space, x, Gaussian(), x, torch.Generator())
    ends = [bound.terms[name] for name in ("prior", "reconstruction")]
    total = sum((weights * v).sum().item() for v in ends) + total_diffusion()

    grid = torch.linspace(-8, 8, 32_001, dtype=torch.float64)[:, None]
    width = (grid[1] - grid[0]).item()
    log_p = oracle.log_prob(grid)
    entropy = -(log_p.exp() * log_p).sum().item() * width
    ends_of = [torch.full((len(grid),), g, dtype=torch.float64) for g in (schedule.gamma_0, schedule.gamma_1)]
    log_noise = oracle.log_prob(grid, ends_of[1])
    normal = -0.5 * (grid[:, 0].square() + math.log(2 * math.pi))
    prior = (log_noise.exp() * (log_noise - normal)).sum().item() * width
    # E KL(q(x | z_0) || N(x_hat, e^gamma_0)) = H[z_0 | x] + H[x] - H[z_0] taken from the decoder's cross-entropy.
    log_z = oracle.log_prob(grid, ends_of[0])
    posterior_entropy = (
        entropy
        + 0.5 * (math.log(2 * math.pi * math.e) + core.schedule.log_sigma_squared(ends_of[0][0]).item())
        + (log_z.exp() * log_z).sum().item() * width
    )
    decoder = (weights * bound.terms["reconstruction"]).sum().item() - posterior_entropy
    assert total - entropy == pytest.approx(prior + decoder, abs=5e-8)
    assert total - entropy == pytest.approx(0, abs=1e-5)
    assert prior + decoder > 5e-7  # and they are there to be seen


@precisions
@pytest.mark.parametrize(("n", "entropy"), [(5, 21.892843), (19, 98.517797)])
def test_v11_zero_centre_bound_is_the_entropy_on_its_own_dimensions(n: int, entropy: float, dtype: torch.dtype) -> None:
    # In float32 x_hat holds no digit below 1e-7, and a decoder of width e^-15 would see what is lost.
    schedule = LinearGamma(*{torch.float64: (-30.0, 30.0), torch.float32: (-16.0, 16.0)}[dtype])
    oracle = GaussianDenoiser(torch.full((3 * (n - 1),), 1.5**2, dtype=torch.float64), zero_centre_basis(n))
    x, given = sigma_points(oracle, (n, 3))
    x = x.to(dtype)
    space = GivenNoise(ZeroCentre(torch.ones(len(x), n, dtype=torch.bool)), given.noise(x, torch.Generator()))
    bound = elbo(oracle, schedule, space, x, Gaussian(), x, torch.Generator())
    diffusion = quadrature(schedule, oracle, x, space, pieces=120)
    total = bound.terms["prior"].mean().item() + diffusion + bound.terms["reconstruction"].mean().item()
    assert bound.dim.tolist() == [3.0 * (n - 1)] * len(x)
    assert oracle.entropy() == pytest.approx(entropy, abs=1e-6)
    assert total == pytest.approx(entropy, abs={torch.float64: 1e-6, torch.float32: 1e-2}[dtype])


@schedules
@every_space
@precisions
@pytest.mark.parametrize("transitions", [0, 50])
def test_v12_every_space_equals_dense_on_an_orthonormal_basis(
    schedule: Schedule, transitions: int, where: str, dtype: torch.dtype
) -> None:
    """Same noise, every term, anisotropic data."""
    batch = 5
    space = spaces_of(batch)[where]
    basis = subspace_basis(space)
    d = basis.shape[1]
    eigenvalues = torch.linspace(0.2, 3.0, d, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    coordinates, noise = (torch.randn(batch, d, generator=generator, dtype=torch.float64) for _ in range(2))
    state, state_noise = ((v @ basis.T).reshape(space.shape) for v in (coordinates, noise))
    results = [
        elbo(denoiser, schedule, given, x, Gaussian(), x, torch.Generator().manual_seed(3), transitions, draws=3)
        for denoiser, given, x in [
            (GaussianDenoiser(eigenvalues, basis), GivenNoise(space, state_noise), state.to(dtype)),
            (GaussianDenoiser(eigenvalues), GivenNoise(Dense(coordinates), noise), coordinates.to(dtype)),
        ]
    ]
    tolerance = {torch.float64: 1e-10, torch.float32: 2e-4}[dtype]
    for name in results[0].terms:
        torch.testing.assert_close(results[0].terms[name], results[1].terms[name], rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(results[0].dim, results[1].dim)


@precisions
@pytest.mark.parametrize("gamma_0", [-12.0, -4.0, 1.0])
def test_v14_discrete_observations_sum_to_one_over_their_cells(gamma_0: float, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    gamma = torch.full((20,), gamma_0, dtype=torch.float64)
    z = torch.randn(20, 1, generator=generator, dtype=dtype)
    space = Dense(z)

    levels = 256
    centres = 2 * torch.arange(levels, dtype=torch.float64) / (levels - 1) - 1
    observation = DiscretizedGaussian(levels)
    mass = sum(
        torch.exp(-observation.nll((centre.expand(20, 1), torch.ones(20, 1, dtype=torch.bool)), z, gamma, space))
        for centre in centres
    )
    torch.testing.assert_close(mass, torch.ones(20, dtype=torch.float64), rtol=0, atol=1e-12)

    one_hot = torch.randn(20, 1, 5, generator=generator, dtype=dtype)
    labels = [torch.full((20, 1), k) for k in range(5)]
    mass = sum(torch.exp(-Categorical(4.0).nll(k, one_hot, gamma, Dense(one_hot))) for k in labels)
    torch.testing.assert_close(mass, torch.ones(20, dtype=torch.float64), rtol=0, atol=1e-12)

    charge = torch.rand(20, 1, 1, generator=generator, dtype=dtype)
    mass = sum(
        torch.exp(-Ordinal(10.0).nll(torch.full((20, 1), q), charge, gamma, Dense(charge))) for q in range(-90, 110)
    )
    torch.testing.assert_close(mass, torch.ones(20, dtype=torch.float64), rtol=0, atol=1e-12)


@schedules
@precisions
def test_v16_scaling_the_data_adds_dim_log_c(schedule: Schedule, dtype: torch.dtype) -> None:
    """NLL(c x) = NLL(x) + dim log c: data given in another unit, encoded back by 1/c, with log_volume = -dim log c."""
    c = 1 / 0.529177
    oracle = GaussianDenoiser(EIGENVALUES)
    x, space = points(oracle, dtype)

    def bound(data: Tensor, scale: float) -> core.Elbo:
        state = data * scale
        found = elbo(oracle, schedule, space, state, Gaussian(), state, torch.Generator().manual_seed(0), draws=2)
        return found.with_terms(log_volume=found.dim * math.log(scale))

    expected = bound(x, 1.0).total + 4 * math.log(c)
    tolerance = {torch.float64: 1e-10, torch.float32: 1e-4}[dtype]
    torch.testing.assert_close(bound(c * x, 1 / c).total, expected, rtol=tolerance, atol=tolerance)


@schedules
def test_prior_term_is_the_closed_form_kl(schedule: Schedule) -> None:
    x = torch.tensor([[0.3, -1.2]], dtype=torch.float64)
    gamma_1 = torch.tensor([schedule.gamma_1], dtype=torch.float64)
    q = torch.distributions.Normal(core.alpha(gamma_1) * x, core.sigma(gamma_1))
    expected = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(prior_kl(x, gamma_1, Dense(x)), expected, rtol=1e-6, atol=1e-10)
