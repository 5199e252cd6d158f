from pathlib import Path

import pytest
import torch
import yaml

from medmol_diffusion.core import Streams
from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import EGNN, Molecule, MoleculeBatch, MoleculeDiffusion
from medmol_diffusion.training.fit import fit
from medmol_diffusion.training.module import DiffusionTask
from medmol_diffusion.training.saved import load_model

WATER = Molecule([8, 1, 1], [[0.0, 0.0, 0.1], [0.76, 0.0, -0.48], [-0.76, 0.0, -0.48]], properties={"logp": -0.8})


def model(seed: int = 0, layers: int = 1, **options: object) -> MoleculeDiffusion:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        size = 2 * len(options.get("properties", ()))  # type: ignore[arg-type]
        network = EGNN(2, 2, hidden=8, edge_hidden=8, layers=layers, condition_size=size)
        return MoleculeDiffusion([1, 8], network, max_atoms=4, **options)  # type: ignore[arg-type]


def test_a_run_begins_with_the_weights_it_is_told(molecule_config: Path, molecule_run: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(molecule_config.read_text())
    content["model"] |= {"start": str(molecule_run), "learning_rate": 0.0, "seed": 5}
    content["trainer"] |= {"max_steps": 1, "default_root_dir": str(tmp_path / "run")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    found = load_model(fit(["--config", str(tmp_path / "config.yaml")]))
    for name, value in load_model(molecule_run).state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value)


def test_a_condition_added_to_a_trained_model_begins_unheard() -> None:
    trained, asked = model(), model(seed=1, properties=["logp"])
    asked.start_from(trained, "trained")
    batch = MoleculeBatch.collate([WATER])
    plain = trained.elbo(batch, transitions=10).total
    torch.testing.assert_close(asked.elbo(batch, transitions=10).total, plain)
    loss = asked.loss(batch, Streams(0, batch.index)).sum()
    loss.backward()
    gradients = {name: value.grad for name, value in asked.named_parameters() if "asked" in name}
    assert gradients
    assert all(gradient is not None for gradient in gradients.values())


def test_a_start_that_does_not_fit_is_refused(molecule_run: Path, volume_run: Path) -> None:
    with pytest.raises(InputError, match="is a VolumeDiffusion, not a MoleculeDiffusion"):
        model().start_from(load_model(volume_run), str(volume_run))
    with pytest.raises(InputError, match=r"has elements \[1, 6, 7, 8\], the model \[1, 8\]"):
        model().start_from(load_model(molecule_run), str(molecule_run))
    with pytest.raises(InputError, match=r"weights that fit nowhere.*layers\.1"):
        model().start_from(model(layers=2), "deeper")
    with pytest.raises(InputError, match=r"model\.start and model\.teacher"):
        DiffusionTask(model(), start="one", teacher="other", student_steps=2)
