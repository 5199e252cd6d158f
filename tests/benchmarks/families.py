"""Diffusion, VAE and GAN trained the same time on the same scans, and what the judge says of each.

    python -m tests.benchmarks.families -o runs/families --minutes 60 --seeds 3 \
        [--data FOLDER --table FILE --shape 44 60 48]

Every run gets --minutes of training: of the processor, all threads together, so that what else the machine does takes
nothing from one family; on a GPU of the wall clock. Validation and start are left out. All share the data module and
the split, and each has its own seed. Then each samples as many scans as the test part has, or --count, and `medmol
score` judges them against the test scans: Frechet distance, RBF-MMD, precision, recall, MS-SSIM diversity beside the
real scans' own; and bits per voxel on the test scans where the family has a likelihood. The table has the mean and the
standard deviation over seeds; the training curves go to OUT/curves.png. Without --data, head phantoms. What is finished
is not done again: a run goes on where it stopped.

No family is trained on features of the judge, and none with an adversary but the GAN: the VAE is the plain one.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
import yaml
from matplotlib.figure import Figure

from medmol_diffusion.judging.table import silent
from medmol_diffusion.mri import Volume
from medmol_diffusion.mri.judge.extractor import HaarFeatures
from medmol_diffusion.mri.judge.score_report import judge_scans
from medmol_diffusion.training.checkpoint import last_checkpoint
from medmol_diffusion.training.curve import read_rows
from medmol_diffusion.training.fit import fit
from medmol_diffusion.training.folder import read_data_config
from medmol_diffusion.training.saved import build, load_model
from medmol_diffusion.training.validation import validate_model
from tests.benchmarks.cross_validation import same_as_before

STEPS = 50
"""Of the diffusion's sampler."""
CURVES = {"diffusion": "val/bits_per_dim", "vae": "val/bits_per_dim", "gan": "train/critic"}
COLUMNS = ("Frechet distance", "RBF-MMD squared", "precision", "recall", "MS-SSIM", "real MS-SSIM", "bits per voxel")


@dataclass(frozen=True)
class Family:
    """A kind of model: its name, its class, its arguments besides the shape, and those of its task."""

    name: str
    kind: str
    arguments: dict[str, Any]
    task: dict[str, Any]


def families(spacing: float) -> list[Family]:
    haar = {"class_path": "medmol_diffusion.mri.HaarStage", "init_args": {"levels": 2}}
    network = {"channels_in": 128, "channels_out": 128, "channels": [64, 96], "blocks": 1}
    unet = {"class_path": "medmol_diffusion.mri.UNet3D", "init_args": network}
    diffusion = {"first_stage": haar, "network": unet, "gamma_mean": -2.0, "gamma_std": 3.0, "spacing": spacing}
    vae = {"channels": [32, 64, 64], "latent_channels": 8, "spacing": spacing}
    gan = {"channels": [64, 64, 32], "spacing": spacing}
    wasserstein = {"learning_rate": 2e-4, "warmup_steps": 0, "betas": [0.0, 0.9], "clip": None}
    return [
        Family("diffusion", "VolumeDiffusion", diffusion, {"learning_rate": 1e-3, "warmup_steps": 100}),
        Family("vae", "Autoencoder", vae, {"learning_rate": 1e-3, "warmup_steps": 100}),
        Family("gan", "GAN", gan, wasserstein),
    ]


class Budget(pl.Callback):
    """Stops a run after so many seconds of training steps, those before a resume included: the checkpoints keep them,
    and FILE says them at the end."""

    def __init__(self, file: str, seconds: float) -> None:
        self.file, self.seconds = Path(file), seconds
        self.used = json.loads(self.file.read_text())["seconds"] if self.file.is_file() else 0.0

    def state_dict(self) -> dict[str, float]:
        return {"used": self.used}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self.used = state_dict["used"]

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.began = self._now(pl_module.device)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.used += self._now(pl_module.device) - self.began
        trainer.should_stop = trainer.should_stop or self.used >= self.seconds

    def _now(self, device: torch.device) -> float:
        if device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize(device)  # a step is over when the GPU has done it
        return time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.file.write_text(json.dumps({"seconds": self.used, "steps": trainer.global_step}))


def data_config(options: argparse.Namespace) -> dict[str, Any]:
    shared: dict[str, Any] = {"shape": options.shape, "batch_size": 4, "flip": True, "validation": 0.1, "test": 0.25}
    if options.data is None:
        phantoms = {"count": options.phantoms, "contrast": "T1w", **shared}
        return {"class_path": "medmol_diffusion.mri.PhantomData", "init_args": phantoms}
    table = None if options.table is None else str(options.table)
    scans = {"path": str(options.data), "spacing": options.spacing, "table": table, **shared}
    return {"class_path": "medmol_diffusion.mri.VolumeData", "init_args": scans}


def train(family: Family, seed: int, options: argparse.Namespace) -> Path:
    """The run folder, trained for the whole budget."""
    run = options.out / f"{family.name}-{seed}"
    spent, seconds = run / "spent.json", 60 * options.minutes
    if spent.is_file() and json.loads(spent.read_text())["seconds"] >= seconds:
        return run
    clipped = {} if family.kind != "VolumeDiffusion" else {"gradient_clip_val": 1.0}
    budget = {"class_path": "tests.benchmarks.families.Budget", "init_args": {"file": str(spent), "seconds": seconds}}
    model = {"class_path": f"medmol_diffusion.mri.{family.kind}"}
    model["init_args"] = {"shape": options.shape, **family.arguments}
    config = {
        "seed_everything": seed,
        "trainer": {
            **{"default_root_dir": str(run), "accelerator": options.accelerator, "callbacks": [budget], **clipped},
            **{"max_steps": 10**7, "num_sanity_val_steps": 0, "log_every_n_steps": 5, "enable_progress_bar": False},
            **{"val_check_interval": options.validate_every, "check_val_every_n_epoch": None},
        },
        "model": {"model": model, "seed": seed, **family.task},
        "data": data_config(options),
        "ema": {"decay": 0.99},
        "checkpoint": {"every_n_train_steps": options.validate_every},
    }
    run.mkdir(parents=True, exist_ok=True)
    file = options.out / f"{family.name}-{seed}.yaml"
    file.write_text(yaml.safe_dump(config))
    resume = ["--ckpt_path", "last"] if last_checkpoint(run / "checkpoints").exists() else []
    return fit(["--config", str(file), *resume])


def judge(family: Family, seed: int, run: Path, real: Path, options: argparse.Namespace) -> dict[str, float]:
    """The figures of one run, by COLUMNS; kept beside it."""
    kept = run / "figures.json"
    if kept.is_file() and json.loads(kept.read_text())["minutes"] == options.minutes:
        return json.loads(kept.read_text())["figures"]  # type: ignore[no-any-return]
    model: Any = load_model(run)
    steps = {"steps": STEPS} if family.kind == "VolumeDiffusion" else {}
    made = write(model.sample(options.count, seed=seed, **steps), run / "samples")
    tables = {one.key: one.data for one in judge_scans(made, real, HaarFeatures(), silent, seed=seed).tables}
    named = {one["name"]: one["value"] for key in ("distances", "precision_recall") for one in tables[key]["figures"]}
    figures = {name: next((v for k, v in named.items() if k.startswith(name)), np.nan) for name in COLUMNS[:4]}
    figures |= {"MS-SSIM": tables["diversity"]["generated"]["value"]}
    figures |= {"real MS-SSIM": tables["diversity"]["real"]["value"], "bits per voxel": np.nan}
    if not model.without_likelihood:
        data = build(read_data_config(run), pl.LightningDataModule)
        data.setup("validate")
        bound = validate_model(model, data, "test", None, None, seed=0, limit=options.count)
        figures["bits per voxel"] = bound.summary()["bits_per_dim"][0]
    kept.write_text(json.dumps({"minutes": options.minutes, "figures": figures}))
    return figures


def write(scans: list[Volume], folder: Path) -> Path:
    for place, scan in enumerate(scans):
        scan.write(folder / f"scan-{place:04d}.nii.gz")
    return folder


def real_scans(options: argparse.Namespace) -> Path:
    """The test scans as the models see them, each cut to its own size."""
    folder = options.out / "real"
    data = build(data_config(options), pl.LightningDataModule)
    data.setup("validate")
    spacing = options.spacing or 1.0
    for place in range(min(len(data.test), options.count)):
        scan, mask, *_ = data.test[place]
        places = mask[0].nonzero()
        box = tuple(slice(a, b + 1) for a, b in zip(places.amin(0).tolist(), places.amax(0).tolist(), strict=True))
        Volume(scan[0][box].numpy(), np.diag([spacing] * 3 + [1.0])).write(folder / f"scan-{place:04d}.nii.gz")
    return folder


def curves(options: argparse.Namespace, names: list[str]) -> Path:
    """Validation bits per voxel, and the critic's loss of the GAN, against seconds of training; a line a seed."""
    figure = Figure(figsize=(4 * len(names), 3), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for seed in range(options.seeds):
            run = options.out / f"{name}-{seed}"
            spent = json.loads((run / "spent.json").read_text())
            rows = [row for row in read_rows(run / "metrics.csv") if CURVES[name] in row]
            seconds = [int(row["step"]) * spent["seconds"] / max(1, spent["steps"]) for row in rows]
            axes.plot(seconds, [float(row[CURVES[name]]) for row in rows], label=f"seed {seed}")
        axes.set(title=name, xlabel="seconds of training", ylabel=CURVES[name])
    axes.legend()
    file: Path = options.out / "curves.png"
    figure.savefig(file, dpi=120)
    return file


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Mean and standard deviation over seeds, a row a family."""
    lines = [f"| family | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, seeds in found.items():
        cells = []
        for column in COLUMNS:
            values = np.array([one[column] for one in seeds])
            spread = f" +- {values.std(ddof=1):.2g}" if len(values) > 1 else ""
            cells.append("none" if np.isnan(values).all() else f"{values.mean():.4g}{spread}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(say: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/families"))
    parser.add_argument("--minutes", type=float, default=60.0, help="of training, for every run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--data", type=Path, help="folder of scans (default: head phantoms)")
    parser.add_argument("--table", type=Path, help="csv or tsv that says whose the scans are: the split is by person")
    parser.add_argument("--shape", type=int, nargs=3, default=[32, 40, 32], help="multiples of 4")
    parser.add_argument("--spacing", type=float, help="mm to resample the scans to")
    parser.add_argument("--phantoms", type=int, default=240)
    parser.add_argument("--count", type=int, default=60, help="scans to sample, and of the test part to judge by")
    parser.add_argument("--validate-every", type=int, default=100, help="steps")
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--families", nargs="+", choices=CURVES, default=list(CURVES))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    same_as_before(options.out / "settings.json", {"data": data_config(options)})
    os.environ.setdefault("TQDM_DISABLE", "1")
    real = real_scans(options)
    chosen = [family for family in families(options.spacing or 1.0) if family.name in options.families]
    found: dict[str, list[dict[str, float]]] = {family.name: [] for family in chosen}
    for seed in range(options.seeds):
        for family in chosen:
            run = train(family, seed, options)
            with redirect_stdout(StringIO()):
                found[family.name].append(judge(family, seed, run, real, options))
            spent = json.loads((run / "spent.json").read_text())
            say(f"{family.name}, seed {seed}: {spent['steps']} steps in {spent['seconds']:.0f} s")
    threads = torch.get_num_threads()
    say(f"{options.minutes:g} minutes each, {options.seeds} seeds, {threads} threads, {options.count} scans each side")
    say(table(found))
    say(f"curves in {curves(options, list(found))}")


if __name__ == "__main__":
    main()
