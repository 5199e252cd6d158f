"""Distillation: the target is the teacher's own path, exactly; students of exact oracles are exact."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from medmol_diffusion.core import (
    DDIM,
    Denoiser,
    Dense,
    Eps,
    GaussianDenoiser,
    LinearGamma,
    Logits,
    MixtureDenoiser,
    Native,
    NetworkDenoiser,
    Preconditioned,
    Prediction,
    Schedule,
    Simple,
    Space,
    Streams,
    Weighting,
    X,
    ZeroCentre,
    alpha,
    ddim_target,
    ddim_weights,
    diffuse,
    distillation_loss,
    draw_transition,
    gaussian_flow,
    grid,
    sample,
    sigma,
)
from tests.core.oracle import EIGENVALUES, SCHEDULES, molecule_space, schedules, zero_centre_basis

SCHEDULE = LinearGamma(-8.0, 6.0)


def states(count: int, shape: tuple[int, ...] = (4,), dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def mixture() -> MixtureDenoiser:
    means = torch.tensor([[-1.0, 0.5, 0.0, 0.2], [1.0, 0.0, -0.7, 0.2]], dtype=torch.float64)
    return MixtureDenoiser(means, torch.tensor([0.3, 0.5]).double(), torch.tensor([0.4, 0.6]).double())


class Pointwise(nn.Module):
    """The same line for every element, whatever its place."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Parameter(torch.tensor([0.3, 0.1], dtype=torch.float64))

    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: object = None) -> Tensor:
        return self.line[0] * z + self.line[1]


@schedules
@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_weights_are_convex(schedule: Schedule, count: int) -> None:
    w, v = ddim_weights(grid(schedule, 3 * count)[:, None][[0, *range(1, 3 * count, 3), -1]])
    for weights in (w, v):
        assert (weights > 0).all()
        torch.testing.assert_close(weights.sum(0), torch.ones(1, dtype=torch.float64), rtol=0, atol=1e-14)


def test_a_path_from_zero_snr_has_the_weights_of_the_limit() -> None:
    inner = torch.tensor([3.0, 0.5, -6.0], dtype=torch.float64)[:, None]
    exact, near = (
        ddim_weights(torch.cat([torch.full((1, 1), start, dtype=torch.float64), inner])) for start in (math.inf, 80.0)
    )
    for a, b in zip(exact, near, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-14)
    assert exact[1].flatten().tolist() == [1.0, 0.0, 0.0]


@schedules
@pytest.mark.parametrize("substeps", [1, 2, 5])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 5e-6)])
def test_one_step_to_the_target_lands_where_the_teacher_lands(
    schedule: Schedule, substeps: int, dtype: torch.dtype, tolerance: float
) -> None:
    """alpha_s x + sigma_s eps is the end of the teacher's own DDIM, alpha_t x + sigma_t eps its beginning; over the
    whole schedule too, where alpha_t^2 or sigma_s^2 is 1e-5."""
    teacher, z = mixture(), states(5, dtype=dtype)
    for gammas in (grid(schedule, substeps), grid(schedule, substeps, start=0.5, end=0.4)):
        x, eps = ddim_target(teacher, Dense(z), z, gammas[:, None].expand(-1, 5))
        end = sample(teacher, DDIM(), gammas, Dense(z), z, torch.Generator())
        for gamma, state in ((gammas[0], z), (gammas[-1], end)):
            torch.testing.assert_close(diffuse(x, eps, gamma.expand(5)), state, rtol=tolerance, atol=tolerance)


def test_two_steps_are_the_formula_of_salimans_and_ho() -> None:
    """x = (z_s'' - (sigma_s / sigma_t) z_t) / (alpha_s - (sigma_s / sigma_t) alpha_t), Gaussian data: z_s'' in closed
    form, f(t, s) = (alpha_t alpha_s l + sigma_t sigma_s) / (alpha_t^2 l + sigma_t^2) a step."""
    z = states(3)
    gammas = torch.tensor([2.0, 0.7, -1.5], dtype=torch.float64)
    a, b = alpha(gammas)[:, None], sigma(gammas)[:, None]
    factor = (a[:-1] * a[1:] * EIGENVALUES + b[:-1] * b[1:]) / (a[:-1] ** 2 * EIGENVALUES + b[:-1] ** 2)
    ratio = b[2] / b[0]
    expected = z * (factor.prod(0) - ratio) / (a[2] - ratio * a[0])
    x, _ = ddim_target(GaussianDenoiser(EIGENVALUES), Dense(z), z, gammas[:, None].expand(-1, 3))
    torch.testing.assert_close(x, expected, rtol=1e-12, atol=1e-12)


def flow_target(z: Tensor, gamma_t: float, gamma_s: float) -> Tensor:
    """The x for which one DDIM step is the exact flow of N(0, diag EIGENVALUES)."""
    t, s = torch.tensor([gamma_t, gamma_s], dtype=torch.float64)
    ratio = sigma(s) / sigma(t)
    return (gaussian_flow(z, EIGENVALUES, gamma_t, gamma_s) - ratio * z) / (alpha(s) - ratio * alpha(t))


def test_the_target_approaches_the_flow_at_first_order() -> None:
    z = states(6)

    def error(substeps: int) -> float:
        gammas = torch.linspace(3.0, -2.0, substeps + 1, dtype=torch.float64)[:, None].expand(-1, 6)
        x, _ = ddim_target(GaussianDenoiser(EIGENVALUES), Dense(z), z, gammas)
        return (x - flow_target(z, 3.0, -2.0)).abs().max().item()

    errors = [error(2**k) for k in range(1, 11)]
    assert all(b < a for a, b in pairwise(errors))
    assert math.log2(errors[-2] / errors[-1]) == pytest.approx(1, abs=0.02)


class Flow(Denoiser):
    """The student whose DDIM over a grid of ``steps`` is the exact flow of N(0, diag EIGENVALUES)."""

    def __init__(self, schedule: Schedule, steps: int) -> None:
        super().__init__()
        self.levels = grid(schedule, steps)

    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: object = None) -> Prediction:
        place = (self.levels - gamma[:, None]).abs().argmin(1).tolist()
        ends = [(self.levels[i].item(), self.levels[i + 1].item()) for i in place]
        x = torch.cat([flow_target(row[None], *pair) for row, pair in zip(z, ends, strict=True)])
        return Prediction(x, z, gamma, X(), space)


@schedules
@pytest.mark.parametrize("substeps", [2, 3])
def test_an_exact_student_of_an_exact_teacher_has_no_loss(schedule: Schedule, substeps: int) -> None:
    """Flow maps compose: k exact steps make one exact step. A teacher of another grid than its own is not exact."""
    x = states(12)

    def loss(teacher_steps: int) -> Tensor:
        student, teacher = Flow(schedule, 4), Flow(schedule, teacher_steps)
        return distillation_loss(
            student, teacher, schedule, 4, Dense(x), x, torch.Generator().manual_seed(0), substeps=substeps
        )

    assert loss(4 * substeps).max() < 1e-20
    assert loss(4 * substeps + 1).max() > 1e-6


def test_the_loss_of_the_exact_student_falls_with_the_square_of_the_teachers_steps() -> None:
    x = states(8)

    def loss(substeps: int) -> float:
        student, teacher = Flow(SCHEDULE, 4), GaussianDenoiser(EIGENVALUES)
        generator = torch.Generator().manual_seed(0)
        return distillation_loss(student, teacher, SCHEDULE, 4, Dense(x), x, generator, substeps=substeps).mean().item()

    assert math.log2(loss(64) / loss(128)) == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize("weighting", [Native(), Simple()])
def test_a_student_of_its_own_single_step_has_no_loss(weighting: Weighting) -> None:
    for schedule in SCHEDULES.values():
        mask = torch.arange(4) < torch.tensor([4, 2, 3])[:, None]
        space = molecule_space(mask, 2)
        x = space.project(states(3, (space.shape[1],)))
        teacher = GaussianDenoiser(torch.full((space.shape[1],), 0.6, dtype=torch.float64))
        loss = distillation_loss(
            teacher, teacher, schedule, 5, space, x, Streams(0, torch.arange(3)), weighting, substeps=1
        )
        assert loss.max() < 1e-25


def test_native_weighs_x_by_snr_plus_one_over_the_variance() -> None:
    x, wrong, std = states(8), 0.3, 0.7

    class Off(Denoiser):
        """x_hat = the target of the oracle + 0.3, read as the output of Preconditioned."""

        def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: object = None) -> Prediction:
            right = GaussianDenoiser(EIGENVALUES)(z, gamma, space).x + wrong
            a, b = alpha(gamma)[:, None], sigma(gamma)[:, None]
            d = (a * std) ** 2 + b**2
            return Prediction((right - a * std**2 / d * z) * d.sqrt() / (std * b), z, gamma, kind, space)

    kind = Preconditioned(torch.tensor(std))
    arguments = (SCHEDULE, 4, 1, Dense(x), x)
    teacher = GaussianDenoiser(EIGENVALUES)
    prediction, *_ = draw_transition(Off(), teacher, *arguments, torch.Generator().manual_seed(1))
    loss = distillation_loss(Off(), teacher, SCHEDULE, 4, Dense(x), x, torch.Generator().manual_seed(1), substeps=1)
    torch.testing.assert_close(loss, wrong**2 * (torch.exp(-prediction.gamma) + 1 / std**2))


def test_every_transition_is_drawn_equally_often() -> None:
    x, teacher = states(12), GaussianDenoiser(EIGENVALUES)
    prediction, *_ = draw_transition(teacher, teacher, SCHEDULE, 4, 2, Dense(x), x, torch.Generator().manual_seed(3))
    heads = grid(SCHEDULE, 4)[:-1]
    assert prediction.gamma.sort().values.tolist() == heads.flip(0).repeat_interleave(3).tolist()


def test_no_gradient_reaches_the_teacher() -> None:
    x = states(4)
    student, teacher = (NetworkDenoiser(Pointwise(), Preconditioned(torch.tensor(0.7))) for _ in range(2))
    distillation_loss(student, teacher, SCHEDULE, 2, Dense(x), x, torch.Generator().manual_seed(0)).sum().backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in student.parameters())


@pytest.mark.parametrize("weighting", [Native(), Simple()])
def test_the_loss_knows_neither_the_padding_nor_the_batch(weighting: Weighting) -> None:
    sizes = torch.tensor([4, 2, 3])
    mask = torch.arange(4) < sizes[:, None]
    draws = states(3, (4, 5)) * mask[..., None]

    def loss(rows: list[int], width: int) -> Tensor:
        space = molecule_space(mask[rows, :width], 2)
        x = space.project(space.join({"positions": draws[rows, :width, :3], "features": draws[rows, :width, 3:]}))
        student = NetworkDenoiser(Pointwise(), Preconditioned(torch.tensor(0.7)))
        teacher = NetworkDenoiser(Pointwise(), Eps())
        return distillation_loss(student, teacher, SCHEDULE, 4, space, x, Streams(0, torch.tensor(rows)), weighting)

    together = loss([0, 1, 2], 4)
    assert together.min() > 1e-3
    torch.testing.assert_close(loss([2, 0], 4), together[[2, 0]], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(loss([1], 2), together[1:2], rtol=1e-12, atol=1e-12)


def test_a_zero_centre_target_is_the_dense_one_on_a_basis() -> None:
    n = 4
    basis = zero_centre_basis(n)
    eigenvalues = torch.linspace(0.1, 2.0, basis.shape[1], dtype=torch.float64)
    y = states(3, (basis.shape[1],))
    gammas = torch.tensor([3.0, 1.0, -4.0], dtype=torch.float64)[:, None].expand(-1, 3)
    dense = ddim_target(GaussianDenoiser(eigenvalues), Dense(y), y, gammas)
    z = (y @ basis.T).reshape(3, n, 3)
    space = ZeroCentre(torch.ones(3, n, dtype=torch.bool))
    points = ddim_target(GaussianDenoiser(eigenvalues, basis), space, z, gammas)
    for flat, found in zip(dense, points, strict=True):
        torch.testing.assert_close(found.flatten(1) @ basis, flat, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(space.project(found), found, rtol=1e-12, atol=1e-12)


def test_the_target_of_a_category_is_a_distribution() -> None:
    z = states(50, (3,)) / 4
    teacher = NetworkDenoiser(Pointwise(), Logits(0.25))
    for gammas in (grid(SCHEDULE, 2), grid(SCHEDULE, 8)[3:]):
        x, _ = ddim_target(teacher, Dense(z), z, gammas[:, None].expand(-1, 50))
        assert x.min() > 0
        torch.testing.assert_close(x.sum(1), torch.full((50,), 0.25, dtype=torch.float64))


def test_steps_below_one_are_refused() -> None:
    x, teacher = states(2), GaussianDenoiser(EIGENVALUES)
    for steps, substeps, word in ((0, 2, "steps = 0"), (2, 0, "substeps = 0")):
        with pytest.raises(ValueError, match=word):
            distillation_loss(teacher, teacher, SCHEDULE, steps, Dense(x), x, torch.Generator(), substeps=substeps)


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        wide = 64
        self.layers = nn.Sequential(nn.Linear(3, wide), nn.SiLU(), nn.Linear(wide, wide), nn.SiLU(), nn.Linear(wide, 2))

    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: object = None) -> Tensor:
        return self.layers(torch.cat([z, gamma.to(z)[:, None] / 6], 1))


def test_halving_to_one_step_keeps_what_the_undistilled_sampler_loses() -> None:
    """2-D mixture, exact teacher of 16 steps, students of 8, 4, 2 and 1, each the next one's teacher. The error is the
    distance to where the exact flow (400 steps) takes the same noise; the data have standard deviation 0.9."""
    schedule = LinearGamma(-6.0, 6.0)
    means = torch.tensor([[-1.2, 0.0], [0.6, 1.0], [0.6, -1.0]])
    thirds = torch.full((3,), 1 / 3, dtype=torch.float64)
    oracle = MixtureDenoiser(means.double(), torch.full_like(thirds, 0.35), thirds)
    z = torch.randn(2000, 2, generator=torch.Generator().manual_seed(1))

    def endpoint(denoiser: Denoiser, steps: int) -> Tensor:
        with torch.no_grad():
            return sample(denoiser, DDIM(), grid(schedule, steps), Dense(z), z, torch.Generator())

    truth = endpoint(oracle, 400)
    torch.manual_seed(0)
    teacher: Denoiser = oracle
    student = NetworkDenoiser(MLP(), Preconditioned(torch.tensor(0.9)))
    generator = torch.Generator().manual_seed(2)
    errors = {}
    for steps, updates in ((8, 600), (4, 250), (2, 250), (1, 250)):
        optimizer = torch.optim.Adam(student.parameters(), lr=5e-3)
        falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
        for _ in range(updates):
            x = oracle.sample(torch.empty(256, 2), generator)
            distillation_loss(student, teacher, schedule, steps, Dense(x), x, generator).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            falling.step()
        teacher = copy.deepcopy(student)
        found, undistilled = (
            (endpoint(denoiser, steps) - truth).square().sum(1).mean().sqrt().item() for denoiser in (student, oracle)
        )
        errors[steps] = found, undistilled
    # Measured: 0.122, 0.132, 0.145, 0.157 beside 0.165, 0.329, 0.536, 1.161.
    for steps, share in ((8, 0.85), (4, 0.5), (2, 0.35), (1, 0.2)):
        found, undistilled = errors[steps]
        assert found < share * undistilled, f"{steps} steps: {found:.3f} beside {undistilled:.3f}"
