import math

import pytest
import torch
from torch import Tensor

from medmol_diffusion.core import (
    DDIM,
    STEPPERS,
    Ancestral,
    Cosine,
    Dense,
    GaussianDenoiser,
    LinearGamma,
    Polynomial,
    Schedule,
    Stepper,
    Streams,
    grid,
    sample,
)
from tests.core.oracle import GivenNoise, molecule_space

EIGENVALUES = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)


@pytest.mark.parametrize("schedule", [LinearGamma(), Cosine(), Polynomial()], ids=["linear", "cosine", "polynomial"])
def test_grids_run_between_the_ends_of_the_schedule(schedule: Schedule) -> None:
    for kind in ("time", "gamma"):
        gammas = grid(schedule, 7, kind)
        assert gammas.shape == (8,)
        assert (gammas.diff() < 0).all()
        assert gammas[[0, -1]].tolist() == pytest.approx([schedule.gamma_1, schedule.gamma_0])
    torch.testing.assert_close(grid(schedule, 4), schedule.gamma(torch.tensor([1, 0.75, 0.5, 0.25, 0])))
    assert grid(schedule, 5, "gamma").diff().std() < 1e-12
    part = grid(schedule, 3, "gamma", start=0.5)
    assert part[0] == schedule.gamma(torch.tensor(0.5))


def test_impossible_grids_and_steppers_are_refused() -> None:
    with pytest.raises(ValueError, match="steps = 0"):
        grid(LinearGamma(), 0)
    with pytest.raises(ValueError, match="unknown grid 'karras': choose one of time, gamma"):
        grid(LinearGamma(), 3, "karras")
    with pytest.raises(ValueError, match="eta"):
        DDIM(1.5)


def test_ddim_inversion_returns_at_first_order() -> None:
    oracle = GaussianDenoiser(EIGENVALUES)
    z = torch.tensor([[0.3, -1.0, 2.0]], dtype=torch.float64)

    def error(steps: int) -> float:
        gammas = grid(LinearGamma(-3.0, 3.0), steps, "gamma")
        noise = sample(oracle, DDIM(), gammas.flip(0), Dense(z), z, torch.Generator())
        return (sample(oracle, DDIM(), gammas, Dense(z), noise, torch.Generator()) - z).abs().max().item()

    assert error(400) < 0.02
    assert math.log2(error(200) / error(400)) == pytest.approx(1, abs=0.05)


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


def test_progress_counts_the_steps() -> None:
    z, seen = torch.zeros(1, 3, dtype=torch.float64), list[int]()
    gammas = grid(LinearGamma(), 4)
    sample(GaussianDenoiser(EIGENVALUES), DDIM(), gammas, Dense(z), z, torch.Generator(), progress=seen.append)
    assert seen == [1, 2, 3, 4]
