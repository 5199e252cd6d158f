"""Every config in configs/ trains, and what it leaves can be loaded, validated and sampled."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import Molecule, MoleculeDiffusion
from medmol_diffusion.molecules.enumerate import enumerate_molecules
from medmol_diffusion.mri import Volume, VolumeDiffusion
from medmol_diffusion.mri.phantom import head_phantom
from medmol_diffusion.mri.tasks.comparison import compare
from medmol_diffusion.training.fit import fit
from medmol_diffusion.training.model import DiffusionModel
from medmol_diffusion.training.saved import load_model
from medmol_diffusion.training.validation import open_data, validate_model
from tests.conftest import write_npz

CONFIGS = sorted((Path(__file__).parent.parent / "configs").rglob("*.yaml"))
TINY = {
    "trainer.max_steps": "2",
    "trainer.val_check_interval": "1",
    "trainer.limit_val_batches": "1",
    "trainer.enable_progress_bar": "false",
    "trainer.enable_model_summary": "false",
    "trainer.accelerator": "cpu",
}


def molecules_of(elements: list[int], count: int = 20) -> list[Molecule]:
    """Small real molecules of the config's own elements."""
    found = enumerate_molecules(3, 1)
    return [molecule for molecule in found if np.isin(molecule.atomic_numbers, elements).all()][:count]


def phantoms(folder: Path, shape: list[int], contrasts: set[Any], words: dict[str, list[str]], count: int = 6) -> Path:
    """Of every contrast, with a table of the words that the model asks for."""
    small = (shape[0], shape[1], shape[2] - 2)  # so that there is padding
    table = ["\t".join(["participant_id", *words])]
    for i in range(count):
        for contrast in contrasts:
            volume = head_phantom(i, small, contrast=contrast).volume
            Volume(volume.data, volume.affine).write(folder / f"sub-{i:02d}_{contrast}.nii.gz")
        table.append("\t".join([f"sub-{i:02d}", *(own[i % len(own)] for own in words.values())]))
    (folder / "participants.tsv").write_text("\n".join(table) + "\n")
    return folder


def tiny_data(config: dict[str, Any], folder: Path) -> dict[str, str]:
    """Overrides that put a few small examples in the place of the config's data."""
    model: dict[str, str] = {}
    data, name = config["data"]["init_args"], config["data"]["class_path"].rpartition(".")[2]
    if name == "MoleculeData":
        elements = config["model"]["model"]["init_args"]["elements"]
        small = {"path": str(write_npz(folder / "data.npz", molecules_of(elements))), "validation": 0.2, "test": 0.2}
    elif name == "VolumeData":
        small = {"validation": 0.2, "test": 0.2, "spacing": "null", "shape": data["shape"]}
        if np.prod(data["shape"]) > 10**6:  # the same at a quarter of the sides
            own = config["model"]["model"]["init_args"]
            sides = {key: [4 * (side // 16) for side in own[key]] for key in ("shape", "window") if key in own}
            model, small["shape"] = (
                {f"model.model.init_args.{key}": str(side) for key, side in sides.items()},
                sides["shape"],
            )
        contrasts = {data.get("suffix") or "T1w", *data.get("images", ())}
        words = config["model"]["model"]["init_args"].get("covariates", {})
        small["path"] = str(phantoms(folder / "scans", small["shape"], contrasts, words))
    elif name == "PhantomData":
        small = {"count": 6, "validation": 0.2, "test": 0.2}
    else:
        small = {"max_heavy_atoms": 2, "conformers": 1, "validation": 0.2, "test": 0.2}
    return model | {f"data.{key}": str(value) for key, value in {**small, "batch_size": 2}.items()}


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_config_trains_validates_and_samples(file: Path, tmp_path: Path) -> None:
    config = yaml.safe_load(file.read_text())
    overrides = {**TINY, "trainer.default_root_dir": str(tmp_path / "run"), **tiny_data(config, tmp_path)}
    arguments = ["--config", str(file), *(f"--{key}={value}" for key, value in overrides.items())]
    if config["model"].get("teacher"):  # trained here too, by the same config without its teacher
        alone = [f"--model.{key}=null" for key in ("teacher", "student_steps")]
        teacher = fit([*arguments, *alone, f"--trainer.default_root_dir={tmp_path / 'teacher'}"])
        arguments.append(f"--model.teacher={teacher}")
    stage = (config["model"]["model"]["init_args"].get("first_stage") or {}).get("init_args", {})
    if "path" in stage:  # trained here too, by the config of the run that the path names
        first = file.with_name(f"{Path(stage['path']).name}.yaml")
        folder = tmp_path / "first"
        trained = fit([arguments[0], str(first), *arguments[2:], f"--trainer.default_root_dir={folder}"])
        arguments.append(f"--model.model.init_args.first_stage.init_args.path={trained}")
    run = fit(arguments)
    model = load_model(run)
    if not isinstance(model, DiffusionModel):
        (volume,) = model.sample(1)  # type: ignore[attr-defined]
        assert np.isfinite(volume.data).all()
    data, split = open_data(model, str(run), None, None)
    if model.without_likelihood:
        with pytest.raises(InputError, match="no likelihood"):
            validate_model(model, data, split, None, draws=1, seed=0, limit=1)
        return
    bound = validate_model(model, data, split, config["model"].get("transitions", 0), draws=1, seed=0, limit=1)
    for name, value in bound.terms.items():
        assert name == "size" or torch.isfinite(value).all(), name  # a size that was never counted has probability 0
    if isinstance(model, MoleculeDiffusion):
        assert len(model.sample(2, steps=2)) == 2
    elif isinstance(model, VolumeDiffusion) and model.task is not None:
        found = compare(model, data, split, draws=2, steps=2, limit=1)
        assert all(np.isfinite(figures).all() for figures in found.figures.values())
    elif isinstance(model, DiffusionModel):
        (volume,) = model.sample(1, steps=2)  # type: ignore[attr-defined]
        assert np.isfinite(volume.data).all()


def test_there_are_configs_of_both_domains() -> None:
    assert {file.parent.name for file in CONFIGS} == {"molecules", "mri"}
