"""A learned schedule in both domains: it trains beside the network, keeps its ends, and travels with the model."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from medmol_diffusion.core import LearnedSchedule
from medmol_diffusion.molecules.batch import MoleculeBatch
from medmol_diffusion.mri import VolumeBatch
from medmol_diffusion.training.fit import fit
from medmol_diffusion.training.model import DiffusionModel
from medmol_diffusion.training.saved import build, export_model, load_model
from tests.conftest import random_molecules

ENDS = (-9.0, 7.0)
SCHEDULE = {
    "class_path": "medmol_diffusion.core.LearnedSchedule",
    "init_args": {"gamma_0": ENDS[0], "gamma_1": ENDS[1], "hidden": 8},
}
FILES = {"molecules": "molecule_config", "mri": "volume_config"}
domains = pytest.mark.parametrize("domain", FILES)


def config(domain: str, request: pytest.FixtureRequest, **arguments: Any) -> dict[str, Any]:
    """The config of the tiny run of a domain, with a learned schedule."""
    found = yaml.safe_load(request.getfixturevalue(FILES[domain]).read_text())
    found["model"]["model"]["init_args"].update(schedule=SCHEDULE, **arguments)
    return found


def batch(domain: str) -> Any:
    if domain == "molecules":
        return MoleculeBatch.collate(random_molecules(4))
    data = torch.randint(256, (4, 1, 8, 8, 8), generator=torch.Generator().manual_seed(0)) * (2 / 255) - 1
    return VolumeBatch(data, torch.ones(4, 1, 8, 8, 8, dtype=torch.bool), torch.arange(4), [""] * 4)


def schedule_of(model: DiffusionModel) -> LearnedSchedule:
    schedule = model.schedule
    assert isinstance(schedule, LearnedSchedule)
    return schedule


def has_its_ends(schedule: LearnedSchedule) -> bool:
    ends = schedule.gamma(torch.tensor([0.0, 1.0], dtype=torch.float64))
    return bool((ends - torch.tensor(ENDS, dtype=torch.float64)).abs().max() < 1e-12)


@domains
@pytest.mark.parametrize("gamma_mean", [None, 0.0])
def test_two_steps_move_the_interior_and_not_the_ends(
    domain: str, gamma_mean: float | None, request: pytest.FixtureRequest
) -> None:
    model = build(config(domain, request, gamma_mean=gamma_mean)["model"]["model"])
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    before = schedule_of(model).gamma(t).detach()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(2):
        optimiser.zero_grad()
        model.loss(batch(domain), torch.Generator().manual_seed(step)).mean().backward()
        optimiser.step()
    after = schedule_of(model).gamma(t).detach()
    assert (after - before)[1:-1].abs().min() > 1e-4
    assert has_its_ends(schedule_of(model))


@domains
def test_the_network_learns_as_beside_a_fixed_schedule(domain: str, request: pytest.FixtureRequest) -> None:
    torch.manual_seed(0)
    learning = build(config(domain, request)["model"]["model"])
    fixed = copy.deepcopy(learning)
    fixed.schedule.requires_grad_(False)
    losses = [model.loss(batch(domain), torch.Generator().manual_seed(0)) for model in (learning, fixed)]
    assert torch.equal(*losses)
    for loss in losses:
        loss.mean().backward()
    for one, other in zip(learning.network.parameters(), fixed.network.parameters(), strict=True):
        assert (one.grad is None and other.grad is None) or torch.equal(one.grad, other.grad)
    assert all(parameter.grad is not None for parameter in learning.schedule.parameters())


@domains
def test_a_run_an_export_and_its_reader_keep_the_schedule(
    domain: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """medmol fit with the moving average and a clipped gradient, then export, then load: every digit."""
    whole = config(domain, request)
    whole["trainer"].update(default_root_dir=str(tmp_path / "run"), gradient_clip_val=1.0)
    (tmp_path / "learned.yaml").write_text(yaml.safe_dump(whole))
    run = fit(["--config", str(tmp_path / "learned.yaml")])
    exported = export_model(run, tmp_path / "out")
    trained, read = (schedule_of(load_model(folder)) for folder in (run, exported))
    start = LearnedSchedule(*ENDS, hidden=8).state_dict()
    for name, value in trained.state_dict().items():
        assert value.dtype == torch.float64
        assert torch.equal(read.state_dict()[name], value)
        assert not torch.equal(value, start[name])
    assert has_its_ends(read)
