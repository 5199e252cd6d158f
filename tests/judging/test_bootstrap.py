import numpy as np
import pytest
from scipy.stats import binomtest

from medmol_diffusion.judging.bootstrap import Bootstrap


def every(bootstrap: Bootstrap) -> np.ndarray:
    return np.concatenate(list(bootstrap.weights()))


def test_weights_are_multinomial():
    """Mean 1, variance 1 - 1/n, covariance -1/n, and every draw adds up to n."""
    n, draws = 12, 40_000
    weights = every(Bootstrap(n, draws=draws))
    assert weights.shape == (draws, n)
    np.testing.assert_array_equal(weights.sum(axis=1), n)
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=5 * draws**-0.5)
    np.testing.assert_allclose(np.cov(weights.T), np.eye(n) - 1 / n, atol=10 * draws**-0.5)


def test_weights_are_the_same_wherever_they_are_asked_for_and_however_they_are_cut(monkeypatch):
    whole = every(Bootstrap(50, draws=70, seed=3))
    np.testing.assert_array_equal(whole, every(Bootstrap(50, draws=70, seed=3)))
    assert not np.array_equal(whole, every(Bootstrap(50, draws=70, seed=4)))
    monkeypatch.setattr("medmol_diffusion.judging.bootstrap._BLOCK", 600)
    blocks = list(Bootstrap(50, draws=70, seed=3).weights())
    assert [len(block) for block in blocks] == [12] * 5 + [10]
    np.testing.assert_array_equal(whole, np.concatenate(blocks))


def test_the_interval_of_a_mean_is_that_of_the_central_limit():
    values = np.random.default_rng(1).normal(size=2000)
    low, high = Bootstrap(2000, draws=4000).ratio(values, np.ones(2000))
    exact = 1.959964 * values.std() / 2000**0.5
    assert low == pytest.approx(values.mean() - exact, abs=0.08 * exact)
    assert high == pytest.approx(values.mean() + exact, abs=0.08 * exact)


def test_a_ratio_is_the_statistic_it_says_and_many_go_at_once():
    draw = np.random.default_rng(2)
    part, whole = draw.integers(0, 9, size=(30, 2)), draw.integers(9, 20, size=(30, 2))
    bootstrap = Bootstrap(30, draws=300)
    both = bootstrap.ratio(part, whole)
    np.testing.assert_allclose(both, bootstrap.interval(lambda w: (w @ part) / (w @ whole)))
    for k in range(2):
        np.testing.assert_allclose(bootstrap.ratio(part[:, k], whole[:, k]), both[:, k])
        np.testing.assert_allclose(bootstrap.fraction(part[:, k], whole[:, k]), both[:, k])


def test_draws_that_have_nothing_to_divide_by_are_left_out():
    whole = np.array([1, 0, 0])
    np.testing.assert_array_equal(Bootstrap(3).ratio(whole, whole), [1, 1])
    assert np.isnan(Bootstrap(3).ratio(whole, 0 * whole)).all()
    assert Bootstrap(3).interval(lambda weights: weights[:2]).shape == (2, 2)


@pytest.mark.parametrize("n", [1, 10, 1000])
def test_all_or_nothing_has_the_exact_binomial_limit(n):
    ones, zeros = np.ones(n), np.zeros(n)
    bootstrap = Bootstrap(n)
    for part, k in ((ones, n), (zeros, 0)):
        exact = binomtest(k, n).proportion_ci(0.95, "exact")
        np.testing.assert_allclose(bootstrap.fraction(part, ones), [exact.low, exact.high])
    few = np.arange(n) < 1
    assert bootstrap.fraction(few, few)[0] == pytest.approx(0.025)


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_molecules_have_no_interval_but_the_exact_one_of_all_or_nothing(n):
    """A resample of one value is that value: percentiles would have no width, and call the mean certain."""
    bootstrap, ones, some = Bootstrap(n), np.ones(n), np.arange(1.0, n + 1)
    assert np.isnan(bootstrap.ratio(some, ones)).all()
    assert np.isnan(bootstrap.interval(lambda weights: weights @ some)).all()
    assert np.isnan(bootstrap.centred(1.0, lambda weights: weights @ some)).all()
    part = np.stack([ones, 0 * ones, ones / 2], axis=1)
    limits = bootstrap.fraction(part, np.stack([ones] * 3, axis=1))
    exact = [binomtest(k, n).proportion_ci(0.95, "exact") for k in (n, 0)]
    np.testing.assert_allclose(limits[:, 0], [exact[0].low, 1])
    np.testing.assert_allclose(limits[:, 1], [0, exact[1].high])
    assert np.isnan(limits[:, 2]).all()


def test_a_fraction_of_fewer_than_three_that_count_has_no_interval():
    whole = np.array([1, 1, 0, 0, 0])
    assert np.isnan(Bootstrap(5).fraction(np.array([1, 0, 0, 0, 0]), whole)).all()


def test_the_centred_interval_is_the_spread_of_the_draws_put_round_the_value():
    values = np.random.default_rng(4).normal(size=500)
    bootstrap = Bootstrap(500, draws=2000)

    def lifted(weights):
        return float(weights @ values / 500 + 7)

    low, high = bootstrap.centred(3.0, lifted)
    exact = 1.959964 * values.std() / 500**0.5
    assert (low, high) == (pytest.approx(3 - exact, abs=0.1 * exact), pytest.approx(3 + exact, abs=0.1 * exact))
    assert bootstrap.centred(0.0, lifted)[0] == 0
    assert np.isnan(bootstrap.centred(1.0, lambda weights: float("nan"))).all()


@pytest.mark.parametrize("options", [{"size": 0}, {"size": 2, "draws": 0}, {"size": 2, "level": 1.0}])
def test_what_cannot_be_drawn_is_refused(options):
    with pytest.raises(ValueError, match=r"at least 1|between 0 and 1"):
        Bootstrap(**options)
