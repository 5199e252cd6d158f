"""The models that travel in the wheel: small, described, and as good as their cards say where a test can tell."""

from dataclasses import replace
from functools import cache

import numpy as np

from medmol_diffusion.molecules import Molecule, MoleculeDiffusion
from medmol_diffusion.molecules.metrics import score_molecules
from medmol_diffusion.mri import VolumeDiffusion
from medmol_diffusion.mri.judge.anatomy import ventricle_volume
from medmol_diffusion.pretrained import scores, shipped
from medmol_diffusion.training.saved import front_matter, named_class, read_model_config
from tests.molecules.test_joint import stretch_bond

QM9 = ("qm9-chno", "qm9-chno-early")


@cache
def load(name: str) -> MoleculeDiffusion:
    return MoleculeDiffusion.from_pretrained(name)


@cache
def geometry(smiles: str) -> Molecule:
    """At the minimum of MMFF94."""
    from rdkit import Chem
    from rdkit.Chem import AllChem

    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=1) == 0
    assert AllChem.MMFFOptimizeMolecule(mol) == 0
    return Molecule.from_rdkit(mol)


def test_what_ships_is_whole_and_small() -> None:
    assert {*QM9, "head-phantom"} <= set(shipped())
    total = 0
    for name, folder in shipped().items():
        assert {file.name for file in folder.iterdir()} == {
            "card.md",
            "config.yaml",
            "model.safetensors",
            "scores.json",
        }
        card, figures = (folder / "card.md").read_text(), scores(name)
        kind = named_class(read_model_config(folder)["class_path"])
        assert kind is not None
        assert card.startswith(f"{front_matter(kind, license='mit')}\n# {name}\n")
        assert "medmol fit" in card
        for figure, value in figures.items():
            assert value in card, figure
        total += (folder / "model.safetensors").stat().st_size
    assert total <= 40e6
    assert sum((shipped()[name] / "model.safetensors").stat().st_size for name in QM9) <= 25e6
    assert (shipped()["head-phantom"] / "model.safetensors").stat().st_size <= 15e6


def test_the_map_of_atoms_shows_where_a_bond_was_stretched() -> None:
    """Each bond to an atom at an end in turn, by three tenths: moving that atom changes no other bond."""
    whole = geometry("CCOC(C)=O")
    ends = [(i, j) for i, j, _ in whole.bonds.tolist() if (whole.bonds[:, :2] == j).sum() == 1]
    planted = [stretch_bond(whole, bond, 1.3) for bond in ends]
    before, *after = load("qm9-chno").atom_scores([whole, *planted], draws=128)
    assert len(ends) >= 9
    for bond, nats in zip(ends, after, strict=True):
        assert nats.argmax() in bond
        assert nats.max() > 1.5 * before.max()
        assert nats.sum() > before.sum() + 10


def test_samples_are_molecules() -> None:
    made = load("qm9-chno").sample(24, steps=50, seed=0)
    found = score_molecules(made, protocol="bonds")
    assert found.atom_stability.value > 0.8
    assert found.validity.value > 0.5
    bare = [replace(molecule, bonds=None, formal_charges=None) for molecule in made]
    assert score_molecules(bare).atom_stability.value > 0.8


def test_likelihood_tells_molecules_from_distorted_ones() -> None:
    whole = [geometry(smiles) for smiles in ("CCOC(C)=O", "CC(O)CC=O", "OCC1CC1C#N")]
    noise = np.random.default_rng(0)
    shaken = [replace(one, positions=one.positions + noise.normal(0, 0.1, one.positions.shape)) for one in whole]
    one, other = (load("qm9-chno").elbo(molecules, draws=16).total for molecules in (whole, shaken))
    assert (other - one > 20).all()


def test_autoguidance_by_the_early_model_runs_and_changes_the_samples() -> None:
    model = load("qm9-chno")
    plain, led = (
        model.sample(2, steps=4, seed=0, guide=guide) for guide in (None, model.away_from(load("qm9-chno-early"), 2.5))
    )
    assert not np.array_equal(plain[0].positions, led[0].positions)


def test_heads_have_the_contrast_and_the_ventricles_that_are_asked_for() -> None:
    model = VolumeDiffusion.from_pretrained("head-phantom")
    asked = {"contrast": ["T1w", "T1w", "T2w", "T2w"], "ventricles": [15.0, 90.0, 15.0, 90.0]}
    heads = model.sample(4, steps=20, seed=0, covariates=asked, guidance=2.0)
    for small, large, contrast in ((heads[0], heads[1], "T1w"), (heads[2], heads[3], "T2w")):
        assert ventricle_volume(large, contrast) > ventricle_volume(small, contrast) + 25
