"""How a model is sampled where nothing is said is part of it: in Python, on the command line, exported."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from medmol_diffusion.cli import main
from medmol_diffusion.core import DPMSolver3M, Tempered
from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import read_molecules
from medmol_diffusion.training.recipe import Recipe
from medmol_diffusion.training.saved import export_model, load_model

SAID = {"steps": 3, "sampler": "dpm++3m-sde", "eta": 2.0, "noise_scale": 0.9}


@pytest.fixture(scope="module")
def model(molecule_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose config says how it is sampled."""
    folder = export_model(molecule_run, tmp_path_factory.mktemp("recipe") / "model")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["init_args"]["sampling"] = SAID
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def test_a_model_is_sampled_as_its_config_says_where_nothing_is_said(model: Path, tmp_path: Path) -> None:
    loaded = load_model(model)
    told = loaded.sample(2, steps=3, sampler=Tempered(DPMSolver3M(2.0), 0.9))  # type: ignore[operator]
    untold = loaded.sample(2)  # type: ignore[operator]
    for one, other in zip(told, untold, strict=True):
        np.testing.assert_array_equal(one.positions, other.positions)
    main(["sample", str(model), "-n", "2", "-o", str(tmp_path / "made.sdf")])
    written = read_molecules(tmp_path / "made.sdf")[0]
    np.testing.assert_allclose(written[1].positions, told[1].positions, atol=1e-3)
    assert "steps=3 sampler=dpm++3m-sde grid=time eta=2 noise_scale=0.9" in str(written[0].properties["made_by"])


def test_an_exported_model_keeps_its_recipe(model: Path, tmp_path: Path) -> None:
    assert load_model(export_model(model, tmp_path / "again")).recipe == Recipe(**SAID)  # type: ignore[arg-type]


def test_another_sampler_has_an_eta_and_a_noise_of_its_own() -> None:
    recipe = Recipe(**SAID)  # type: ignore[arg-type]
    assert recipe.instead(steps=7, sampler=None) == Recipe(7, "dpm++3m-sde", "time", 2.0, 0.9)
    assert recipe.instead(sampler="ancestral") == Recipe(3, "ancestral")
    assert recipe.instead(sampler="ddim", eta=0.5) == Recipe(3, "ddim", "time", 0.5)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"stepz": 3}, r"sampling.stepz is unknown: it has steps, sampler, spacing, eta, noise_scale"),
        ({"steps": 0}, r"sampling.steps = 0"),
        ({"spacing": "even"}, r"spacing = even one of time, trailing"),
        ({"sampler": "magic"}, r"unknown sampler 'magic'"),
        ({"eta": 2.0}, r"eta = 2 is for ddim and dpm\+\+3m-sde, not for the sampler ancestral"),
        ({"sampler": "heun", "noise_scale": 0.9}, r"Heun draws no noise"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(said: dict[str, str | int | float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Recipe.of(said, steps=100, sampler="ancestral")
