"""V15 and the weights behind it: the importance-weighted bound."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from medmol_diffusion import core
from medmol_diffusion.core import Dense, Elbo, GaussianDenoiser, LinearGamma, Schedule, Streams, diffuse, elbo, iwae
from medmol_diffusion.core.elbo import prior_kl, transition_kl
from medmol_diffusion.core.iwae import prior_log_ratio, transition_log_ratio
from medmol_diffusion.core.observation import Gaussian
from tests.core.oracle import (
    EIGENVALUES,
    GivenNoise,
    Seen,
    every_space,
    precisions,
    readings,
    schedules,
    sigma_points,
    spaces_of,
    subspace_basis,
)

ORACLE = GaussianDenoiser(EIGENVALUES)
EXACT = GaussianDenoiser(EIGENVALUES, optimal_variance=True)


@schedules
@readings
@precisions
@pytest.mark.parametrize(("transitions", "draws"), [(1, 1), (3, 1), (10, 3)])
def test_v15_every_weight_is_the_density_where_the_reverse_process_is_exact(
    schedule: Schedule, reading: core.Parameterization, dtype: torch.dtype, transitions: int, draws: int
) -> None:
    """With the optimal reverse variance p(z_1, ..., z_0, x) is the true joint but for its prior, so log w = log p(x) +
    log N(z_1; 0, I) - log p_1(z_1) for every trajectory, every T and every K: nothing is left to average over."""
    x = EXACT.sample(torch.zeros(5, 4, dtype=torch.float64), torch.Generator().manual_seed(0)).to(dtype)
    eps = torch.randn(5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = iwae(
        Seen(EXACT, reading), schedule, GivenNoise(Dense(x), eps), x, Gaussian(), x, torch.Generator(),
        transitions, draws,
    )  # fmt: skip
    gamma_1 = torch.full((5,), schedule.gamma_1, dtype=torch.float64)
    z_1 = diffuse(x.double(), eps, gamma_1)
    prior = -0.5 * (z_1.square() + math.log(2 * math.pi)).sum(1)
    expected = -EXACT.log_prob(x.double()) - prior + EXACT.log_prob(z_1, gamma_1)
    tolerance = {torch.float64: 1e-7, torch.float32: 2e-2}[dtype]
    torch.testing.assert_close(found.total, expected, rtol=0, atol=tolerance)
    torch.testing.assert_close(found.terms["importance"], torch.zeros(5).double(), rtol=0, atol=1e-12)


def drawn(transitions: int, draws: int, count: int = 4000, seed: int = 0) -> tuple[Elbo, Tensor]:
    x = ORACLE.sample(torch.zeros(count, 4, dtype=torch.float64), torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed + 1)
    return iwae(ORACLE, LinearGamma(-5.0, 12.0), Dense(x), x, Gaussian(), x, generator, transitions, draws), x


def test_v15_one_draw_is_the_discrete_bound_in_expectation_term_by_term() -> None:
    found, x = drawn(8, 1)
    bound = elbo(ORACLE, LinearGamma(-5.0, 12.0), Dense(x), x, Gaussian(), x, torch.Generator().manual_seed(9), 8, None)
    for name in ("prior", "diffusion", "reconstruction", "total"):
        ours, theirs = (getattr(b, name, None) if name == "total" else b.terms[name] for b in (found, bound))
        difference = ours - theirs
        error = difference.std().item() / math.sqrt(len(x))
        assert abs(difference.mean().item()) < 3 * error + 1e-6
        assert error < 0.02 * bound.total.mean().abs().item()  # and the test can tell
    assert found.terms["importance"].abs().max() < 1e-12
    assert found.draw_variance.isnan().all()


def test_v15_the_bound_falls_with_K_and_stays_above_the_truth() -> None:
    """Each drop is many standard errors wide; at K = 64 less than a quarter of the gap is left."""
    means, gaps = [], []
    for draws in (1, 4, 16, 64):
        found, x = drawn(8, draws)
        gap = found.total + ORACLE.log_prob(x)
        means.append(gap.mean().item())
        gaps.append(gap.std().item() / math.sqrt(len(x)))
    for (high, low), (error, other) in zip(itertools.pairwise(means), itertools.pairwise(gaps), strict=True):
        assert high - low > 4 * math.hypot(error, other)
    assert means[-1] > -3 * gaps[-1]
    assert means[-1] < 0.25 * means[0]


def test_v15_weights_are_unbiased() -> None:
    """E[w] = p(x), the density of x under the T-step model itself, whatever T. It is known for Gaussian data: the
    ancestral chain is linear."""
    schedule, steps = LinearGamma(-3.0, 3.0), 3
    variance = torch.ones(4, dtype=torch.float64)
    gammas = core.grid(schedule, steps)
    for t, s in itertools.pairwise(gammas):
        c = -torch.expm1(s - t)
        gain = (
            core.alpha(s)
            / core.alpha(t)
            * (1 - c * core.sigma(t) ** 2 / (core.alpha(t) ** 2 * EIGENVALUES + core.sigma(t) ** 2))
        )
        variance = gain**2 * variance + core.sigma(s) ** 2 * c
    g = gammas[-1]
    decoder = core.alpha(g) * EIGENVALUES / (core.alpha(g) ** 2 * EIGENVALUES + core.sigma(g) ** 2)
    model = GaussianDenoiser(decoder**2 * variance + g.exp())

    one = torch.tensor([[0.3, -0.5, 1.0, 0.7]], dtype=torch.float64)
    x = one.expand(4000, 4)
    found = iwae(ORACLE, schedule, Dense(x), x, Gaussian(), x, torch.Generator().manual_seed(0), steps)
    ratio = torch.exp(-found.total + -model.log_prob(one))
    error = ratio.std().item() / math.sqrt(len(x))
    assert abs(ratio.mean().item() - 1) < 4 * error
    assert error < 0.02


def test_log_ratios_average_to_their_divergences() -> None:
    """Exactly: x, eps and the fresh noise have exact second moments, and both are quadratic in them."""
    for oracle in (ORACLE, EXACT):
        x, given = sigma_points(oracle, (4,))
        eps = given.noise(x, torch.Generator())
        gamma_t, gamma_s = torch.full((8,), 1.0).double(), torch.full((8,), -2.0).double()
        x, eps = torch.cat([x, x]), torch.cat([eps, eps])
        fresh = torch.cat([torch.ones(4, 4), -torch.ones(4, 4)]).double()
        space = Dense(x)
        prediction = oracle(diffuse(x, eps, gamma_t), gamma_t, space)
        ratio = transition_log_ratio(prediction, x, eps, fresh, gamma_s).sum(1).mean()
        torch.testing.assert_close(ratio, transition_kl(prediction, x, eps, gamma_s).sum(1).mean())
        torch.testing.assert_close(
            prior_log_ratio(x, eps, gamma_t, space).mean(), prior_kl(x, gamma_t, space).mean(), rtol=1e-12, atol=1e-12
        )


@every_space
def test_every_space_equals_dense_on_an_orthonormal_basis(where: str) -> None:
    batch = 4
    space = spaces_of(batch)[where]
    basis = subspace_basis(space)
    eigenvalues = torch.linspace(0.2, 3.0, basis.shape[1], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    coordinates, noise = (torch.randn(batch, len(eigenvalues), generator=generator).double() for _ in range(2))
    state, state_noise = ((v @ basis.T).reshape(space.shape) for v in (coordinates, noise))
    found, expected = (
        iwae(denoiser, LinearGamma(-6.0, 6.0), given, x, Gaussian(), x, torch.Generator(), 5, 2)
        for denoiser, given, x in [
            (GaussianDenoiser(eigenvalues, basis), GivenNoise(space, state_noise), state),
            (GaussianDenoiser(eigenvalues), GivenNoise(Dense(coordinates), noise), coordinates),
        ]
    )
    for name, value in expected.terms.items():
        torch.testing.assert_close(found.terms[name], value, rtol=1e-10, atol=1e-10)


def test_the_draw_variance_is_the_spread_of_repeated_estimates() -> None:
    """One x, 600 repetitions: the jackknife's variance against the observed one."""
    x = torch.tensor([[0.2, -0.5, 1.0, 0.7]], dtype=torch.float64).expand(600, 4)
    streams = Streams(0, torch.arange(600))
    found = iwae(ORACLE, LinearGamma(-2.0, 3.0), Dense(x), x, Gaussian(), x, streams, 20, 16)
    assert found.draw_variance.mean().item() == pytest.approx(found.total.var().item(), rel=0.25)
    assert found.settings == {"gamma_0": -2.0, "gamma_1": 3.0, "transitions": 20.0, "draws": 16.0}
    assert found.method == "iwae"


@pytest.mark.parametrize("draws", [2, 8])
def test_the_draw_variance_knows_weights_of_which_one_outweighs_all(draws: int) -> None:
    """A poor denoiser on 40 dimensions: log-weights spread by many nats, the observed spread within a factor of two."""
    oracle = GaussianDenoiser(torch.full((40,), 4.0, dtype=torch.float64))
    x = torch.linspace(-1, 1, 40, dtype=torch.float64).expand(400, 40)
    found = iwae(oracle, LinearGamma(-8.0, 6.0), Dense(x), x, Gaussian(), x, Streams(0, torch.arange(400)), 10, draws)
    spread = found.total.std().item()
    assert spread > 4
    assert spread / 2 < found.draw_variance.mean().sqrt().item() < 2 * spread


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="transitions = 0"):
        drawn(0, 1, 2)
    with pytest.raises(ValueError, match="draws = 0"):
        drawn(3, 0, 2)


class Silent(LinearGamma):
    """Zero terminal SNR: gamma = inf at t = 1."""

    def gamma(self, t: Tensor) -> Tensor:
        return torch.where(t == 1, torch.inf, super().gamma(t))


def test_zero_terminal_snr_needs_a_denoiser_that_speaks_of_x() -> None:
    """At gamma_1 = inf z_1 is noise and p_1 the prior, so that every weight is p(x) itself."""
    schedule, x = Silent(-6.0, 6.0), EXACT.sample(torch.zeros(5, 4).double(), torch.Generator().manual_seed(0))

    class Wiener(core.Denoiser):
        def forward(self, z: Tensor, gamma: Tensor, space: core.Space, condition: object = None) -> core.Prediction:
            a, b = core.alpha(gamma)[:, None], core.sigma(gamma)[:, None]
            marginal = a**2 * EIGENVALUES + b**2
            variance = EIGENVALUES * b**2 / marginal
            return core.Prediction(a * EIGENVALUES / marginal * z, z, gamma, core.X(), space, variance)

    found = iwae(Wiener(), schedule, Dense(x), x, Gaussian(), x, torch.Generator().manual_seed(1), 6, 2)
    torch.testing.assert_close(found.total, -EXACT.log_prob(x), rtol=0, atol=1e-9)
    network = core.NetworkDenoiser(torch.nn.Identity(), core.Eps())
    with pytest.raises(ValueError, match="zero terminal SNR"):
        iwae(network, schedule, Dense(x), x, Gaussian(), x, torch.Generator(), 6)
