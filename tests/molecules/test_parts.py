"""Given parts: what is drawn in training, where the rest lives, and that completion is exact where it can be known."""

import numpy as np
import pytest
import torch

from medmol_diffusion.core import (
    Anchored,
    Denoiser,
    Eps,
    Given,
    NetworkDenoiser,
    Prediction,
    Space,
    Streams,
    X,
    ZeroCentre,
    alpha,
    grid,
    sample,
    sigma,
    stepper_named,
)
from medmol_diffusion.core.schedule import LinearGamma, per_example
from medmol_diffusion.molecules import MoleculeDiffusion, PairTransformer
from medmol_diffusion.molecules.batch import MoleculeBatch
from medmol_diffusion.molecules.enumerate import enumerate_molecules
from medmol_diffusion.molecules.parts import Parts
from medmol_diffusion.molecules.perceive import perceived


def batch_of(count: int) -> MoleculeBatch:
    found = [
        molecule
        for molecule in enumerate_molecules(3, 1)
        if molecule.num_atoms > 3 and np.isin(molecule.atomic_numbers, [1, 6, 7, 8]).all()
    ][:count]
    return MoleculeBatch.collate([perceived(molecule, (0, 1, 2, 3)) for molecule in found])


def drawn(count: int = 400) -> tuple[MoleculeBatch, Parts]:
    few = batch_of(20)
    batch = MoleculeBatch.collate([few.unbatch()[i % 20] for i in range(count)])
    return batch, Parts.drawn(batch, torch.Generator().manual_seed(0))


def test_half_of_the_molecules_come_whole_and_the_rest_in_every_way() -> None:
    batch, parts = drawn()
    heavy = batch.mask & (batch.atomic_numbers > 1)
    nothing = ~parts.elements.any(1)
    formula = (parts.elements == batch.mask).all(1) & ~parts.atoms.any(1)
    skeleton = (parts.atoms == heavy).all(1)
    bare = parts.atoms.any(1) & ~(parts.atoms & ~heavy).any(1)
    mixed = (parts.atoms & ~heavy).any(1)
    both = parts.atoms.any(1) & (parts.elements & ~parts.atoms).any(1)
    for share, low, high in ((nothing, 0.45, 0.55), (formula, 0.06, 0.14), (skeleton, 0.1, 0.3)):
        assert low < share.double().mean() < high
    assert min(case.sum() for case in (bare, mixed, both)) > 20
    assert not (parts.atoms & ~parts.elements).any()
    assert not (parts.elements & ~batch.mask).any()
    assert ((batch.mask & ~parts.atoms).sum(1) > 0).all()


def test_the_share_of_molecules_with_a_given_part_is_what_is_asked_for() -> None:
    batch, _ = drawn()
    for share in (0.2, 1.0):
        parts = Parts.drawn(batch, torch.Generator().manual_seed(0), share)
        assert abs(parts.elements.any(1).double().mean() - share) < 0.06


def test_what_is_drawn_depends_on_the_item_alone() -> None:
    batch = batch_of(6)
    whole = Parts.drawn(batch, Streams(3, batch.index))
    rows = torch.tensor([4, 1])
    part = MoleculeBatch.collate([batch.unbatch()[i] for i in rows.tolist()], rows.tolist())
    some = Parts.drawn(part, Streams(3, part.index))
    size = part.mask.shape[1]
    assert torch.equal(some.atoms, whole.atoms[rows][:, :size])


def test_the_rest_and_what_is_given_are_orthogonal_and_fill_the_space() -> None:
    batch, parts = drawn(40)
    model = joint(given=True)
    space, x = model.encode(batch)
    rest, known = parts.rest(space), parts.known(space)
    v = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    v = space.project(v)
    left, given = rest.project(v), space.restrict(v, known)
    torch.testing.assert_close(left + given, v)
    torch.testing.assert_close(rest.project(left), left)
    torch.testing.assert_close(space.sum(left * given), torch.zeros(40, dtype=torch.float64), atol=1e-9, rtol=0)
    # the trace of a projection is its dimension
    probes = rest.project(torch.eye(x.shape[1], dtype=torch.float64)[:, None].expand(-1, 40, -1))
    torch.testing.assert_close(probes.diagonal(dim1=0, dim2=2).sum(-1), rest.dim())


def test_all_points_given_leave_nothing() -> None:
    mask = torch.ones(1, 3, dtype=torch.bool)
    with pytest.raises(ValueError, match="leave one or more"):
        Anchored(mask, mask)


class GaussianPoints(Denoiser):
    """The exact denoiser of points x ~ N(0, S x I) on the zero-centre space, S [N, N], that is told clean anchors."""

    def __init__(self, covariance: torch.Tensor) -> None:
        super().__init__()
        self.covariance = covariance

    def forward(self, z: torch.Tensor, gamma: torch.Tensor, space: Space, condition: object = None) -> Prediction:
        assert isinstance(space, ZeroCentre)
        n = z.shape[1]
        centre = torch.eye(n, dtype=z.dtype) - 1 / n
        rest = centre
        if isinstance(space, Anchored):
            rest = space.project(torch.eye(n, dtype=z.dtype).expand(len(z), n, n))[0] @ centre
        # z = alpha x + sigma R eps: E[x | z] by the joint Gaussian of x and z
        a, b = alpha(gamma)[0].to(z), sigma(gamma)[0].to(z)
        s = centre @ self.covariance @ centre
        gain = a * s @ torch.linalg.pinv(a**2 * s + b**2 * rest, hermitian=True, rtol=1e-9)
        return Prediction(torch.einsum("ij,bjc->bic", gain, z), z, gamma, X(), space)


@pytest.mark.parametrize("sampler", ["ancestral", "dpm++2m", "ddim", "heun", "dpm++3m-sde"])
def test_completion_samples_the_exact_conditional_with_every_sampler(sampler: str) -> None:
    """Correlated Gaussian points, three of five given: mean and covariance of the rest are those of conditioning."""
    n, k, count = 5, 3, 4000
    generator = torch.Generator().manual_seed(0)
    factor = torch.randn(n, n, generator=generator, dtype=torch.float64)
    s = factor @ factor.T / n + 0.3 * torch.eye(n, dtype=torch.float64)
    mask = torch.ones(count, n, dtype=torch.bool)
    held = (torch.arange(n) < k).expand(count, n)
    rest = Anchored(mask, held)
    whole = ZeroCentre(mask)
    x = whole.project(torch.randn(1, n, 3, generator=generator, dtype=torch.float64).expand(count, n, 3))
    given = x - rest.project(x)
    denoiser = Given(GaussianPoints(s), given)
    gammas = grid(LinearGamma(-12.0, 12.0), 500, "time")
    z = sample(denoiser, stepper_named(sampler), gammas, rest, rest.noise(x, generator), generator)
    found = denoiser(z, gammas[-1].expand(count), rest).x
    centre = torch.eye(n, dtype=torch.float64) - 1 / n
    s = centre @ s @ centre
    left = rest.project(torch.eye(n, dtype=torch.float64).expand(1, n, n))[0] @ centre
    fixed = centre - left
    gain = left @ s @ fixed @ torch.linalg.pinv(fixed @ s @ fixed, hermitian=True, rtol=1e-9)
    mean, covariance = gain @ given[0], left @ s @ left - gain @ fixed @ s @ left
    assert mean.norm() > 0.3
    torch.testing.assert_close(found.mean(0), mean, atol=0.05, rtol=0)
    spread = torch.einsum("bic,bjc->ij", found - mean, found - mean) / (3 * count)
    torch.testing.assert_close(spread, covariance, atol=0.06 * covariance.abs().max().item(), rtol=0)


def joint(given: bool) -> MoleculeDiffusion:
    torch.manual_seed(0)
    network = PairTransformer(4 + given, 4, hidden=16, pair_hidden=8, layers=1, heads=2, pairs_in=4, pairs_out=4)
    return MoleculeDiffusion([1, 6, 7, 8], network, max_atoms=16, bond_orders=[0, 1, 2, 3], given=given).eval()


def test_what_is_given_comes_out_as_given_and_needs_no_rounds() -> None:
    model = joint(given=True)
    molecules = [molecule for molecule in enumerate_molecules(3, 1) if 6 <= molecule.num_atoms <= 12][:3]
    found = model.inpaint(molecules, [[0, 1, 2]] * 3, steps=4)
    for new, old in zip(found, molecules, strict=True):
        np.testing.assert_array_equal(new.positions[:3], old.positions[:3])
        np.testing.assert_array_equal(new.atomic_numbers[:3], old.atomic_numbers[:3])
    (one,) = model.sample(1, steps=4, formula="C2H6O")
    assert sorted(one.atomic_numbers.tolist()) == [1] * 6 + [6, 6, 8]


def test_the_network_sees_the_given_part_clean_and_is_told_which_it_is() -> None:
    model = joint(given=True)
    batch = batch_of(2)
    held = torch.zeros_like(batch.mask)
    held[:, :2] = True
    space, x = model.encode(batch)
    rest, left, denoiser = model.completing(model.denoiser, space, x, Parts(held, batch.mask))
    seen: dict[str, torch.Tensor] = {}

    def look(module: object, arguments: tuple[torch.Tensor, ...]) -> None:
        seen["positions"], seen["atoms"], seen["pairs"] = arguments[0], arguments[1], arguments[4]

    model.network.network.register_forward_pre_hook(look)
    gamma = torch.full((2,), 3.0, dtype=torch.float64)
    z = rest.noise(left, torch.Generator().manual_seed(0))
    denoiser(z, gamma, rest, None)
    apart = seen["positions"][:, 0] - seen["positions"][:, 1]
    true = space.split(x)["positions"][:, 0] - space.split(x)["positions"][:, 1]
    torch.testing.assert_close(apart, per_example(alpha(gamma), true) * true, rtol=1e-4, atol=1e-5)
    assert torch.equal(seen["atoms"][..., -1] > 0.5, held)
    hot = torch.tensor([1, 6, 7, 8]) == batch.atomic_numbers[..., None]
    assert torch.equal(seen["atoms"][batch.mask][:, :4] > 0.999, hot[batch.mask])
    assert batch.bonds is not None
    assert (seen["pairs"][:, 0, 1].argmax(-1) == batch.bonds[:, 0, 1]).all()
    assert (seen["pairs"][:, 0, 3].amax(-1) < 0.999).all()


def test_a_model_that_is_told_starts_as_the_one_that_was_not() -> None:
    plain, told = joint(given=False), joint(given=True)
    told.start_from(plain, "plain")
    batch = batch_of(3)
    space, x = plain.encode(batch)
    gamma = torch.zeros(3, dtype=torch.float64)
    torch.testing.assert_close(plain.denoiser(x, gamma, space).x, told.denoiser(x, gamma, space).x)


def test_noise_prediction_completes_too() -> None:
    """The reading of the output does not matter: eps and x of the rest are projections of the whole's."""
    mask = torch.ones(1, 4, dtype=torch.bool)
    rest = Anchored(mask, torch.tensor([[True, True, False, False]]))
    x = ZeroCentre(mask).project(torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64))
    left = rest.project(x)
    eps = rest.noise(left, torch.Generator().manual_seed(3))
    gamma = torch.zeros(1, dtype=torch.float64)
    z = per_example(alpha(gamma), x) * left + per_example(sigma(gamma), x) * eps

    class Knows(torch.nn.Module):
        def forward(self, z: torch.Tensor, gamma: torch.Tensor, space: Space, condition: object) -> torch.Tensor:
            return (z - per_example(alpha(gamma), z) * x) / per_example(sigma(gamma), z)

    found = Given(NetworkDenoiser(Knows(), Eps()), x - left)(z, gamma, rest)
    torch.testing.assert_close(found.x, left)
    torch.testing.assert_close(found.eps, eps)
