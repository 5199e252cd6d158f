"""Distillation runs of both domains: what a student begins with, what it learns from, and how it goes on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor
from torch.nn import functional as F

from medmol_diffusion.core import DDIM, Prediction, Streams, ddim_target, diffuse, grid
from medmol_diffusion.core import sample as run_sampler
from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import MoleculeDiffusion
from medmol_diffusion.training.curve import read_rows
from medmol_diffusion.training.fit import fit
from medmol_diffusion.training.model import DiffusionModel
from medmol_diffusion.training.module import DiffusionTask
from medmol_diffusion.training.saved import export_model, load_model
from medmol_diffusion.training.validation import open_data
from tests.conftest import MOLECULES, TRAINER, VOLUMES, random_molecules, write_npz, write_scans

domains = pytest.mark.parametrize("domain", ["molecule", "volume"])


def of(domain: str, request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """(config, teacher's run) of a domain."""
    return request.getfixturevalue(f"{domain}_config"), request.getfixturevalue(f"{domain}_run")


def distil(config: Path, teacher: Path, folder: Path, *more: str) -> Path:
    steps = ["--model.teacher", str(teacher), "--model.student_steps", "4"]
    return fit(["--config", str(config), "--trainer.default_root_dir", str(folder), *steps, *more])


def first_batch(model: DiffusionModel, run: Path) -> Any:
    data, split = open_data(model, str(run), None, "train")
    return next(iter(data.evaluation_dataloader(split, np.arange(4))))  # type: ignore[attr-defined]


@domains
def test_the_error_is_zero_at_the_target_and_the_teacher_is_there_at_one_substep(
    domain: str, request: pytest.FixtureRequest
) -> None:
    _, run = of(domain, request)
    teacher, student = load_model(run), load_model(run)
    batch = first_batch(teacher, run)

    def losses(substeps: int) -> Tensor:
        return student.distillation_loss(batch, teacher, 4, substeps, Streams(0, batch.index))

    assert losses(1).max() < 1e-5
    assert losses(2).min() > 1e-5


@domains
def test_the_first_step_begins_at_the_teacher(domain: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """With a learning rate of zero a run leaves the teacher: its weights, and the statistics of the teacher's data,
    though the run has other data."""
    _, run = of(domain, request)
    if domain == "molecule":
        data, text = write_npz(tmp_path / "data.npz", random_molecules(20, seed=5)), MOLECULES
    else:
        data, text = write_scans(tmp_path / "scans", 5), VOLUMES
    config = tmp_path / "other.yaml"
    config.write_text(TRAINER + text.replace("PATH", str(data)))
    found = load_model(distil(config, run, tmp_path / "run", "--model.learning_rate", "0")).state_dict()
    for name, value in load_model(run).state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-7)  # EMA rounds
    measured = load_model(fit(["--config", str(config), "--trainer.default_root_dir", str(tmp_path / "fresh")]))
    statistic = "data_std" if domain == "molecule" else "data_mean"
    assert not torch.equal(found[statistic], measured.state_dict()[statistic])


@domains
def test_learning_brings_the_student_to_its_target(domain: str, request: pytest.FixtureRequest) -> None:
    _, run = of(domain, request)
    teacher, student = load_model(run), load_model(run).train()
    batch = first_batch(teacher, run)
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = student.distillation_loss(batch, teacher, 4, 3, Streams(0, batch.index)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_a_resumed_student_equals_the_one_that_never_stopped(
    molecule_config: Path, molecule_run: Path, tmp_path: Path
) -> None:
    before = (molecule_run / "checkpoints" / "last.ckpt").read_bytes()

    def run(name: str, steps: int, *more: str) -> Path:
        often = ["--trainer.val_check_interval", "3", "--checkpoint.every_n_train_steps", "100"]
        return distil(molecule_config, molecule_run, tmp_path / name, *often, "--trainer.max_steps", str(steps), *more)

    whole = run("whole", 7)
    run("parts", 4)
    parts = run("parts", 7, "--ckpt_path", "last")
    a, b = (torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (whole, parts))
    for key in ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers"):
        torch.testing.assert_close(b[key], a[key], rtol=0, atol=0)
    assert read_rows(parts / "metrics.csv") == read_rows(whole / "metrics.csv")
    # The teacher is neither saved with the student nor changed by it.
    assert set(a["state_dict"]) == {f"model.{name}" for name in load_model(molecule_run).state_dict()}
    assert (molecule_run / "checkpoints" / "last.ckpt").read_bytes() == before


def test_students_teach_and_exports_tell_their_steps(molecule_config: Path, molecule_run: Path, tmp_path: Path) -> None:
    four = distil(molecule_config, molecule_run, tmp_path / "four")
    exported = export_model(four, tmp_path / "exported")
    two = distil(molecule_config, exported, tmp_path / "two", "--model.student_steps", "2")
    card = (export_model(two, tmp_path / "exported-two") / "card.md").read_text()
    assert "| distilled | to 2 DDIM steps, from exported |" in card
    assert "medmol sample exported-two --sampler ddim --steps 2 -o" in card
    assert 'model.sample(4, seed=0, sampler="ddim", steps=2)' in card


def test_a_perfect_student_of_molecules_lands_where_the_teacher_lands(molecule_run: Path) -> None:
    """The error of a molecule is zero for the output that says the target, and the step from there is the teacher's
    path: positions, elements and charges."""
    model = MoleculeDiffusion.from_pretrained(molecule_run).double()
    batch = first_batch(model, molecule_run)
    space, x = model.encode(batch)
    x = x.double()
    gammas = grid(model.schedule, 8)[4:7]
    path = gammas[:, None].expand(-1, len(x))
    z = space.noise(x, Streams(0, batch.index))
    denoiser = model.denoiser
    target, eps = ddim_target(denoiser, space, z, path)
    kinds: Any = denoiser.parameterization
    states = [space.split(v)["positions"] for v in (target, eps)]
    positions = kinds.blocks["positions"].error(
        torch.zeros_like(states[0]), *states, path[0], space.blocks["positions"]
    )
    parts = space.split(target)
    mask = batch.mask[..., None]
    output = space.join(
        {
            "positions": positions,
            "elements": torch.where(mask, parts["elements"], 1.0).log(),
            "charges": parts["charges"],
        }
    )
    perfect = Prediction(output, z, path[0], kinds, space)
    loss = model.error(perfect, target, eps, model.weighting)
    assert loss.abs().max() < 1e-12

    class Perfect:
        def __call__(self, *_: Any) -> Prediction:
            return perfect

    one: Any = Perfect()
    with torch.no_grad():
        landed = run_sampler(one, DDIM(), gammas[[0, 2]], space, z, torch.Generator())
        expected = run_sampler(denoiser, DDIM(), gammas, space, z, torch.Generator())
    torch.testing.assert_close(landed, expected, rtol=1e-10, atol=1e-10)


def test_against_data_the_error_of_elements_is_their_cross_entropy(molecule_run: Path) -> None:
    model = load_model(molecule_run)
    assert isinstance(model, MoleculeDiffusion)
    batch = first_batch(model, molecule_run)
    space, x = model.encode(batch)
    gamma = torch.linspace(-2, 4, len(x), dtype=torch.float64)
    eps = space.noise(x, Streams(0, batch.index))
    prediction = model.denoiser(diffuse(x, eps, gamma), gamma, space)
    errors = []
    for model.element_weight in (0.0, 1.0):
        errors.append(model.error(prediction, x, eps, model.weighting))
    logits = space.split(prediction.output)["elements"].transpose(1, 2)
    entropy = F.cross_entropy(logits, model.layout.labels(batch)["elements"], reduction="none") * batch.mask
    torch.testing.assert_close(errors[1] - errors[0], entropy.sum(1) / batch.mask.sum(1))


def test_a_teacher_that_cannot_teach_is_refused(
    molecule_config: Path, molecule_run: Path, volume_run: Path, tmp_path: Path
) -> None:
    def says(words: str, teacher: Path = molecule_run, *more: str, config: Path = molecule_config) -> None:
        with pytest.raises(InputError, match=words):
            distil(config, teacher, tmp_path / "run", *more)
        assert not (tmp_path / "run").exists()

    def changed(name: str, value: object, block: str = "") -> Path:
        content = yaml.safe_load(molecule_config.read_text())
        arguments = content["model"]["model"]["init_args"]
        (arguments[block]["init_args"] if block else arguments)[name] = value
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(content))
        return file

    says(f"{tmp_path / 'none'} is no model", tmp_path / "none")
    says(f"the teacher {volume_run} is a VolumeDiffusion, not a MoleculeDiffusion", volume_run)
    says(r"has elements \[1, 6, 7, 8\], the model \[1, 6, 7, 9\]", config=changed("elements", [1, 6, 7, 9]))
    says("has another architecture than the model", config=changed("layers", 2, "network"))
    says("needs model.student_steps, at least 1", molecule_run, "--model.student_steps", "null")
    says("needs model.student_steps, at least 1", molecule_run, "--model.student_steps", "0")
    for steps in ("4", "6"):
        says(f"model.teacher_steps = {steps} must be", molecule_run, "--model.teacher_steps", steps)
    with pytest.raises(InputError, match=r"need a model\.teacher"):
        DiffusionTask(load_model(molecule_run), student_steps=4)
