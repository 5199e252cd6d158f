"""Tiny runs of both domains, trained once by `medmol fit` for the tests that need a model on disk."""

from pathlib import Path

import jaxtyping  # noqa: F401  before the core, which then has its shapes
import numpy as np
import pytest
import torch

from medmol_diffusion.molecules import Molecule
from medmol_diffusion.molecules.molecule import pad
from medmol_diffusion.mri import Volume
from medmol_diffusion.training.fit import fit
from tests.shapes import CALLS, check_calls, hold_the_core

TRAINER = """
seed_everything: 0
trainer:
  accelerator: cpu
  max_steps: 2
  num_sanity_val_steps: 0
  check_val_every_n_epoch: null
  val_check_interval: 2
  log_every_n_steps: 1
  enable_progress_bar: false
  enable_model_summary: false
checkpoint:
  every_n_train_steps: 2
"""
MOLECULES = """
model:
  model:
    class_path: medmol_diffusion.molecules.MoleculeDiffusion
    init_args:
      elements: [1, 6, 7, 8]
      max_atoms: 12
      network:
        class_path: medmol_diffusion.molecules.EGNN
        init_args: {atoms_in: 4, atoms_out: 4, hidden: 8, edge_hidden: 8, layers: 1}
  learning_rate: 0.01
  warmup_steps: 2
  transitions: 50
data:
  class_path: medmol_diffusion.molecules.MoleculeData
  init_args: {path: PATH, elements: [1, 6, 7, 8], validation: 0.2, test: 0.2, batch_size: 4}
"""
VOLUMES = """
model:
  model:
    class_path: medmol_diffusion.mri.VolumeDiffusion
    init_args:
      shape: [8, 8, 8]
      first_stage:
        class_path: medmol_diffusion.mri.HaarStage
        init_args:
          levels: 1
      network:
        class_path: medmol_diffusion.mri.UNet3D
        init_args: {channels_in: 16, channels_out: 16, channels: [8, 8], blocks: 1}
  learning_rate: 0.01
  warmup_steps: 2
data:
  class_path: medmol_diffusion.mri.VolumeData
  init_args: {path: PATH, shape: [8, 8, 8], validation: 0.2, test: 0.2, batch_size: 2}
"""


def pytest_configure() -> None:
    hold_the_core()


def random_molecules(count: int = 30, seed: int = 0) -> list[Molecule]:
    """Atoms of C, N, O, H at random places, 3 to 8 of them."""
    draw = np.random.default_rng(seed)
    sizes = draw.integers(3, 9, count)
    return [Molecule(draw.choice([1, 6, 7, 8], n), draw.normal(size=(n, 3)) * 1.5, name=f"m{n}") for n in sizes]


def write_npz(path: Path, molecules: list[Molecule]) -> Path:
    numbers, positions, count = pad(molecules)
    np.savez(path, atomic_numbers=numbers, positions=positions, num_atoms=count)
    return path


def write_scans(folder: Path, count: int = 8) -> Path:
    """Smooth random scans; every other one is smaller than 8 x 8 x 8, so that padding occurs."""
    for i in range(count):
        shape = (8, 8, 8) if i % 2 else (8, 6, 7)
        draw = np.random.default_rng(i)
        data = draw.normal(size=shape).cumsum(0).cumsum(1).cumsum(2)
        Volume(data - data.min(), np.eye(4)).write(folder / f"sub-{i:02d}_T1w.nii.gz")
    return folder


@pytest.fixture(autouse=True)
def _same_weights_in_any_order() -> None:
    """Networks begin with torch's global generator: a test must not depend on those that ran before it."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _shapes(request: pytest.FixtureRequest) -> None:
    """The core's calls are held against their shapes in the core's own tests, but for the identities, which are many
    and make the same calls."""
    room, name = request.path.parent.name, request.path.name
    check_calls(CALLS if room == "core" and "identities" not in name else 0)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def molecule_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("molecules")
    data = write_npz(folder / "data.npz", random_molecules())
    config = folder / "tiny.yaml"
    config.write_text(TRAINER + MOLECULES.replace("PATH", str(data)))
    return config


@pytest.fixture(scope="session")
def volume_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("volumes")
    data = write_scans(folder / "scans")
    config = folder / "tiny.yaml"
    config.write_text(TRAINER + VOLUMES.replace("PATH", str(data)))
    return config


@pytest.fixture(scope="session")
def molecule_run(molecule_config: Path) -> Path:
    return fit(["--config", str(molecule_config), "--trainer.default_root_dir", str(molecule_config.parent / "run")])


@pytest.fixture(scope="session")
def volume_run(volume_config: Path) -> Path:
    return fit(["--config", str(volume_config), "--trainer.default_root_dir", str(volume_config.parent / "run")])
