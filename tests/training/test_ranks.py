"""Several ranks train one model: each its own share, one set of weights, one average, one checkpoint."""

import subprocess
import sys
from pathlib import Path

import torch

from medmol_diffusion.training.curve import read_rows


def test_two_ranks_train_validate_and_save_as_one(molecule_config: Path, tmp_path: Path) -> None:
    run = [sys.executable, "-m", "medmol_diffusion.cli", "fit", "--config", str(molecule_config)]
    run += ["--trainer.default_root_dir", str(tmp_path), "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("The run is in") == 1
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 2
    assert checkpoint["averaging_state"]["n_averaged"] == 2
    rows = read_rows(tmp_path / "metrics.csv")
    assert [row["step"] for row in rows if "train/loss" in row] == ["0", "1"]
    assert any("val/total" in row for row in rows)
