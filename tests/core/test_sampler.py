import math

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from medmol_diffusion.core import (
    DDIM,
    GRIDS,
    STEPPERS,
    Ancestral,
    Cosine,
    Dense,
    DPMSolver3M,
    GaussianDenoiser,
    Heun,
    Langevin,
    LinearGamma,
    NetworkDenoiser,
    PerBlock,
    Polynomial,
    Schedule,
    Space,
    Stepper,
    Streams,
    Tempered,
    UniPC,
    V,
    X,
    gaussian_flow,
    grid,
    sample,
    stepper_named,
)
from medmol_diffusion.core.schedule import Tabulated
from tests.core.oracle import GivenNoise, molecule_space

EIGENVALUES = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)


class Levels(Tabulated):
    """A table that may end at inf."""

    def __init__(self, table: Tensor) -> None:
        super().__init__(table[:-1])
        self.table = table

    def gamma(self, t: Tensor) -> Tensor:
        left, right, fraction = self._at(t)
        return torch.where(fraction == 0, left, torch.where(fraction == 1, right, left + (right - left) * fraction))


@pytest.mark.parametrize("schedule", [LinearGamma(), Cosine(), Polynomial()], ids=["linear", "cosine", "polynomial"])
def test_grids_run_between_the_ends_of_the_schedule(schedule: Schedule) -> None:
    for kind in GRIDS:
        gammas = grid(schedule, 7, kind)
        assert gammas.shape == (8,)
        assert (gammas.diff() < 0).all()
        assert gammas[[0, -1]].tolist() == pytest.approx([schedule.gamma_1, schedule.gamma_0])
    torch.testing.assert_close(grid(schedule, 4), schedule.gamma(torch.tensor([1, 0.75, 0.5, 0.25, 0])))
    assert grid(schedule, 5, "gamma").diff().std() < 1e-12
    torch.testing.assert_close(
        grid(schedule, 6, "karras", start=0.2, end=0.7).flip(0), grid(schedule, 6, "karras", 0.7, 0.2)
    )
    part = grid(schedule, 3, "gamma", start=0.5)
    assert part[0] == schedule.gamma(torch.tensor(0.5))


def test_karras_spaces_the_levels_as_the_paper_does() -> None:
    """sigma_i = (a^(1/7) + i/n (b^(1/7) - a^(1/7)))^7 between the schedule's ends, sigma = e^(gamma/2)."""
    gammas = grid(LinearGamma(-12.4, 8.8), 9, "karras")
    high, low = math.exp(4.4) ** (1 / 7), math.exp(-6.2) ** (1 / 7)
    expected = [(high + i / 9 * (low - high)) ** 7 for i in range(10)]
    torch.testing.assert_close((gammas / 2).exp(), torch.tensor(expected, dtype=torch.float64))


def test_trailing_visits_levels_of_the_model_from_pure_noise_to_gamma_0() -> None:
    """Lin et al. 2024, table 2, moved by one: t = 0 is their first level, not the data."""
    gammas = torch.linspace(-9, 6, 1000, dtype=torch.float64)
    gammas[-1] = math.inf
    schedule = Levels(gammas)
    for steps in (1, 2, 3, 7, 10, 999):
        places = [round(999 * (1 - i / steps)) for i in range(steps + 1)]
        found = grid(schedule, steps, "trailing")
        assert found.tolist() == pytest.approx(gammas[places].tolist(), rel=1e-12)
        assert found[0] == math.inf
        assert found[-1] == gammas[0]
    with pytest.raises(ValueError, match="steps = 1000 must be at most 999"):
        grid(schedule, 1000, "trailing")
    for kind in ("gamma", "karras"):
        with pytest.raises(ValueError, match=f"a '{kind}' grid cannot run from gamma = inf .*choose time or trailing"):
            grid(schedule, 10, kind)
        assert grid(schedule, 10, kind, start=0.5).isfinite().all()
    torch.testing.assert_close(grid(Cosine(), 6, "trailing"), grid(Cosine(), 6, "time"))


def test_impossible_grids_and_steppers_are_refused() -> None:
    with pytest.raises(ValueError, match="steps = 0"):
        grid(LinearGamma(), 0)
    with pytest.raises(ValueError, match="unknown grid 'leading': choose one of time, trailing, gamma, karras"):
        grid(LinearGamma(), 3, "leading")
    with pytest.raises(ValueError, match="eta"):
        DDIM(1.5)
    with pytest.raises(ValueError, match="eta = -1"):
        DPMSolver3M(-1)
    with pytest.raises(ValueError, match="order = 3"):
        UniPC(3)
    with pytest.raises(ValueError, match="snr = 0"):
        Langevin(snr=0)
    with pytest.raises(ValueError, match="corrections = 0"):
        Langevin(corrections=0)
    with pytest.raises(ValueError, match=r"noise_scale = 1.1 must lie in \(0, 1\]"):
        Tempered(DPMSolver3M(), 1.1)
    with pytest.raises(ValueError, match="Heun draws no noise for noise_scale to act on"):
        Tempered(Heun(), 0.9)
    with pytest.raises(ValueError, match="unknown sampler 'magic': choose one of ancestral, ddim"):
        stepper_named("magic")


@pytest.mark.parametrize(("stepper", "order", "there_and_back"), [(DDIM(), 1, 1), (Heun(), 2, 3)], ids=["ddim", "heun"])
def test_inversion_is_the_reversed_grid_and_returns(stepper: Stepper, order: int, there_and_back: int) -> None:
    """Each way follows the exact flow at the stepper's order; on the way back the leading error of an even order
    cancels."""
    oracle = GaussianDenoiser(EIGENVALUES)
    z = torch.tensor([[0.3, -1.0, 2.0]], dtype=torch.float64)

    def errors(steps: int) -> tuple[float, float]:
        gammas = grid(LinearGamma(-3.0, 3.0), steps, "gamma")
        noise = sample(oracle, stepper, gammas.flip(0), Dense(z), z, torch.Generator())
        back = sample(oracle, stepper, gammas, Dense(z), noise, torch.Generator())
        return (noise - gaussian_flow(z, EIGENVALUES, -3.0, 3.0)).abs().max().item(), (back - z).abs().max().item()

    coarse, fine = errors(200), errors(400)
    assert fine[1] < 0.02
    assert math.log2(coarse[0] / fine[0]) == pytest.approx(order, abs=0.05)
    assert math.log2(coarse[1] / fine[1]) == pytest.approx(there_and_back, abs=0.05)


def test_ddim_with_eta_one_is_ancestral() -> None:
    """Same mean (no noise) and same standard deviation (what unit noise adds) over any pair of levels."""
    oracle = GaussianDenoiser(EIGENVALUES)
    z = torch.tensor([[0.3, -1.0, 2.0]], dtype=torch.float64)
    for pair in ([4.0, 3.9], [4.0, -4.0], [-2.0, -9.0], [11.5, -11.5]):
        for eps in (torch.zeros_like(z), torch.ones_like(z)):
            space = GivenNoise(Dense(z), eps)
            steps = [
                sample(oracle, stepper, torch.tensor(pair, dtype=torch.float64), space, z, torch.Generator())
                for stepper in (Ancestral(), DDIM(eta=1.0))
            ]
            torch.testing.assert_close(steps[0], steps[1], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("stepper", [*(kind() for kind in STEPPERS.values()), DDIM(0.5)], ids=[*STEPPERS, "ddim-0.5"])
def test_a_sample_does_not_know_its_batch(stepper: Stepper) -> None:
    sizes = torch.tensor([4, 2, 3])
    mask = torch.arange(4) < sizes[:, None]

    def run(rows: list[int], mask: Tensor) -> Tensor:
        space = molecule_space(mask, 2)
        streams = Streams(3, torch.tensor(rows))
        denoiser = GaussianDenoiser(torch.full((space.shape[1],), 0.6, dtype=torch.float64))
        z = space.noise(torch.zeros(space.shape, dtype=torch.float64), streams)
        x = sample(denoiser, stepper, grid(Cosine(-8.0, 8.0), 6), space, z, streams)
        torch.testing.assert_close(space.project(x), x)
        return torch.cat([part for part in space.split(x).values()], dim=-1)

    together = run([0, 1, 2], mask)
    assert torch.equal(run([2, 0], mask[[2, 0]]), together[[2, 0]])
    alone = run([1], mask[[1], :2])
    torch.testing.assert_close(alone[0], together[1, :2], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", STEPPERS)
def test_a_sample_does_not_know_how_far_ahead_its_noise_is_drawn(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    space = molecule_space(torch.arange(4) < torch.tensor([4, 2])[:, None], 2)
    denoiser = GaussianDenoiser(torch.full((space.shape[1],), 0.6, dtype=torch.float64))

    def run() -> Tensor:
        streams = Streams(3, torch.arange(2))
        z = space.noise(torch.zeros(space.shape, dtype=torch.float64), streams)
        return sample(denoiser, stepper_named(name), grid(Cosine(-8.0, 8.0), 20), space, z, streams)

    ahead = run()
    for numbers in (0, 3 * space.shape[0] * space.shape[1]):
        monkeypatch.setattr("medmol_diffusion.core.sampler._AHEAD_NUMBERS", numbers)
        torch.testing.assert_close(run(), ahead, rtol=1e-12, atol=1e-12)


class Halve(torch.nn.Module):
    """A network that is cheap and waits for nothing."""

    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: object = None) -> Tensor:
        return z / 2


@pytest.mark.parametrize("name", STEPPERS)
def test_the_loop_asks_the_device_for_no_value(name: str) -> None:
    """Tensors on "meta" have a shape and no values: .item(), bool() and nonzero() raise there."""
    z = torch.empty(2, 3, 4, device="meta")
    gammas = grid(Cosine(-8.0, 8.0), 5)
    for generator in (torch.Generator(), Streams(0, torch.arange(2))):
        end = sample(NetworkDenoiser(Halve(), V()), stepper_named(name), gammas, Dense(z), z, generator)
        assert end.shape == z.shape
        assert end.dtype == z.dtype
    with pytest.raises(RuntimeError, match="meta"):
        z.sum().item()


class Forbid(TorchDispatchMode):
    """Refuses what makes the host wait for a device."""

    WAITING = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default, torch.ops.aten.equal.default)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        assert func not in self.WAITING, f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", STEPPERS)
def test_the_loop_over_molecules_asks_for_no_value(name: str) -> None:
    """Masks and centres too: the space and the streams draw without asking how many atoms there are."""
    space = molecule_space(torch.arange(4) < torch.tensor([4, 2])[:, None], 2)
    streams, z = Streams(0, torch.arange(2)), torch.zeros(space.shape)
    denoiser = NetworkDenoiser(Halve(), PerBlock({"positions": V(), "features": X()}))
    with Forbid():
        sample(denoiser, stepper_named(name), grid(Cosine(-8.0, 8.0), 5), space, z, streams)
        with pytest.raises(AssertionError, match="waits"):
            z.sum().item()


def test_progress_counts_the_steps() -> None:
    z, seen = torch.zeros(1, 3, dtype=torch.float64), list[int]()
    gammas = grid(LinearGamma(), 4)
    sample(GaussianDenoiser(EIGENVALUES), DDIM(), gammas, Dense(z), z, torch.Generator(), progress=seen.append)
    assert seen == [1, 2, 3, 4]


@pytest.mark.parametrize("name", ["ancestral", "dpm++3m-sde", "langevin"])
def test_what_draws_fresh_noise_does_not_invert(name: str) -> None:
    z, gammas = torch.zeros(1, 3, dtype=torch.float64), grid(LinearGamma(), 4).flip(0)
    with pytest.raises(ValueError, match="draws fresh noise and cannot invert"):
        sample(GaussianDenoiser(EIGENVALUES), stepper_named(name), gammas, Dense(z), z, torch.Generator())
    with pytest.raises(ValueError, match="start = 2"):
        grid(LinearGamma(), 3, start=2.0)
