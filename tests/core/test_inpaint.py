"""Inpainting against the conditional of a Gaussian, on coordinates and on points of zero centre of mass."""

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
    Masked,
    Product,
    Randomness,
    Space,
    Streams,
    ZeroCentre,
    alpha,
    diffuse,
    edit,
    grid,
    inpaint,
    put_back,
    renoise,
    sample,
    sigma,
    stepper_named,
)
from tests.core.oracle import GivenNoise, molecule_space
from tests.core.test_space import MASK, spaces

samplers = pytest.mark.parametrize("sampler", STEPPERS)
CORRELATION = 0.8
VALUES, VECTORS = torch.linalg.eigh(torch.tensor([[1.0, CORRELATION], [CORRELATION, 1.0]], dtype=torch.float64))


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def some(space: Space) -> Tensor:
    """A part of every space in SPACES: the points 0, 1, 3 of the first example, 1 of the second and all of its
    padding."""
    points = torch.tensor([[True, True, False, True, False], [False, True, True, True, True]])
    if isinstance(space, Product):
        return space.join({name: points[..., None].expand(block.shape) for name, block in space.blocks.items()})
    return points.reshape(2, *space.shape[1:-1])[..., None].expand(space.shape)


@spaces
def test_restriction_is_the_orthogonal_projection_onto_what_vanishes_outside(space: Space) -> None:
    part = some(space)
    size = torch.zeros(space.shape[1:]).numel()
    basis = torch.eye(size).double()
    columns = [space.restrict(e.expand(2, size).reshape(space.shape), part).flatten(1) for e in basis]
    p = torch.stack(columns, dim=2)
    torch.testing.assert_close(p @ p, p, rtol=0, atol=1e-14)
    torch.testing.assert_close(p, p.transpose(1, 2), rtol=0, atol=1e-14)
    kept = space.restrict(normal(*space.shape), part)
    torch.testing.assert_close(space.project(kept), kept)
    assert kept[~part].abs().max() == 0
    # Its rank is the dimension of {v in the space: v = 0 outside}, the null space of both conditions together.
    for i in range(2):
        onto = torch.stack([space.project(e.expand(2, size).reshape(space.shape)).flatten(1)[i] for e in basis], 1)
        conditions = torch.cat([torch.eye(size).double() - onto, torch.diag((~part[i]).flatten().double())])
        assert round(p[i].trace().item()) == size - torch.linalg.matrix_rank(conditions).item()


def test_renoising_goes_from_one_marginal_to_the_next() -> None:
    gamma_s, gamma_t = torch.tensor([-3.0, 0.5]).double(), torch.tensor([-1.0, 6.0]).double()
    one, zero = torch.ones(2, 1).double(), torch.zeros(2, 1).double()
    shrink, fresh = renoise(one, gamma_s, gamma_t, zero)[:, 0], renoise(zero, gamma_s, gamma_t, one)[:, 0]
    torch.testing.assert_close(shrink * alpha(gamma_s), alpha(gamma_t), rtol=1e-12, atol=0)
    variance = (shrink * sigma(gamma_s)).square() + fresh.square()
    torch.testing.assert_close(variance, sigma(gamma_t).square(), rtol=1e-12, atol=0)


def conditional_mean(sampler: str, resamples: int) -> float:
    """E[x_2 | x_1 = 1] as inpainting has it: all is linear, so without noise every state is its own mean."""
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    space, known = GivenNoise(Dense(x), torch.zeros_like(x)), torch.tensor([[True, False]])
    gammas = grid(LinearGamma(-6.0, 6.0), 20, "gamma")
    oracle = GaussianDenoiser(VALUES, VECTORS)
    z = inpaint(oracle, stepper_named(sampler), gammas, space, x, known, torch.Generator(), resamples, jump=1)
    assert z[0, 0] == alpha(gammas[-1])
    return z[0, 1].item()


@samplers
def test_repaint_nears_the_conditional_mean_and_replacement_stays_away(sampler: str) -> None:
    """0.8 is true. Replacement is short of it by 0.3 to 0.5, by less where the sampler itself corrects its states; the
    limit of many rounds is off by what 20 steps of the sampler are off."""
    once, few, many = (CORRELATION - conditional_mean(sampler, resamples) for resamples in (1, 4, 32))
    assert once > 0.1
    assert once > 2 * few
    assert abs(many) < 0.03


def test_repaints_samples_have_the_conditional_mean_and_variance() -> None:
    """x_1 = 1.5: mean 1.2 and variance 0.36 are true; replacement gives 0.50 and 0.57."""
    count = 2000
    x = torch.tensor([[1.5, 0.0]], dtype=torch.float64).expand(count, 2)
    known = torch.tensor([[True, False]]).expand(count, 2)
    oracle, gammas = GaussianDenoiser(VALUES, VECTORS), grid(LinearGamma(-7.0, 6.0), 40)
    moments = []
    for resamples in (1, 50):
        generator = torch.Generator().manual_seed(0)
        free = inpaint(oracle, DDIM(), gammas, Dense(x), x, known, generator, resamples, jump=1)[:, 1]
        moments.append((free.mean().item(), free.var().item()))
    assert moments[0] == pytest.approx((0.50, 0.57), abs=0.05)
    assert moments[1] == pytest.approx((CORRELATION * 1.5, 1 - CORRELATION**2), abs=0.04)


class OnBasis(Dense):
    """Coordinates on an orthonormal basis of a space, with that space's noise."""

    def __init__(self, inner: Space, basis: Tensor) -> None:
        self.inner, self.basis = inner, basis
        super().__init__(torch.zeros(inner.shape[0], basis.shape[1]))

    def noise(self, like: Tensor, generator: Randomness) -> Tensor:
        return self.inner.noise(like.new_zeros(self.inner.shape), generator).flatten(1) @ self.basis

    def noises(self, like: Tensor, generator: Randomness, count: int) -> list[Tensor]:
        return [self.noise(like, generator) for _ in range(count)]


@samplers
def test_v12_fixing_points_of_zero_centre_is_a_mask_on_a_basis_of_the_subspace(sampler: str) -> None:
    """Three of five points are given: their 6 inner degrees of freedom are the first 6 coordinates, 6 are free."""
    points = torch.tensor([True, False, True, True, False])
    inner = torch.eye(5, dtype=torch.float64)[:, points]
    directions = torch.cat([inner[:, 1:] - inner.mean(1, keepdim=True), torch.eye(5).double() - 0.2], 1)
    q = torch.linalg.qr(directions)[0][:, :4].contiguous()
    basis = torch.kron(q, torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(basis.sum(0), torch.zeros(12).double(), atol=1e-12, rtol=0)
    factor = normal(12, 12)
    values, vectors = torch.linalg.eigh(factor @ factor.T / 12 + 0.05 * torch.eye(12).double())
    space = ZeroCentre(torch.ones(2, 5, dtype=torch.bool))
    x = space.project(normal(2, 5, 3))
    gammas = grid(Cosine(-8.0, 8.0), 7)
    here = inpaint(
        GaussianDenoiser(values, basis @ vectors), stepper_named(sampler), gammas, space, x,
        points[None, :, None].expand(2, 5, 3), Streams(0, torch.arange(2)), resamples=3, jump=2,
    )  # fmt: skip
    flat = OnBasis(space, basis)
    there = inpaint(
        GaussianDenoiser(values, vectors), stepper_named(sampler), gammas, flat, x.flatten(1) @ basis,
        (torch.arange(12) < 6).expand(2, 12), Streams(0, torch.arange(2)), resamples=3, jump=2,
    )  # fmt: skip
    torch.testing.assert_close(here.flatten(1) @ basis, there, rtol=1e-10, atol=1e-10)
    assert here.sum(1).abs().max() < 1e-12


@samplers
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_the_known_part_is_put_back_and_the_rest_stays_in_the_space(
    sampler: str, dtype: torch.dtype, tolerance: float
) -> None:
    """Distances among given points, and given features, come out as they went in; the others move."""
    space = molecule_space(MASK, 2)
    x = space.project(normal(*space.shape)).to(dtype)
    known = some(space)
    oracle = GaussianDenoiser(torch.full((space.shape[1],), 0.6, dtype=dtype))
    z = inpaint(
        oracle, stepper_named(sampler), grid(LinearGamma(-8.0, 6.0), 3), space, x, known,
        Streams(1, torch.arange(2)), resamples=2, jump=2,
    )  # fmt: skip
    assert z.dtype == dtype
    out = put_back(z, x, space, known)
    torch.testing.assert_close(space.project(out), out, rtol=tolerance, atol=tolerance)
    before, after = space.split(x), space.split(out)
    given = [0, 1, 3]
    torch.testing.assert_close(
        torch.cdist(*[after["positions"][:1, given]] * 2), torch.cdist(*[before["positions"][:1, given]] * 2),
        rtol=tolerance, atol=tolerance,
    )  # fmt: skip
    torch.testing.assert_close(after["features"][0, given], before["features"][0, given], rtol=0, atol=tolerance)
    assert (after["features"][0, [2, 4]] - before["features"][0, [2, 4]]).abs().min() > 1e-3


@samplers
def test_an_inpainted_state_does_not_know_its_batch(sampler: str) -> None:
    mask = torch.arange(4) < torch.tensor([4, 3, 3])[:, None]

    def run(rows: list[int], mask: Tensor) -> Tensor:
        space = molecule_space(mask, 2)
        known = space.join({name: (torch.arange(mask.shape[1]) < 2)[None, :, None].expand(block.shape)
                            for name, block in space.blocks.items()})  # fmt: skip
        x = torch.zeros(space.shape, dtype=torch.float64)
        oracle = GaussianDenoiser(torch.full((space.shape[1],), 0.6, dtype=torch.float64))
        streams = Streams(3, torch.tensor(rows))
        z = inpaint(oracle, stepper_named(sampler), grid(Cosine(-8.0, 8.0), 4), space, x, known, streams, 2, 2)
        return torch.cat(list(space.split(z).values()), dim=-1)

    together = run([0, 1, 2], mask)
    assert torch.equal(run([2, 0], mask[[2, 0]]), together[[2, 0]])
    torch.testing.assert_close(run([1], mask[[1], :3])[0], together[1, :3], rtol=1e-12, atol=1e-12)


def test_one_run_of_every_stretch_is_replacement_in_one_go_and_progress_counts_all_steps() -> None:
    x, known, seen = normal(3, 2), torch.tensor([[True, False]]).expand(3, 2), list[int]()
    oracle, gammas = GaussianDenoiser(VALUES, VECTORS), grid(LinearGamma(), 5)
    once = [
        inpaint(oracle, stepper_named("dpm++2m"), gammas, Dense(x), x, known, torch.Generator().manual_seed(0), jump=j)
        for j in (1, 10)
    ]
    assert torch.equal(*once)
    inpaint(oracle, Ancestral(), gammas, Dense(x), x, known, torch.Generator(), 2, 2, progress=seen.append)
    assert seen == [2, 4, 6, 8, 9, 10]


def test_what_is_begun_from_is_noised_where_nothing_is_given() -> None:
    x, known, gammas = normal(3, 2), torch.tensor([[True, False]]).expand(3, 2), grid(LinearGamma(), 5)[3:4]
    oracle = GaussianDenoiser(VALUES, VECTORS)

    def begun(start: Tensor | None) -> Tensor:
        source = torch.Generator().manual_seed(0)
        return inpaint(oracle, Ancestral(), gammas, Dense(x), x, known, source, 2, 1, start=start)

    torch.testing.assert_close(begun(x + 1) - begun(x), alpha(gammas) * ~known, rtol=0, atol=1e-14)
    free = begun(None)[:, 1]
    torch.testing.assert_close(begun(x)[:, 1], (alpha(gammas) * x[:, 1] + sigma(gammas) * free), rtol=0, atol=1e-14)


def test_impossible_resamplings_are_refused() -> None:
    x = torch.zeros(1, 2)
    for resamples, jump, fault in ((0, 1, "resamples = 0"), (2, 0, "jump = 0")):
        with pytest.raises(ValueError, match=fault):
            inpaint(
                GaussianDenoiser(VALUES), Ancestral(), grid(LinearGamma(), 2), Dense(x), x, x > 0,
                torch.Generator(), resamples, jump,
            )  # fmt: skip


@samplers
def test_editing_is_sampling_from_a_noised_state(sampler: str) -> None:
    """A single gamma only noises; a grid is the same sampler from there."""
    x, oracle = normal(4, 2), GaussianDenoiser(VALUES, VECTORS)
    space, gammas = Dense(x), grid(LinearGamma(-8.0, 6.0), 6, start=0.5)
    found = edit(oracle, stepper_named(sampler), gammas, space, x, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    z = diffuse(x, space.noise(x, generator), gammas[:1].expand(4))
    assert torch.equal(edit(oracle, Ancestral(), gammas[:1], space, x, torch.Generator().manual_seed(1)), z)
    assert torch.equal(found, sample(oracle, stepper_named(sampler), gammas, space, z, generator))


def test_editing_data_with_the_exact_reverse_step_keeps_their_law_and_their_likeness_falls_with_the_noise() -> None:
    values = torch.tensor([0.5, 2.0], dtype=torch.float64)
    oracle = GaussianDenoiser(values, optimal_variance=True)
    generator = torch.Generator().manual_seed(0)
    x = oracle.sample(torch.zeros(20_000, 2, dtype=torch.float64), generator)
    likeness = []
    for start in (0.3, 0.6, 1.0):
        out = edit(oracle, Ancestral(), grid(LinearGamma(-9.0, 9.0), 3, start=start), Dense(x), x, generator)
        torch.testing.assert_close(out.var(0), values, rtol=0.05, atol=0)
        likeness.append((out * x).mean(0) / values)
    gamma = LinearGamma(-9.0, 9.0).gamma(torch.tensor([0.3, 0.6, 1.0]))[:, None]
    expected = values / (values + gamma.exp())  # the correlation of two draws of x given the same z
    torch.testing.assert_close(torch.stack(likeness), expected, rtol=0, atol=0.03)


def test_rows_outside_the_mask_are_never_known() -> None:
    space = Masked(MASK, 3)
    kept = space.restrict(torch.ones(space.shape), torch.ones(space.shape, dtype=torch.bool))
    assert torch.equal(kept, MASK[..., None].expand(space.shape).float())
