"""Bonds and formal charges as blocks of the state: degrees of freedom, masses, symmetry, the bound by block, SDF."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import qmc
from torch.nn.functional import one_hot

from medmol_diffusion.core import (
    Denoiser,
    Prediction,
    Product,
    Space,
    Streams,
    V,
    alpha,
    diffuse,
    sigma,
)
from medmol_diffusion.core.elbo import continuous_integrand, prior_kl, transition_kl
from medmol_diffusion.core.observation import Categorical
from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import Molecule, MoleculeBatch, MoleculeDiffusion, read_molecules, write_sdf
from medmol_diffusion.molecules.features import BOND_SCALE, FORMAL_SCALE, pack, unpack
from tests.molecules.test_model import CHARGES, ELEMENTS, ORDERS, batch_of, model, molecules

SIZES = np.array([3, 7, 5])


def test_v12_the_pairs_and_charges_add_their_own_degrees_of_freedom() -> None:
    """dim = 3 (N - 1) + N (K + 1) + N C + O N (N - 1) / 2, which is the mean of |eps|^2, whatever the padding."""
    made, batch = model(bonds=True), batch_of(molecules())
    space = made.layout.space(batch.mask)
    n, k = SIZES, len(ELEMENTS)
    dim = 3 * (n - 1) + n * (k + 1) + n * len(CHARGES) + len(ORDERS) * n * (n - 1) // 2
    assert space.dim().tolist() == dim.tolist()
    draws = torch.stack([space.squared_norm(space.noise(torch.zeros(space.shape), s)) for s in _streams(400)])
    # a chi-square of dim degrees: standard error sqrt(2 dim / draws)
    assert (np.abs(draws.mean(0).numpy() - dim) < 4 * np.sqrt(2 * dim / 400)).all()


def _streams(count: int) -> list[Streams]:
    return [Streams(seed, torch.arange(3)) for seed in range(count)]


def test_v12_the_noise_of_a_pair_is_the_noise_of_its_coordinates_in_a_dense_basis() -> None:
    """pack keeps every pair once: sums over packed rows are half of those over the symmetric array."""
    draw = torch.randn(2, 6, 6, 3, dtype=torch.float64)
    pairs = draw + draw.transpose(1, 2)
    pairs[:, range(6), range(6)] = 0
    assert torch.equal(unpack(pack(pairs), 6), pairs)
    torch.testing.assert_close(pack(pairs).square().sum(), 0.5 * pairs.square().sum())


@pytest.mark.parametrize("gamma_0", [-2.0, 1.0])
def test_v14_the_masses_of_all_bonds_and_charges_of_a_molecule_sum_to_one(gamma_0: float) -> None:
    """Over the 4^3 ways to bond three atoms, times the 3^3 ways to charge them."""
    made = model(bonds=True)
    batch = batch_of(molecules()[:1])
    space, x = made.encode(batch)
    gamma = torch.tensor([gamma_0], dtype=torch.float64)
    z = space.split(diffuse(x, space.noise(x, Streams(0, batch.index)), gamma))

    def total(name: str, scale: float, count: int) -> float:
        seen = Categorical(scale)
        ways = itertools.product(range(count), repeat=z[name].shape[1])
        nats = [seen.nll(torch.tensor([way]), z[name], gamma, space.blocks[name]) for way in ways]
        return torch.stack(nats).neg().exp().sum().item()

    assert total("bonds", BOND_SCALE, 4) == pytest.approx(1, abs=1e-12)
    assert total("formal_charges", FORMAL_SCALE, 3) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_v18_relabelled_turned_and_mirrored_molecules_have_the_same_terms(dtype: torch.dtype, tolerance: float) -> None:
    made, batch = model(dtype, bonds=True), batch_of(molecules()[1:2], dtype)
    size = 7
    order = torch.randperm(size, generator=torch.Generator().manual_seed(1))
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2)))
    turn = turn.to(dtype)
    assert batch.bonds is not None
    assert batch.formal_charges is not None
    moved = replace(
        batch,
        atomic_numbers=batch.atomic_numbers[:, order],
        positions=batch.positions[:, order] @ turn,
        bonds=batch.bonds[:, order][:, :, order],
        formal_charges=batch.formal_charges[:, order],
    )

    def carried(space: Product, v: torch.Tensor) -> torch.Tensor:
        parts = space.split(v)
        found = {name: part[:, order] for name, part in parts.items() if name != "bonds"}
        found["positions"] = found["positions"] @ turn
        return space.join(found | {"bonds": pack(unpack(parts["bonds"], size)[:, order][:, :, order])})

    space, x, data = made.layout.encode(batch)
    eps = space.noise(x, Streams(0, batch.index))
    _, y, moved_data = made.layout.encode(moved)
    torch.testing.assert_close(y, carried(space, x), rtol=tolerance, atol=tolerance)
    gamma = torch.tensor([1.0], dtype=torch.float64)

    def terms(x: torch.Tensor, eps: torch.Tensor, data: dict) -> list[torch.Tensor]:
        prediction: Prediction = made.denoiser(diffuse(x, eps, gamma), gamma, space)
        nats = made.layout.observation().named_nll(data, diffuse(x, eps, gamma), gamma, space, prediction.x)
        blocks = space.split(transition_kl(prediction, x, eps, gamma - 0.5))
        kl = {name: space.blocks[name].sum(part) for name, part in blocks.items()}
        return [*(nats[name] for name in kl), *kl.values(), prior_kl(x, gamma, space)]

    for one, other in zip(terms(x, eps, data), terms(y, carried(space, eps), moved_data), strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("transitions", [0, 7])
@pytest.mark.parametrize("bonds", [False, True])
def test_blocks_add_up_to_their_terms_and_atoms_to_the_diffusion_term(transitions: int, bonds: bool) -> None:
    made = model(bonds=bonds)
    bound = made.elbo(batch_of(molecules()), transitions, draws=3)
    for term in ("diffusion", "reconstruction"):
        parts = [nats for name, nats in bound.blocks.items() if name.startswith(term + "/")]
        assert len(parts) == len(made.layout.space(torch.ones(1, 3, dtype=torch.bool)).blocks)
        torch.testing.assert_close(torch.stack(parts).sum(0), bound.terms[term].double(), rtol=1e-9, atol=1e-9)
    scores = made.atom_scores(batch_of(molecules()), transitions, draws=3)
    assert [len(score) for score in scores] == SIZES.tolist()
    np.testing.assert_allclose([score.sum() for score in scores], bound.terms["diffusion"].numpy(), rtol=1e-10)
    single = model(torch.float32, bonds)
    apart, together = (single.atom_scores(molecules(), transitions, 3, pair_budget=budget) for budget in (1, 10_000))
    for one, other in zip(apart, together, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3)


def test_a_pair_gives_half_of_its_nats_to_each_of_its_atoms() -> None:
    made, batch = model(bonds=True), batch_of(molecules())
    bound = made.elbo(batch, 0, 2)
    parts = made.layout.space(batch.mask).split(bound.map)
    for row, scores in enumerate(made.atom_scores(batch, 0, 2)):
        n = SIZES[row]
        expected = np.zeros(n)
        for name, part in parts.items():
            nats = part[row].sum(-1).numpy()
            if name != "bonds":
                expected += nats[:n]
                continue
            for place, (i, j) in enumerate(itertools.combinations(range(batch.mask.shape[1]), 2)):
                if j < n:
                    expected[i] += nats[place] / 2
                    expected[j] += nats[place] / 2
        np.testing.assert_allclose(scores, expected, rtol=1e-10)


@pytest.mark.parametrize("bonds", [False, True])
def test_the_exact_sum_over_t_is_the_mean_of_many_draws(bonds: bool) -> None:
    made, one = model(bonds=bonds), batch_of(molecules()[:1])
    exact = made.nll(one, steps=4, draws="exact")
    assert exact.settings["exact"] == 1
    assert exact.settings["draws"] == 4
    drawn = made.nll(one, steps=4, draws=40)
    error = drawn.draw_variance.sqrt().item() * np.sqrt(40)  # of one draw, and the exact sum has one at each level
    assert abs(exact.terms["diffusion"].item() - drawn.terms["diffusion"].item()) < 3 * error
    for name in ("prior", "size"):
        torch.testing.assert_close(exact.terms[name], drawn.terms[name])
    with pytest.raises(InputError, match="exact sum is over T"):
        made.nll(one, steps=0, draws="exact")
    with pytest.raises(InputError, match="iwae needs a number of draws"):
        made.nll(one, "iwae", draws="exact")


def test_what_is_sampled_goes_straight_to_sdf_with_its_bonds_and_charges(tmp_path) -> None:
    made = model(torch.float32, bonds=True)
    found = made.sample(4, steps=3, seed=2)
    write_sdf(found, tmp_path / "out.sdf")
    read, bad = read_molecules(tmp_path / "out.sdf")
    assert not bad
    for new, old in zip(read, found, strict=True):
        assert np.array_equal(new.atomic_numbers, old.atomic_numbers)
        assert new.bonds.tolist() == old.bonds.tolist()
        assert new.formal_charges.tolist() == old.formal_charges.tolist()


def test_a_state_with_bonds_needs_molecules_with_bonds_for_a_likelihood() -> None:
    bare = [Molecule(m.atomic_numbers, m.positions) for m in molecules()]
    with pytest.raises(InputError, match="come without"):
        model(bonds=True).elbo(bare)
    assert MoleculeBatch.collate(bare).bonds is None


def stretch_bond(molecule: Molecule, bond: tuple[int, int], factor: float) -> Molecule:
    """The molecule with the part beyond ``bond`` (i, j), j's side, moved along it until it is ``factor`` times as long.

    Only that bond changes its length, if it is in no ring.
    """
    i, j = bond
    assert molecule.bonds is not None
    edges = [(a, b) for a, b, _ in molecule.bonds.tolist() if {a, b} != {i, j}]
    beyond = {j}
    while more := {b for a, b in [*edges, *((b, a) for a, b in edges)] if a in beyond} - beyond:
        beyond |= more
    assert i not in beyond, "the bond is in a ring"
    positions = molecule.positions.copy()
    positions[sorted(beyond)] += (factor - 1) * (molecule.positions[j] - molecule.positions[i])
    return replace(molecule, positions=positions)


def test_stretching_changes_one_bond_alone() -> None:
    from medmol_diffusion.molecules.perceive import perceived
    from tests.molecules.geometries import ETHENE

    whole = perceived(ETHENE, tuple(ORDERS))
    stretched = stretch_bond(whole, (0, 1), 1.5)
    for i, j, _ in whole.bonds.tolist():
        before, after = (np.linalg.norm(m.positions[i] - m.positions[j]) for m in (whole, stretched))
        assert after == pytest.approx(before * (1.5 if (i, j) == (0, 1) else 1))


class FiniteMolecules(Denoiser):
    """The posterior mean of molecules of K kinds: labels exactly those of kind k, positions N(m_k, s^2) without a
    centre of mass, log w_k the prior.

    With r_k = p(k | z) among the kinds of z's own size, v = alpha^2 s^2 + sigma^2 for positions and sigma^2 for the
    rest, eps_hat = sigma sum_k r_k (z - alpha m_k) / v. A condition says the kind, and r_k is 1 for that one.
    """

    def __init__(self, kinds: torch.Tensor, num_atoms: torch.Tensor, log_weights: torch.Tensor, std: float) -> None:
        super().__init__()
        self.kinds, self.num_atoms, self.log_weights, self.std = kinds, num_atoms, log_weights, std

    def forward(
        self, z: torch.Tensor, gamma: torch.Tensor, space: Space, condition: torch.Tensor | None = None
    ) -> Prediction:
        assert isinstance(space, Product)
        prior_variance = self.std**2 * _positions(space).double()
        a, b = (level(gamma)[:, None] for level in (alpha, sigma))
        variance = a**2 * prior_variance + b**2
        residual = z.double()[:, None] - a[:, None] * self.kinds
        own = space.blocks["elements"].mask.sum(1)[:, None] == self.num_atoms
        log_joint = self.log_weights - 0.5 * (residual.square() / variance[:, None]).sum(-1)
        share = torch.softmax(log_joint.masked_fill(~own, -torch.inf), 1)
        if condition is not None:
            share = one_hot(condition, len(self.kinds)).double()
        mean = (share[:, None] @ residual)[:, 0]  # z - alpha m, averaged over the kinds
        eps, x = b * mean / variance, (z - mean) / a + a * prior_variance / variance * mean
        return Prediction((a * eps - b * x).to(z), z, gamma, V(), space)


def _positions(space: Product) -> torch.Tensor:
    """[B, D] bool: the coordinates of the state that are positions."""
    return space.join({name: torch.full(block.shape, name == "positions") for name, block in space.blocks.items()})


KINDS = [  # H-H, H H apart, O-H with and without a charge; water, bent and straight, and O-H with an H apart
    ([1, 1], [[0, 0, 0], [0.7, 0, 0]], [1], [0, 0], 0.2),
    ([1, 1], [[0, 0, 0], [1.5, 0, 0]], [0], [0, 0], 0.1),
    ([8, 1], [[0, 0, 0], [1.0, 0, 0]], [1], [-1, 0], 0.1),
    ([8, 1], [[0, 0, 0], [1.0, 0, 0]], [1], [0, 0], 0.15),
    ([1, 8, 1], [[-0.8, 0.6, 0], [0, 0, 0], [0.8, 0.6, 0]], [1, 0, 1], [0, 0, 0], 0.25),
    ([1, 8, 1], [[-1, 0, 0], [0, 0, 0], [1, 0, 0]], [1, 0, 1], [0, 0, 0], 0.05),
    ([1, 8, 1], [[-0.8, 0.6, 0], [0, 0, 0], [0.8, 0.6, 0]], [1, 0, 0], [0, 0, 0], 0.15),
]
"""Elements, positions, orders of the pairs (0, 1), (0, 2), (1, 2), charges, and how often a kind comes."""


def _nodes(
    means: torch.Tensor, num_atoms: torch.Tensor, positions: torch.Tensor, count: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise of the data and of the state, [K, count, D] each: scrambled Sobol points of a normal, of mean zero and
    covariance one exactly, whose first coordinates lie along what tells kinds of one size apart, in positions [K, D]
    and in the rest."""
    size = means.shape[1]
    points = torch.from_numpy(qmc.MultivariateNormalQMC(np.zeros(2 * size), seed=0).random(count))
    points = points - points.mean(0)
    points = torch.linalg.solve_triangular(torch.linalg.cholesky(points.T @ points / count), points.T, upper=False).T
    turned = []
    for n in num_atoms.tolist():
        apart = means[num_atoms == n] - means[num_atoms == n].mean(0)
        place = positions[num_atoms == n]
        basis = torch.linalg.svd(torch.cat([apart * place, apart * (1 - place)]), full_matrices=True)[2]
        turned.append(torch.stack([points[:, 1::2] @ basis, points[:, ::2] @ basis]))
    of_data, of_state = torch.stack(turned, 1)
    return of_data, of_state


def test_v07_joint_bound_minus_entropy_of_a_finite_set_of_molecules() -> None:
    """bound - (H[N] + H[kind | N] + 3 (N - 1) / 2 log(2 pi e s^2)) = KL(q(z_1) || N(0, I)) + the decoder's KL.

    With gamma for the time, the diffusion term is that of Gaussian positions whose kind is known, which the nodes have
    exactly, d/2 s^2 SNR / (1 + s^2 SNR) for every gamma, and what the blind oracle errs beyond it on the same nodes.
    By I-MMSE that integrates to what z_0 says of the kind and z_1 does not: H[kind | N], to within alpha_1^2.
    """
    std, count, low, high = 0.05, 256, -10.0, 12.0
    made = MoleculeDiffusion([1, 8], max_atoms=3, bond_orders=[0, 1], formal_charges=[-1, 0]).double()
    weights = torch.tensor([kind[-1] for kind in KINDS], dtype=torch.float64)
    num_atoms = torch.tensor([len(kind[0]) for kind in KINDS])
    of_size = torch.stack([weights[num_atoms == n].sum() for n in range(4)])
    made.size.log_probabilities.copy_(of_size.log())
    kinds = batch_of([_kind(*kind[:4]) for kind in KINDS])
    own, means = made.encode(kinds)
    oracle = FiniteMolecules(means, num_atoms, weights.log(), std)

    kind = torch.arange(len(KINDS)).repeat_interleave(count)
    share = weights[kind] / count
    space = made.layout.space(kinds.mask[kind])
    of_data, of_state = (noise.flatten(0, 1) for noise in _nodes(means, num_atoms, _positions(own).double(), count))
    moved = kinds.positions[kind] + std * space.split(space.project(of_data))["positions"]
    assert kinds.bonds is not None
    assert kinds.formal_charges is not None
    seen = made.observed(
        MoleculeBatch(
            kinds.atomic_numbers[kind],
            moved,
            kinds.mask[kind],
            torch.arange(len(kind)),
            kinds.bonds[kind],
            kinds.formal_charges[kind],
        )
    )
    eps = space.project(of_state)

    def mean(values: torch.Tensor) -> float:
        return (share * values).sum().item()

    def error(gamma: torch.Tensor, told: torch.Tensor | None) -> float:
        """1/2 E |eps - eps_hat|^2."""
        prediction = oracle(diffuse(seen.x, eps, gamma), gamma, space, told)
        return mean(space.sum(continuous_integrand(prediction, seen.x, eps, torch.ones_like(gamma))))

    d = (weights * 3 * (num_atoms - 1)).sum().item()
    levels, beyond = torch.linspace(-8, 8, 33, dtype=torch.float64), []  # outside nothing is beyond
    for place, level in enumerate(levels):
        gamma = level.expand(len(kind))
        known = d / 2 * std**2 / (std**2 + level.exp().item())
        if place % 8 == 0:
            assert error(gamma, kind) == pytest.approx(known, abs=1e-9)
        beyond.append(error(gamma, None) - known)
    information = torch.trapezoid(torch.tensor(beyond), levels).item()
    of_kind = -(weights * (weights / of_size[num_atoms]).log()).sum().item()
    assert information == pytest.approx(of_kind, abs=5e-3)

    gamma_0, gamma_1 = (torch.tensor(g, dtype=torch.float64).expand(len(kind)) for g in (low, high))
    z_0 = diffuse(seen.x, eps, gamma_0)
    decoded = seen.observation.nll(seen.data, z_0, gamma_0, space, oracle(z_0, gamma_0, space).x)
    noise_0, noise_1 = math.exp(low), math.exp(high)
    gaussian = d / 2 * math.log((1 + std**2 / noise_0) / (1 + std**2 / noise_1))
    ends = mean(prior_kl(seen.x, gamma_1, space) + decoded - seen.terms["log_volume"] + seen.terms["size"])
    of_size = -torch.special.xlogy(of_size, of_size).sum().item()
    entropy = of_size + of_kind + d / 2 * math.log(2 * math.pi * math.e * std**2)
    ratio = std**2 / (std**2 + noise_0)  # of the posterior's variance to the decoder's
    gap = d / 2 * (ratio - 1 - math.log(ratio))
    assert ends + gaussian + of_kind - entropy == pytest.approx(gap, abs=2e-5)
    assert gap > 2e-4  # and it is there to be seen
    assert ends + gaussian + information - entropy == pytest.approx(gap, abs=5e-3)


def _kind(numbers: list[int], positions: list[list[float]], orders: list[int], charges: list[int]) -> Molecule:
    pairs = list(itertools.combinations(range(len(numbers)), 2))
    rows = [(*pair, order) for pair, order in zip(pairs, orders, strict=True) if order]
    return Molecule(np.array(numbers), np.array(positions), np.array(rows).reshape(-1, 3), np.array(charges))
