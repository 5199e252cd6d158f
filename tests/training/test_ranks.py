"""Training on several ranks: weights, averages, curves and validation are those of one process with the same batches.

Two real processes with gloo train once, for all of these tests.
"""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import yaml

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.sampler import SizeBucketSampler
from medmol_diffusion.mri.loader import ScanBatches
from medmol_diffusion.training.checkpoint import last_checkpoint, step_of
from medmol_diffusion.training.curve import read_rows
from medmol_diffusion.training.fit import fit
from medmol_diffusion.training.loader import DealtBatches
from medmol_diffusion.training.names import validation_metrics
from medmol_diffusion.training.saved import build, load_model
from medmol_diffusion.training.step import Share
from medmol_diffusion.training.validation import open_data, validate_model
from tests.conftest import MOLECULES, TRAINER, VOLUMES, random_molecules, write_npz, write_scans
from tests.training.ranks import RANKS

SCHEDULE = {"class_path": "medmol_diffusion.core.LearnedSchedule", "init_args": {"gamma_0": -9.0, "hidden": 8}}
INPAINTING = {"class_path": "medmol_diffusion.mri.Inpainting", "init_args": {"smallest": 0.4, "largest": 0.6}}
MODELS: dict[str, dict[str, Any]] = {
    "molecules": {"schedule": SCHEDULE, "composition": True, "given": True, "condition_dropout": 0.5},
    "volumes": {"schedule": SCHEDULE, "task": INPAINTING},
}
NETWORKS: dict[str, dict[str, Any]] = {
    "molecules": {"atoms_in": 5, "condition_size": 5},
    "volumes": {"channels_in": 32},
}
DATA: dict[str, dict[str, Any]] = {
    "molecules": {},
    "volumes": {"validation": 0.25, "flip": True, "shift": 1, "bend": 0.3},
}
BATCH = {"molecules": 2, "volumes": 1}
"""Examples of a batch that are one rank's."""
STEPS = 8
"""More than an epoch in both domains."""
STATE = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "lr_schedulers", "global_step")


def configs(folder: Path) -> dict[str, Path]:
    """Domain -> a config of a learned schedule and whatever training leaves to chance."""
    molecules = write_npz(folder / "data.npz", random_molecules())
    scans = write_scans(folder / "scans", 12)
    made = {}
    for domain, text, path in (("molecules", MOLECULES, molecules), ("volumes", VOLUMES, scans)):
        content = yaml.safe_load((TRAINER + text).replace("PATH", str(path)))
        content["trainer"] |= {"gradient_clip_val": 1.0, "val_check_interval": 4, "max_steps": STEPS}
        content["checkpoint"] = {"every_n_train_steps": 100}
        arguments = content["model"]["model"]["init_args"]
        arguments.update(MODELS[domain])
        arguments["network"]["init_args"].update(NETWORKS[domain])
        content["data"]["init_args"].update(DATA[domain])
        made[domain] = folder / f"{domain}.yaml"
        made[domain].write_text(yaml.safe_dump(content))
    return made


def arguments(config: Path, out: Path, batch: int, *more: str, precision: str = "64-true") -> list[str]:
    return [
        *("--config", str(config), "--trainer.default_root_dir", str(out), "--data.batch_size", str(batch)),
        *("--trainer.precision", precision, *more),
    ]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs NAME-1 of one process and NAME-2 of two."""
    folder = tmp_path_factory.mktemp("ranks")
    jobs = []
    for domain, config in configs(folder).items():
        batch = BATCH[domain]
        jobs.append(arguments(config, folder / f"{domain}-2", batch))
        fit(arguments(config, folder / f"{domain}-1", RANKS * batch))
        if domain == "molecules":
            parts = folder / "parts-2"
            jobs.append(arguments(config, parts, batch, "--trainer.max_steps", "3"))
            jobs.append(arguments(config, folder / "single-2", batch, precision="32-true"))
            fit(arguments(config, folder / "single-1", RANKS * batch, precision="32-true"))
    (folder / "jobs.json").write_text(json.dumps(jobs))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "tests.training.ranks", port, str(folder / "jobs.json")]
    said = subprocess.run(command, check=False, capture_output=True, timeout=300)
    assert said.returncode == 0, said.stderr.decode()[-4000:]
    assert b"Grad strides" not in said.stderr
    return folder


def state(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(last_checkpoint(run / "checkpoints"), weights_only=True)
    return found


@pytest.mark.parametrize("domain", list(MODELS))
def test_shares_were_unequal(domain: str, runs: Path) -> None:
    """What follows holds for batches of odd numbers and of one example, in training and in validation."""
    config = yaml.safe_load((runs / f"{domain}-1" / "config.yaml").read_text())["data"]
    data = build(config, pl.LightningDataModule)
    data.setup()
    train, held_out = (
        [len(b) for b in loader.dealt.batches()] for loader in (data.train_dataloader(), data.val_dataloader())
    )
    assert 1 in held_out
    assert domain == "volumes" or {1, 3} <= set(train)


@pytest.mark.parametrize("domain", list(MODELS))
def test_two_ranks_train_to_the_weights_of_one_process(domain: str, runs: Path) -> None:
    """In float64 the weights, their averages and the optimiser's moments agree to 1e-9, so that in float32 nothing but
    rounding parts them. The logged losses, means over both ranks, and every figure of the validation agree likewise."""
    one, two = (state(runs / f"{domain}-{ranks}") for ranks in (1, 2))
    assert one["global_step"] == two["global_step"] == STEPS
    for key in STATE:
        torch.testing.assert_close(two[key], one[key], rtol=1e-9, atol=1e-9, msg=lambda text, key=key: f"{key} {text}")
    rows = [read_rows(runs / f"{domain}-{ranks}" / "metrics.csv") for ranks in (1, 2)]
    assert len({row["epoch"] for row in rows[0]}) > 1
    assert sum("val/total" in row for row in rows[0]) == 2
    for a, b in zip(*rows, strict=True):
        assert {name: float(v) for name, v in b.items()} == pytest.approx({n: float(v) for n, v in a.items()}, rel=1e-6)


def test_in_float32_only_rounding_parts_two_ranks_from_one_process(runs: Path) -> None:
    one, two = (state(runs / f"single-{ranks}") for ranks in (1, 2))
    for key in ("state_dict", "current_model_state"):
        torch.testing.assert_close(two[key], one[key], rtol=1e-3, atol=1e-4)


def test_medmol_validate_gives_the_figures_of_the_last_validation_on_two_ranks(runs: Path) -> None:
    run = runs / "single-2"
    data, split = open_data(model := load_model(run), str(run), None, "validation")
    found = validation_metrics(validate_model(model.eval(), data, split, steps=50, draws=1, seed=0))
    logged = [row for row in read_rows(run / "metrics.csv") if "val/total" in row][-1]
    assert {name: float(logged[name]) for name in found} == pytest.approx(found, rel=1e-4)


def resumed(part: Path, out: Path, config: Path, batch: int) -> Path:
    """One process goes on from a run of two ranks."""
    shutil.copytree(part, out)
    return fit(arguments(config, out, batch, "--ckpt_path", "last"))


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_one_process_goes_on_where_two_ranks_stopped(runs: Path) -> None:
    """In the middle of an epoch: with batches twice as large it ends as either of them; with others it takes the epoch
    up at the same share of it."""
    part, config = runs / "parts-2", runs / "molecules.yaml"
    assert step_of(last_checkpoint(part / "checkpoints")) == 3
    one, same = state(runs / "molecules-1"), state(resumed(part, runs / "same", config, RANKS * BATCH["molecules"]))
    for key in STATE:
        torch.testing.assert_close(same[key], one[key], rtol=1e-9, atol=1e-9)
    assert state(resumed(part, runs / "other", config, BATCH["molecules"]))["global_step"] == STEPS


class Every(DealtBatches):
    """Batches of 5, 4, 3, 2 and 1 examples."""

    def __len__(self) -> int:
        return 5

    def batches(self) -> list[list[int]]:
        return [list(range(10 * size, 10 * size + size)) for size in (5, 4, 3, 2, 1)]


class Batch(list[int]):
    total = 0


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_every_example_of_a_batch_counts_once_and_with_the_same_weight(ranks: int) -> None:
    """What is averaged over ranks is the mean over the whole batch, whatever the shares."""
    shares = [list(Every(rank, ranks)) for rank in range(ranks)]
    assert {len(share) for share in shares} == {5}
    for whole, *parts in zip(Every().batches(), *shares, strict=True):
        counted, means = [], []
        for rank, part in enumerate(parts):
            batch = Batch(part)
            batch.total = len(whole)
            share = Share.of(batch, rank, ranks)
            assert share.counted in (0, len(part))
            counted += part[: share.counted]
            assert [whole[place] for place in share.places[: share.counted]] == part[: share.counted]
            means.append(share.mean(torch.tensor(part, dtype=torch.float64)))
        assert sorted(counted) == whole
        torch.testing.assert_close(torch.stack(means).mean().item(), np.mean(whole))


def test_a_batch_that_does_not_say_is_shared_equally() -> None:
    share = Share.of(Batch([4, 5, 6]), 1, 2)
    assert (share.places.tolist(), share.total, share.counted) == ([1, 3, 5], 6, 3)
    loss = torch.tensor([1.0, 2.0, 4.0])
    assert torch.equal(share.mean(loss), loss.mean())


@pytest.mark.parametrize("ranks", [2, 3])
def test_samplers_deal_out_the_batches_of_one_process(ranks: int) -> None:
    sizes = np.random.default_rng(0).integers(3, 12, 101)

    def molecules(rank: int, ranks: int, epoch: int, shuffle: bool) -> DealtBatches:
        return SizeBucketSampler(sizes, 600, 1, shuffle, rank, ranks)

    def scans(rank: int, ranks: int, epoch: int, shuffle: bool) -> DealtBatches:
        return ScanBatches(23, 12 // ranks, shuffle, 1, rank, ranks)

    for make in (molecules, scans):
        for epoch, shuffle in ((0, True), (1, True), (0, False)):
            alone, *shares = (make(r, n, epoch, shuffle) for r, n in ((0, 1), *((r, ranks) for r in range(ranks))))
            for sampler in (alone, *shares):
                sampler.set_epoch(epoch)
            assert {len(sampler) for sampler in shares} == {len(alone)}
            for whole, *parts in zip(alone, *shares, strict=True):
                assert all(part == (whole[rank::ranks] or whole[:1]) for rank, part in enumerate(parts))


@pytest.mark.parametrize("count", [3, 4, 7, 8])
def test_training_scans_come_in_whole_batches_unless_there_is_not_even_one(count: int) -> None:
    batches = ScanBatches(count, 2, shuffle=True, ranks=2).batches()
    assert [len(batch) for batch in batches] == ([3] if count == 3 else [4] * (count // 4))
    assert {len(batch) for batch in ScanBatches(count, 2, ranks=2).batches()[:-1]} <= {4}
    assert [place for batch in ScanBatches(count, 2, ranks=2).batches() for place in batch] == list(range(count))


def test_fsdp_says_what_it_cannot_do(molecule_config: Path, tmp_path: Path) -> None:
    given = ["--config", str(molecule_config), "--trainer.default_root_dir", str(tmp_path / "run")]
    fsdp = [*given, "--trainer.strategy", "fsdp"]
    for more, words in (
        ([], "cannot average them: give --ema null"),
        (["--ema", "null", "--trainer.gradient_clip_val", "1"], "give --trainer.gradient_clip_algorithm value"),
        (["--ema=null"], "requires a GPU accelerator"),
    ):
        with pytest.raises(InputError, match=words):
            fit([*fsdp, *more])
    assert not (tmp_path / "run").exists()
