"""MoleculeDiffusion: layout, evidence, the bound's invariances and constants, sampling."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

from medmol_diffusion.core import (
    DDIM,
    GRIDS,
    STEPPERS,
    WEIGHTINGS,
    Autoguidance,
    Classifier,
    Prediction,
    Space,
    Streams,
    alpha,
    diffuse,
    sigma,
)
from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import EGNN, Molecule, MoleculeBatch, MoleculeDiffusion
from medmol_diffusion.training.saved import export_model

ELEMENTS = [1, 6, 8]


ORDERS, CHARGES = [0, 1, 2, 3], [-1, 0, 1]
MODES = pytest.mark.parametrize("bonds", [False, True], ids=["distances", "bonds"])
"""Bonds from the distances, and bonds and formal charges in the state."""


def molecules() -> list[Molecule]:
    """Random atoms, bonds and charges."""
    draw = np.random.default_rng(0)
    found = [
        Molecule(draw.choice(ELEMENTS, size=n), 1.5 * draw.standard_normal((n, 3)), name=str(n)) for n in (3, 7, 5)
    ]
    return [_with_bonds(molecule, draw) for molecule in found]


def _with_bonds(molecule: Molecule, draw: np.random.Generator) -> Molecule:
    pairs = np.stack(np.triu_indices(molecule.num_atoms, 1), 1)
    rows = np.concatenate([pairs, draw.choice(ORDERS, size=(len(pairs), 1))], 1)
    charges = draw.choice(CHARGES, size=molecule.num_atoms)
    return replace(molecule, bonds=rows[rows[:, 2] > 0], formal_charges=charges)


def model(dtype: torch.dtype = torch.float64, bonds: bool = False) -> MoleculeDiffusion:
    torch.manual_seed(0)
    atoms, pairs = (6, 4) if bonds else (3, 0)
    network = EGNN(atoms, atoms, hidden=16, edge_hidden=8, layers=2, pairs_in=pairs, pairs_out=pairs)
    state = {"bond_orders": ORDERS, "formal_charges": CHARGES} if bonds else {}
    made = MoleculeDiffusion(ELEMENTS, network, max_atoms=10, **state)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    made.size.fit(np.bincount([3, 7, 5, 5]))
    return made.to(dtype).eval()


def batch_of(items: list[Molecule], dtype: torch.dtype = torch.float64) -> MoleculeBatch:
    made = MoleculeBatch.collate(items)
    exact = np.zeros(tuple(made.positions.shape))
    for row, item in enumerate(items):
        exact[row, : item.num_atoms] = item.positions
    return replace(made, positions=torch.from_numpy(exact).to(dtype))


@MODES
def test_encode_and_decode_are_inverse(bonds: bool) -> None:
    made, batch = model(bonds=bonds), batch_of(molecules())
    space, x, _ = made.layout.encode(batch)
    back = made.layout.decode(x, space, batch.mask, batch.index)
    assert torch.equal(back.atomic_numbers, batch.atomic_numbers)
    centred = space.blocks["positions"].project(batch.positions)
    torch.testing.assert_close(back.positions, centred)
    if bonds:
        assert torch.equal(back.bonds, batch.bonds)
        assert torch.equal(back.formal_charges, batch.formal_charges)
    else:
        assert back.bonds is None
        assert back.formal_charges is None


def test_evidence_is_the_gaussian_log_likelihood_of_an_atoms_own_blocks() -> None:
    made, batch = model(), batch_of(molecules())
    space, x, _ = made.layout.encode(batch)
    gamma = torch.tensor([-3.0, 0.5, 4.0], dtype=torch.float64)
    z = diffuse(x, space.noise(x, Streams(0, batch.index)), gamma)
    parts = space.split(z)
    found = made.layout.evidence(parts, gamma)["elements"]
    log_likelihood = []
    for k, number in enumerate(ELEMENTS):
        clean = torch.cat([torch.nn.functional.one_hot(torch.tensor(k), 3) / 4.0, torch.tensor([number / 10.0])])
        seen = torch.cat([parts["elements"], parts["charges"]], -1)
        normal = torch.distributions.Normal(alpha(gamma)[:, None, None] * clean, sigma(gamma)[:, None, None])
        log_likelihood.append(normal.log_prob(seen).sum(-1))
    torch.testing.assert_close(
        torch.log_softmax(found, -1), torch.log_softmax(torch.stack(log_likelihood, -1), -1), atol=1e-5, rtol=1e-5
    )


@MODES
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)])
def test_v18_every_term_ignores_padding_and_the_batch(dtype: torch.dtype, tolerance: float, bonds: bool) -> None:
    made, items = model(dtype, bonds), molecules()
    together = made.elbo(batch_of(items, dtype), draws=2)
    for i, item in enumerate(items):
        alone = made.elbo(replace(batch_of([item], dtype), index=torch.tensor([i])), draws=2)
        for name, value in alone.terms.items():
            torch.testing.assert_close(value[0], together.terms[name][i], rtol=tolerance, atol=tolerance)
        for name, value in alone.blocks.items():
            torch.testing.assert_close(value[0], together.blocks[name][i], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("method", ["iwae", "flow"])
@MODES
def test_v18_other_ways_to_the_likelihood_ignore_padding_and_the_batch(method: str, bonds: bool) -> None:
    made, items = model(bonds=bonds), molecules()
    together = made.nll(batch_of(items), method, steps=6, draws=2)
    assert together.terms["size"].tolist() == pytest.approx((-made.size.log_prob(torch.tensor([3, 7, 5]))).tolist())
    for i, item in enumerate(items):
        alone = made.nll(replace(batch_of([item]), index=torch.tensor([i])), method, steps=6, draws=2)
        for name, value in alone.terms.items():
            torch.testing.assert_close(value[0], together.terms[name][i], rtol=1e-9, atol=1e-9)


def test_impossible_ways_to_the_likelihood_are_refused() -> None:
    made, items = model(), molecules()
    with pytest.raises(InputError, match="unknown method 'ode': choose one of bound, iwae, flow"):
        made.nll(items, "ode")
    with pytest.raises(InputError, match="iwae with steps = 0"):
        made.nll(items, "iwae", steps=0)
    with pytest.raises(InputError, match="draws = 0"):
        made.nll(items, draws=0)


@MODES
def test_the_loss_of_a_molecule_ignores_padding(bonds: bool) -> None:
    made, items = model(bonds=bonds), molecules()
    streams = Streams(0, torch.arange(3))
    together = made.loss(batch_of(items), streams)
    one = batch_of(items[:1])
    padded = MoleculeBatch(
        torch.nn.functional.pad(one.atomic_numbers, (0, 6)),
        torch.nn.functional.pad(one.positions, (0, 0, 0, 6)),
        torch.nn.functional.pad(one.mask, (0, 6)),
        one.index,
        torch.nn.functional.pad(one.bonds, (0, 6, 0, 6)),
        torch.nn.functional.pad(one.formal_charges, (0, 6)),
    )
    alone, wide = (made.loss(batch, Streams(0, torch.arange(1))) for batch in (one, padded))
    torch.testing.assert_close(alone, wide, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(alone[0], together[0], rtol=1e-10, atol=1e-10)


def test_the_recipes_constants_stand_in_the_bound() -> None:
    """With eps_hat = 0 at z_0, reconstruction is C0 + 1/2 |eps|^2: C0 = -4.83752 nats for each of 3 (N - 1)
    positions."""
    made, items = model(), molecules()
    batch = batch_of(items)
    space = made.layout.space(batch.mask)
    bound = made.elbo(batch, transitions=1, draws=100)
    degrees = space.blocks["positions"].dim()
    gamma_0 = torch.tensor(made.schedule.gamma_0, dtype=torch.float64)
    assert (0.5 * (gamma_0 + math.log(2 * math.pi))).item() == pytest.approx(-4.83752, abs=1e-5)
    excess = bound.terms["reconstruction"] + 4.83752 * degrees
    # An untrained network predicts almost nothing of eps at sigma_0 = 0.003 angstrom: 1/2 a degree of freedom is left.
    torch.testing.assert_close(excess / degrees, torch.full((3,), 0.5, dtype=torch.float64), atol=0.1, rtol=0)
    torch.testing.assert_close(bound.terms["size"], -torch.log(torch.tensor([10, 10, 19]).double() / 45))
    assert bound.dim.tolist() == [3.0 * (n - 1) + n * 4 for n in (3, 7, 5)]


def test_molecules_larger_than_the_model_knows_are_refused() -> None:
    with pytest.raises(InputError, match="record 1: a molecule of 11 atoms has no likelihood in a model of up to 10"):
        model().elbo([Molecule(np.full(11, 6), np.random.default_rng(0).normal(size=(11, 3)))])


def test_no_molecules_are_refused() -> None:
    with pytest.raises(InputError, match="at least 1, not 0"):
        model().sample(0)


@MODES
def test_samples_depend_on_seed_and_index_alone(bonds: bool) -> None:
    made = model(torch.float32, bonds)
    many, few = (made.sample(6, steps=4, seed=3, pair_budget=budget) for budget in (10_000, 64))
    other = made.sample(6, steps=4, seed=4)
    for a, b in zip(many, few, strict=True):
        assert np.array_equal(a.atomic_numbers, b.atomic_numbers)
        np.testing.assert_allclose(a.positions, b.positions, atol=1e-4)
    assert any(
        a.num_atoms != b.num_atoms or not np.allclose(a.positions, b.positions)
        for a, b in zip(many, other, strict=True)
    )


def test_the_last_element_of_the_vocabulary_can_be_generated() -> None:
    made = model(torch.float32)
    numbers = np.concatenate([m.atomic_numbers for m in made.sample(40, steps=3, seed=0)])
    assert set(numbers.tolist()) == set(ELEMENTS)


def test_an_element_outside_the_vocabulary_is_named() -> None:
    with pytest.raises(InputError, match="elements F"):
        model().elbo([Molecule(np.array([9, 1]), np.array([[0.0, 0, 0], [0, 0, 0.92]]))])


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_every_weighting_trains(weighting: str) -> None:
    torch.manual_seed(0)
    made = MoleculeDiffusion(ELEMENTS, EGNN(3, 3, hidden=16, edge_hidden=8, layers=1), weighting=weighting)
    optimiser = torch.optim.SGD(made.parameters(), lr=0.01)
    before = {name: value.clone() for name, value in made.named_parameters()}
    loss = made.loss(batch_of(molecules(), torch.float32), torch.Generator().manual_seed(0))
    loss.mean().backward()
    optimiser.step()
    assert loss.isfinite().all()
    assert all(torch.isfinite(p).all() for p in made.parameters())
    moved = {name.partition(".")[0] for name, value in made.named_parameters() if not torch.equal(value, before[name])}
    assert moved == ({"network", "weighting"} if weighting == "learned" else {"network"})


def test_the_offset_of_a_learned_weight_is_part_of_the_loss() -> None:
    losses = []
    for u in (0.0, 0.3):
        made = model()
        made.weighting = WEIGHTINGS["learned"]()
        with torch.no_grad():
            made.weighting.coefficients[0] = u  # the constant wave
        made.element_weight = 0.0
        losses.append(made.loss(batch_of(molecules()), torch.Generator().manual_seed(0)).detach())
    torch.testing.assert_close(losses[1], math.exp(-0.3) * losses[0] + 0.3, rtol=1e-6, atol=0)


def test_the_learned_weight_is_exported_with_the_model(tmp_path: Path) -> None:
    made = MoleculeDiffusion(ELEMENTS, weighting="learned")
    with torch.no_grad():
        made.weighting.coefficients.copy_(torch.arange(16))
    save_file(made.state_dict(), tmp_path / "model.safetensors")
    config = {
        "class_path": "medmol_diffusion.molecules.MoleculeDiffusion",
        "init_args": {"elements": ELEMENTS, "weighting": "learned"},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    back = MoleculeDiffusion.from_pretrained(export_model(tmp_path, tmp_path / "out"))
    assert torch.equal(back.weighting.coefficients, torch.arange(16.0))


@MODES
@pytest.mark.parametrize("sampler", STEPPERS)
@pytest.mark.parametrize("steps", [1, 3])
def test_every_sampler_gives_molecules_on_every_grid(sampler: str, steps: int, bonds: bool) -> None:
    made = model(torch.float32, bonds)
    for spacing in GRIDS:
        (molecule,) = made.sample(1, steps=steps, sampler=sampler, spacing=spacing, sizes=torch.tensor([5]))
        assert (molecule.bonds is not None) == (molecule.formal_charges is not None) == bonds
        assert np.isfinite(molecule.positions).all()
        assert molecule.positions.std() > 0


FIXED = [[2, 0], np.array([True, False, True, True, False, False, True]), [4]]
"""Two of three atoms by their indices, four of seven by a mask, one of five."""


def far() -> list[Molecule]:
    """The molecules, 40 angstrom from the origin."""
    return [replace(m, positions=m.positions + 40) for m in molecules()]


@MODES
@pytest.mark.parametrize("sampler", STEPPERS)
def test_fixed_atoms_come_first_where_they_were_and_as_they_were(sampler: str, bonds: bool) -> None:
    found = model(torch.float32, bonds).inpaint(far(), FIXED, steps=3, sampler=sampler, resamples=2, jump=2)
    for new, old, fixed in zip(found, far(), FIXED, strict=True):
        places = np.sort(np.arange(old.num_atoms)[fixed])
        k = len(places)
        assert (new.num_atoms, new.name) == (old.num_atoms, old.name)
        assert np.array_equal(new.atomic_numbers[:k], old.atomic_numbers[places])
        np.testing.assert_allclose(new.positions[:k], old.positions[places], rtol=0, atol=1e-10)
        rest = np.setdiff1d(np.arange(old.num_atoms), places)
        assert np.abs(new.positions[k:] - old.positions[rest]).min() > 1e-4
        assert np.isfinite(new.positions).all()


def test_generated_atoms_keep_their_place_beside_the_fixed_ones() -> None:
    """The network's last word on a molecule and what comes out differ by one rigid translation."""
    made, seen = model(torch.float32), list[torch.Tensor]()

    class Heard(torch.nn.Module):
        def forward(self, z: torch.Tensor, gamma: torch.Tensor, space: Space, condition: object = None) -> Prediction:
            told = made.denoiser(z, gamma, space)
            seen.append(space.split(told.x)["positions"][0])
            return told

    found = made.inpaint(far()[1:2], FIXED[1:2], steps=4, guide=lambda inner: Heard())[0]
    last, free = seen[-1].double().numpy(), found.positions[4:]
    np.testing.assert_allclose(free - found.positions[:4].mean(0), last[4:] - last[:4].mean(0), atol=1e-4)


def test_a_scaffold_grows_to_the_size_asked_for() -> None:
    scaffold = far()[0]
    found = model(torch.float32).inpaint([scaffold] * 3, [[0, 1, 2]] * 3, sizes=[4, 8, 5], steps=3)
    assert [m.num_atoms for m in found] == [4, 8, 5]
    for m in found:
        np.testing.assert_allclose(m.positions[:3], scaffold.positions, rtol=0, atol=1e-10)
        assert np.array_equal(m.atomic_numbers[:3], scaffold.atomic_numbers)


@MODES
@pytest.mark.parametrize("sampler", STEPPERS)
def test_variations_keep_size_name_and_centre_and_leave_the_molecule_with_the_noise(sampler: str, bonds: bool) -> None:
    made = model(torch.float32, bonds)
    moved = []
    for strength in (0.02, 0.9):
        found = made.vary(far(), strength, steps=3, sampler=sampler)
        for new, old in zip(found, far(), strict=True):
            assert (new.num_atoms, new.name) == (old.num_atoms, old.name)
            np.testing.assert_allclose(new.positions.mean(0), old.positions.mean(0), atol=1e-4)
        moved.append(max(np.abs(n.positions - o.positions).max() for n, o in zip(found, far(), strict=True)))
    assert 1e-4 < moved[0] < 0.3 < moved[1]


@MODES
def test_inpainted_and_varied_molecules_depend_on_seed_and_place_alone(bonds: bool) -> None:
    made = model(torch.float32, bonds)

    def both(seed: int, budget: int) -> list[Molecule]:
        five = [*far(), far()[1], far()[1]]
        inpainted = made.inpaint(five, [*FIXED, FIXED[1], FIXED[1]], steps=3, seed=seed, pair_budget=budget)
        return inpainted + made.vary(five, steps=3, seed=seed, pair_budget=budget)

    many, alone, other = both(3, 10_000), both(3, 1), both(4, 10_000)
    for a, b, c in zip(many, alone, other, strict=True):
        assert np.array_equal(a.atomic_numbers, b.atomic_numbers)
        np.testing.assert_allclose(a.positions, b.positions, atol=1e-4)
        assert not np.allclose(a.positions, c.positions, atol=1e-3)
    assert not np.allclose(many[3].positions, many[4].positions, atol=1e-3)


def test_a_guide_wraps_the_denoiser_of_samples_variations_and_inpainting() -> None:
    """A log p(y | z) that grows with the distance of the atoms from their centre makes molecules larger; guidance by
    the model itself changes nothing."""
    made = model(torch.float32)

    def spread(z: torch.Tensor, gamma: torch.Tensor, space: Space, condition: object) -> torch.Tensor:
        return alpha(gamma).to(z) ** 2 * space.split(z)["positions"].square().sum((1, 2))

    runs = {
        "sample": lambda guide: made.sample(3, steps=5, seed=1, guide=guide),
        "vary": lambda guide: made.vary(far(), steps=5, seed=1, guide=guide),
        "inpaint": lambda guide: made.inpaint(far(), FIXED, steps=5, seed=1, guide=guide),
    }
    for name, run in runs.items():
        plain, same, guided = (
            np.concatenate([m.positions - m.positions.mean(0) for m in run(guide)])
            for guide in (None, lambda d: Autoguidance(d, d, 3.0), lambda d: Classifier(d, spread, 0.3))
        )
        np.testing.assert_allclose(same, plain, atol=1e-4, err_msg=name)
        assert np.square(guided).sum() > 1.02 * np.square(plain).sum(), name


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"fixed": [[0]]}, "fixed has 1 entries for 3 molecules"),
        ({"sizes": [4]}, "sizes has 1 entries for 3 molecules"),
        ({"fixed": [[0], [], [0]]}, "no atom of molecule '7' is fixed"),
        ({"fixed": [[0], np.zeros(7, dtype=bool), [0]]}, "no atom of molecule '7' is fixed"),
        ({"fixed": [[0], [True] * 6, [0]]}, "mask of the fixed atoms of molecule '7' has the shape .6,.*7 atoms"),
        ({"fixed": [[0], [0, 7], [0]]}, "different indices from 0 to 6"),
        ({"fixed": [[0], [1, 1], [0]]}, "different indices from 0 to 6"),
        ({"fixed": [[0, 1, 2], [0], [0]]}, "3 atoms are fixed of 3: give a size above 3"),
        ({"resamples": 0}, "resamples = 0"),
        ({"sampler": "magic"}, "unknown sampler 'magic'"),
        ({"spacing": "odd"}, "unknown grid 'odd'"),
    ],
)
def test_impossible_inpainting_is_refused(options: dict, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        model(torch.float32).inpaint(far(), **{"fixed": FIXED, "steps": 2} | options)


def test_impossible_variations_are_refused() -> None:
    made = model(torch.float32)
    for strength in (0.0, 1.1):
        with pytest.raises(InputError, match=r"strength = .* must lie in \(0, 1\]"):
            made.vary(far(), strength)
    with pytest.raises(InputError, match="no molecules are given"):
        made.vary([])
    with pytest.raises(InputError, match="no molecules are given"):
        made.inpaint([], [])
    with pytest.raises(InputError, match="'atom' has a single atom"):
        made.vary([Molecule(np.array([6]), np.zeros((1, 3)), name="atom")])
    with pytest.raises(InputError, match="elements F"):
        made.vary([Molecule(np.array([9, 1]), np.array([[0.0, 0, 0], [0, 0, 0.92]]))])
    with pytest.raises(InputError, match="unknown sampler 'magic'"):
        made.sample(1, sampler="magic")


def test_a_sampler_may_be_a_stepper_and_sizes_a_list() -> None:
    made = model(torch.float32)
    by_name, by_object, noisy = (
        made.sample(2, steps=3, sampler=sampler, sizes=[4, 5]) for sampler in ("ddim", DDIM(), DDIM(0.7))
    )
    for one, other, third in zip(by_name, by_object, noisy, strict=True):
        assert np.array_equal(one.positions, other.positions)
        assert not np.array_equal(one.positions, third.positions)
    for sizes in ([4], [4, 1]):
        with pytest.raises(InputError, match="for 2 molecules: give one of 2 or more for each"):
            made.sample(2, steps=3, sizes=sizes)
    with pytest.raises(InputError, match="no molecules are given"):
        made.elbo([])


def test_a_likelihood_takes_one_molecule_several_or_a_batch() -> None:
    made, several = model(torch.float32), molecules()
    together = made.elbo(several, 5, 2).total
    torch.testing.assert_close(made.elbo(tuple(several), 5, 2).total, together)
    torch.testing.assert_close(made.elbo(several[0], 5, 2).total, made.elbo(several[:1], 5, 2).total)
    (scores,) = made.atom_scores(several[0], draws=2)
    np.testing.assert_array_equal(scores, made.atom_scores(several[:1], draws=2)[0])
    for strange in (several[0].to_rdkit(), "CCO", (several, [])):
        with pytest.raises(InputError, match="has no likelihood: give Molecules, or a MoleculeBatch"):
            made.elbo(strange)
