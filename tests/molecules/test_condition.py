"""What molecules are asked to be: its numbers, what training leaves out, and what it does to samples and bounds."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from medmol_diffusion.core import Streams
from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import EGNN, Molecule, MoleculeBatch, MoleculeDiffusion
from medmol_diffusion.molecules.condition import Conditioning
from medmol_diffusion.molecules.dataset import MoleculeDataset
from medmol_diffusion.molecules.flat import FlatMolecules
from medmol_diffusion.molecules.formula import atoms_of, counts_of

ELEMENTS = [1, 6, 8]
NAN = math.nan


def molecules() -> list[Molecule]:
    draw = np.random.default_rng(0)
    found = []
    for n, mass in ((3, 1.0), (7, 3.0), (5, NAN)):
        numbers = draw.choice(ELEMENTS, size=n)
        found.append(Molecule(numbers, draw.standard_normal((n, 3)), properties={"mass": mass, "gap": 2.0}))
    return found


def data(properties: tuple[str, ...] = ("mass", "gap")) -> MoleculeDataset:
    return MoleculeDataset(FlatMolecules.of(molecules()), None, None, properties)


def model(composition: bool = True) -> MoleculeDiffusion:
    torch.manual_seed(0)
    told = 8 if composition else 4
    made = MoleculeDiffusion(
        ELEMENTS,
        EGNN(3, 3, hidden=16, edge_hidden=8, layers=2, condition_size=told),
        max_atoms=10,
        properties=["mass", "gap"],
        composition=composition,
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        made.network.network.context.asked.weight.normal_(std=0.5)
    assert made.conditioning is not None
    made.conditioning.fit(data())
    return made.eval()


def test_values_are_standardised_by_the_training_molecules_beside_their_flags() -> None:
    made = Conditioning(["mass", "gap"], ELEMENTS)
    made.fit(data())
    counts = np.array([[(m.atomic_numbers == z).sum() for z in ELEMENTS] for m in molecules()], dtype=float)
    spread = np.where(counts.std(0) > 0, counts.std(0), 1)
    batch = MoleculeBatch.collate(molecules())
    found = made.encode(made.of(batch))
    assert found.shape == (3, made.size) == (3, 8)
    # mass is 1, 3 and unknown: mean 2, std 1; gap is the same for all, and its std is one
    torch.testing.assert_close(found[:, :2], torch.tensor([[-1.0, 0], [1, 0], [0, 0]]))
    torch.testing.assert_close(found[:, 2:5].double().numpy(), (counts - counts.mean(0)) / spread, rtol=1e-6, atol=1e-6)
    assert found[:, 5:].tolist() == [[1, 1, 1], [1, 1, 1], [0, 1, 1]]


def test_nothing_asked_is_all_zeros_and_the_unconditional_model() -> None:
    made = model()
    assert made.conditioning is not None
    nothing = made.conditioning.encode(made.conditioning.asked(3, {}))
    assert not nothing.any()
    space, x = made.encode(MoleculeBatch.collate(molecules()))
    gamma = torch.zeros(3, dtype=torch.float64)
    assert torch.equal(made.denoiser(x, gamma, space, nothing).x, made.denoiser(x, gamma, space).x)


def test_training_leaves_out_each_question_and_all_at_once() -> None:
    """P(asked) = (1 - p)^2 for each question; P(nothing asked) = p + (1 - p) p^3; the elements are one question."""
    made = Conditioning(["mass", "gap"], ELEMENTS, dropout=0.3)
    asked = made.leave_out(torch.ones(40_000, 5, dtype=torch.float64), torch.Generator().manual_seed(0)).isfinite()
    assert torch.equal(asked[:, 2], asked[:, 3])
    assert torch.equal(asked[:, 2], asked[:, 4])
    rates = asked.double().mean(0)[:3]
    torch.testing.assert_close(rates, torch.full((3,), 0.49, dtype=torch.float64), atol=0.012, rtol=0)
    assert (~asked.any(1)).double().mean().item() == pytest.approx(0.3 + 0.7 * 0.027, abs=0.012)
    both = (asked[:, 0] & asked[:, 1]).double().mean().item()
    assert both == pytest.approx(0.7**3, abs=0.012)  # given that something is asked they are independent


def test_what_training_leaves_out_depends_on_the_item_alone() -> None:
    made = Conditioning(["mass", "gap"], ELEMENTS, dropout=0.5)
    values = torch.ones(6, 5, dtype=torch.float64)
    together = made.leave_out(values, Streams(3, torch.arange(6)))
    alone = torch.cat([made.leave_out(values[i : i + 1], Streams(3, torch.tensor([i]))) for i in range(6)])
    torch.testing.assert_close(together, alone, equal_nan=True)


def test_the_loss_hears_the_condition_and_nan_is_never_zero() -> None:
    made = model()
    assert made.conditioning is not None
    made.conditioning.dropout = 0.0
    batch = MoleculeBatch.collate(molecules())
    other = replace(batch, properties={**batch.properties, "mass": torch.tensor([5.0, 3.0, NAN], dtype=torch.float64)})
    one, two = (made.loss(item, Streams(0, batch.index)) for item in (batch, other))
    assert one[0] != two[0]
    assert torch.equal(one[1:], two[1:])
    assert one.isfinite().all()


def test_the_bound_of_a_condition_tells_the_molecules_own_values() -> None:
    made = model()
    plain, told = (made.elbo(molecules(), transitions=5, draws=4, conditional=c) for c in (False, True))
    assert told.settings["conditional"] == 1
    assert (plain.terms["size"] > 0).all()
    assert not told.terms["size"].any()  # a composition says the size
    torch.testing.assert_close(plain.terms["prior"], told.terms["prior"])
    assert (plain.terms["diffusion"] != told.terms["diffusion"]).all()
    for method in ("iwae", "flow"):
        first, second = (made.nll(molecules(), method, 3, 1, conditional=c) for c in (False, True))
        assert (first.total != second.total).all()
    of_properties = model(composition=False)
    assert (of_properties.elbo(molecules(), 5, 1, conditional=True).terms["size"] > 0).all()
    with pytest.raises(InputError, match="takes no condition"):
        MoleculeDiffusion(ELEMENTS).elbo(molecules(), conditional=True)


def test_a_model_without_a_condition_has_the_weights_it_always_had() -> None:
    assert not [name for name in MoleculeDiffusion(ELEMENTS).state_dict() if "condition" in name or "asked" in name]


@pytest.mark.filterwarnings("default:mass = .* is asked for:UserWarning")  # far, so that it shows
def test_guidance_is_plain_at_zero_the_condition_at_one_and_more_beyond() -> None:
    made = model()

    def at(guidance: float, **asked: object) -> np.ndarray:
        found = made.sample(2, steps=4, sizes=[5, 6], guidance=guidance, **asked)  # type: ignore[arg-type]
        return np.concatenate([m.positions for m in found])

    mass = {"properties": {"mass": [2.5, 9.0]}}
    plain, told = at(1.0), at(1.0, **mass)
    np.testing.assert_allclose(at(0.0, **mass), plain, atol=1e-4)
    assert np.abs(told - plain).max() > 1e-3
    assert np.abs(at(3.0, **mass) - told).max() > 1e-3
    outside = at(3.0, interval=(100.0, 101.0), **mass)
    np.testing.assert_allclose(outside, told, atol=1e-4)


def test_values_may_differ_by_molecule_and_nan_asks_nothing() -> None:
    made = model()
    shared = made.sample(2, steps=3, sizes=[5, 5], properties={"mass": 4.0})
    each = made.sample(2, steps=3, sizes=[5, 5], properties={"mass": [4.0, NAN]})
    plain = made.sample(2, steps=3, sizes=[5, 5])
    np.testing.assert_allclose(shared[0].positions, each[0].positions, atol=1e-5)
    np.testing.assert_allclose(plain[1].positions, each[1].positions, atol=1e-5)
    assert np.abs(shared[1].positions - each[1].positions).max() > 1e-4


@pytest.mark.filterwarnings("default:mass = .* is asked for:UserWarning")  # far, so that it shows
def test_variations_and_inpainting_are_steered_too() -> None:
    made, given = model(), molecules()
    for run in (
        lambda **asked: made.vary(given, 0.9, steps=3, **asked),
        lambda **asked: made.inpaint(given, [[0]] * 3, steps=3, **asked),
    ):
        plain, told = (run(**asked) for asked in ({}, {"properties": {"mass": 8.0}, "guidance": 2.0}))
        assert all(np.abs(a.positions - b.positions).max() > 1e-4 for a, b in zip(plain, told, strict=True))


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "heun", "dpm++2m", "unipc"])
@pytest.mark.parametrize("conditional", [False, True])
def test_a_formula_is_kept_exactly_by_any_model(sampler: str, conditional: bool) -> None:
    made = model() if conditional else MoleculeDiffusion(ELEMENTS, EGNN(3, 3, hidden=8, edge_hidden=8, layers=1))
    formulas = ["C2H6O", "H2O", "CO2"]
    found = made.sample(3, steps=3, sampler=sampler, formula=formulas)
    for molecule, formula in zip(found, formulas, strict=True):
        assert sorted(molecule.atomic_numbers) == sorted(atoms_of(formula, ELEMENTS))
        assert np.isfinite(molecule.positions).all()
        assert molecule.positions.std() > 0


def test_a_composition_says_the_size() -> None:
    assert [m.num_atoms for m in model().sample(2, steps=2, composition=["CH4O", "C2H6"])] == [6, 8]


def test_formulas_are_read_as_chemists_write_them() -> None:
    assert atoms_of("CH3COOH", ELEMENTS).tolist() == [6, 1, 1, 1, 6, 8, 8, 1]
    assert counts_of(["C7H10O2", "CO"], ELEMENTS).tolist() == [[10, 7, 2], [0, 1, 1]]
    for formula, fault in [
        ("c2h6", "is no formula"),
        ("", "is no formula"),
        ("C2H6+", "is no formula"),
        ("CH3Cl", "holds Cl, but the model makes H, C, O alone"),
        ("C", "two or more"),
        ("C0H0", "two or more"),
        ("Xq2", "not an element"),
    ]:
        with pytest.raises(InputError, match=fault):
            atoms_of(formula, ELEMENTS)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"properties": {"qed": 1.0}}, "cannot be asked for qed: it knows mass, gap, composition"),
        ({"properties": {"mass": [1.0, 2.0, 3.0]}}, "has 3 values for 2 molecules"),
        ({"guidance": 2.0}, "needs something to guide to"),
        ({"properties": {"mass": 1.0}, "guidance": 2.0, "interval": (1.0, 0.0)}, "lower gamma to a higher"),
        ({"formula": ["CO"]}, "formula has 1 entries for 2"),
        ({"formula": "CO2", "sizes": [3, 4]}, "a formula says the number of atoms"),
        ({"composition": "C9H20"}, "29 atoms is asked for of a model of up to 10"),
        ({"sizes": [4, 11]}, "11 atoms is asked for of a model of up to 10"),
    ],
)
def test_what_cannot_be_asked_is_refused(options: dict, fault: str) -> None:
    with pytest.raises(InputError, match=fault):
        model().sample(2, steps=2, **options)


def test_faults_of_declaration_are_named() -> None:
    with pytest.raises(ValueError, match=r"condition_size = 0, but the condition has 4 numbers"):
        MoleculeDiffusion(ELEMENTS, EGNN(3, 3), properties=["mass", "gap"])
    with pytest.raises(ValueError, match="condition_size = 4, but the condition has 0"):
        MoleculeDiffusion(ELEMENTS, EGNN(3, 3, condition_size=4))
    with pytest.raises(ValueError, match="twice"):
        Conditioning(["a", "a"])
    with pytest.raises(ValueError, match="dropout"):
        Conditioning(["a"], dropout=1.0)
    with pytest.raises(InputError, match=r"do not bring it: add to data.properties"):
        Conditioning(["mass"]).fit(data(("gap",)))
    with pytest.raises(InputError, match="cannot be asked for a composition"):
        model(composition=False).sample(1, steps=1, composition="CO")
    with pytest.raises(InputError, match="takes no condition"):
        MoleculeDiffusion(ELEMENTS).sample(1, steps=1, properties={"mass": 1.0})
