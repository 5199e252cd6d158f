"""Quality per second: our diffusion and MONAI's, trained the same time on the same scans, each sampled every way.

    python -m tests.benchmarks.quality_per_second -o runs/quality --minutes 120 [--n 64]
    python -m tests.benchmarks.quality_per_second --data FOLDER --shape 48 64 48 [--spacing 2] [--table FILE]

Models: `ours` is the recipe of configs/mri/phantom.yaml at a constant rate; `latent` and `voxels` are MONAI's
(monai_peer.py). Each is trained for --minutes: of the processor, all threads together; on a GPU of the clock on the
wall. MONAI's autoencoder takes --share of the time of `latent`. Reading scans, averages and checkpoints are not
counted, for none of them.

Then n scans of each: ours by every sampler at every number of --steps (and ancestral at 1000), MONAI's by DDPM with
1000 steps and by DDIM with 50 and 250. The judge holds them against the held-out scans, all on the grid of training and
with their intensities as they come: Frechet distance and RBF-MMD with bootstrap intervals and floors, MS-SSIM diversity
beside the real scans' own. n and the real scans are the same in all rows, and so is the bias of few scans.
Seconds a scan are of the processor on one thread (on a GPU: on the wall), of the fastest batch: other programs can only
lengthen them. Network calls are counted.

Same quality: of our rows whose Frechet distance has an upper end of its interval no higher than that of the peer's
1000 steps, the cheapest. The peer is MONAI's model whose 1000 steps have the lowest distance. Padding outside a scan's
own box is -1 in ours, which draws the box; MONAI's models draw it as part of the scan.

What is done is kept in OUT, batch by batch, and not done again.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from matplotlib.figure import Figure
from torch import Tensor, nn

from medmol_diffusion.core.steppers import STEPPERS
from medmol_diffusion.mri import Volume
from medmol_diffusion.mri.data import VolumeData
from medmol_diffusion.mri.judge.extractor import HaarFeatures, Spread
from medmol_diffusion.mri.judge.measure import kept_scans
from medmol_diffusion.mri.judge.measures import diversity, feature_distances
from medmol_diffusion.mri.phantom import FIELD_OF_VIEW
from medmol_diffusion.mri.phantom_data import PhantomData
from medmol_diffusion.mri.volume_module import VolumeModule
from medmol_diffusion.plural import counted
from medmol_diffusion.training.checkpoint import last_checkpoint
from medmol_diffusion.training.fit import fit
from medmol_diffusion.training.saved import load_model
from tests.benchmarks.monai_peer import TIMESTEPS, Autoencoding, Latent, Peer, Voxels, train

RECIPE = Path("configs/mri/phantom.yaml")
STEPS = (1, 2, 5, 10, 20, 50, 100, 250)
MOST = ("ancestral", TIMESTEPS)
"""Ours at as many steps as the peer's."""
PEER_ROWS = (("ddpm", TIMESTEPS), ("ddim", 250), ("ddim", 50))
MODELS = ("ours", "latent", "voxels")
Draw = Callable[[int, str, int, int], Tensor]
"""(count, sampler, steps, seed) -> scans [count, X, Y, Z] in [-1, 1] on the grid of training."""
Row = dict[str, Any]


def data_of(options: argparse.Namespace) -> tuple[dict[str, Any], VolumeModule]:
    """What a config says of the data, and the data."""
    shared: dict[str, Any] = {"shape": options.shape, "batch_size": 4, "flip": True, "validation": 0.05, "test": 0.3}
    if options.data is None:
        phantoms = {"count": options.phantoms, "contrast": "FLAIR", **shared}
        config: dict[str, Any] = {"class_path": "medmol_diffusion.mri.PhantomData", "init_args": phantoms}
        data: VolumeModule = PhantomData(**phantoms)
    else:
        scans = {"path": str(options.data), "pattern": options.pattern, "spacing": options.spacing, **shared}
        scans["table"] = None if options.table is None else str(options.table)
        config, data = {"class_path": "medmol_diffusion.mri.VolumeData", "init_args": scans}, VolumeData(**scans)
    data.setup()
    return config, data


def spacing_of(options: argparse.Namespace) -> float:
    """Millimetres of a voxel: what was asked for, or those of phantoms."""
    if options.data is None:
        return max(mm / size for mm, size in zip(FIELD_OF_VIEW, options.shape, strict=True))
    return options.spacing or 1.0


def train_ours(options: argparse.Namespace, data: dict[str, Any]) -> tuple[nn.Module, Draw, dict[str, float]]:
    run, seconds = options.out / "ours", 60 * options.minutes
    spent = run / "spent.json"
    if not spent.is_file() or json.loads(spent.read_text())["seconds"] < seconds:
        config = yaml.safe_load(RECIPE.read_text())
        budget = {
            "class_path": "tests.benchmarks.families.Budget",
            "init_args": {"file": str(spent), "seconds": seconds},
        }
        config["seed_everything"] = options.seed
        config["trainer"] |= {"default_root_dir": str(run), "max_steps": 10**7, "callbacks": [budget]}
        config["trainer"] |= {"accelerator": "cpu" if options.device == "cpu" else "gpu", "devices": 1}
        config["trainer"] |= {"limit_val_batches": 0, "enable_progress_bar": False}
        config["model"] |= {"decay_steps": None, "learning_rate": options.rate, "seed": options.seed}
        config["model"]["model"]["init_args"] |= {"shape": options.shape, "spacing": spacing_of(options)}
        config["data"], config["ema"] = data, {"decay": options.decay}
        config["checkpoint"] = {"every_n_train_steps": 100}
        run.mkdir(parents=True, exist_ok=True)
        file = options.out / "ours.yaml"
        file.write_text(yaml.safe_dump(config))
        resume = ["--ckpt_path", "last"] if last_checkpoint(run / "checkpoints").exists() else []
        fit(["--config", str(file), *resume])
    model: Any = load_model(run).to(options.device)

    def draw(count: int, sampler: str, steps: int, seed: int) -> Tensor:
        made = model.sample(count, steps=steps, sampler=sampler, seed=seed, batch_size=count)
        return torch.stack([torch.from_numpy(one.crop_or_pad(options.shape, -1.0).data) for one in made])

    return model.network.network, draw, json.loads(spent.read_text())


def train_peer(name: str, options: argparse.Namespace, data: VolumeModule) -> tuple[nn.Module, Draw, dict[str, float]]:
    seconds, folder = 60 * options.minutes, options.out / name
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    recipe = (options.rate, options.decay, options.seed)
    spent = {}
    if name == "latent":
        first = Autoencoding(*recipe).to(options.device)
        train(first, data, options.share * seconds, folder / "autoencoder.pt", options.device)
        spent = {"autoencoder_seconds": first.seconds, "autoencoder_steps": first.steps}
        scans = next(iter(data.train_dataloader())).data.to(options.device)
        peer: Peer = Latent(first.trained, scans, *recipe).to(options.device)
        left = seconds - first.seconds
    else:
        peer, left = Voxels(options.shape, *recipe).to(options.device), seconds
    train(peer, data, left, folder / "diffusion.pt", options.device)
    spent |= {"seconds": peer.seconds + spent.get("autoencoder_seconds", 0.0), "steps": peer.steps}
    return peer.trained, peer.sample, spent


class Timed:
    """Draws scans batch by batch into a folder, each batch once, with what it cost."""

    def __init__(self, network: nn.Module, draw: Draw, options: argparse.Namespace) -> None:
        self.draw, self.options, self.calls, self.warm = draw, options, 0, False
        self.clock = time.process_time if options.device == "cpu" else time.perf_counter
        network.register_forward_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.calls += 1

    def row(self, folder: Path, sampler: str, steps: int, shortest: tuple[str, int]) -> tuple[Tensor, float, int]:
        """(all n scans, seconds a scan, network calls); ``shortest`` warms up before the first batch."""
        kept, n, size = folder / "cost.json", self.options.n, self.options.batch
        cost = json.loads(kept.read_text()) if kept.is_file() else {"seconds": [], "calls": 0}
        counts = [min(size, n - start) for start in range(0, n, size)]
        for batch, count in list(enumerate(counts))[len(cost["seconds"]) :]:
            if not self.warm:
                self.draw(count, *shortest, 0)
                self.warm = True
            self.calls, began = 0, self.clock()
            made = self.draw(count, sampler, steps, self.options.seed + 1000 * batch)
            cost["seconds"].append(self.clock() - began)
            cost["calls"] = self.calls
            if not made.isfinite().all():
                raise ValueError("not all of its numbers are finite")
            write(folder, made, size * batch, spacing_of(self.options))
            kept.write_text(json.dumps(cost))
        files = sorted(folder.glob("*.nii.gz"))
        scans = torch.stack([torch.from_numpy(Volume.read(file).data) for file in files])
        fastest = min(seconds / count for seconds, count in zip(cost["seconds"], counts, strict=True))
        return scans, fastest, cost["calls"]


def write(folder: Path, scans: Tensor, first: int, spacing: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for place, scan in enumerate(scans, start=first):
        Volume(scan.numpy(), np.diag([spacing] * 3 + [1.0])).write(folder / f"scan-{place:04d}.nii.gz")


class Judge:
    """Holds scans [n, X, Y, Z] against the real ones."""

    def __init__(self, real: Tensor, seed: int) -> None:
        self.extractor, self.seed, self.kept = HaarFeatures(), seed, kept_scans(real[0].numel())
        features = self.features(real)
        self.spread = Spread(features)
        self.real = self.spread(features)
        self.similar = dict(zip(("value", "low", "high"), diversity(real[: self.kept].numpy(), seed), strict=False))

    def features(self, scans: Tensor) -> np.ndarray:
        return torch.cat([self.extractor(part) for part in scans.split(16)]).double().numpy()

    def __call__(self, scans: Tensor) -> dict[str, Any]:
        pooled = np.concatenate([self.spread(self.features(scans)), self.real])
        distances = feature_distances(pooled, len(scans), self.seed)
        found = diversity(scans[: self.kept].numpy(), self.seed)
        similar = dict(zip(("value", "low", "high"), found, strict=False))
        frechet, mmd = (
            {name: one.to_dict()[name] for name in ("name", "value", "low", "high", "floor")} for one in distances
        )
        return {"frechet": frechet, "mmd": mmd, "ms_ssim": similar}


def wanted(options: argparse.Namespace) -> Iterator[tuple[str, str, int]]:
    """(model, sampler, steps) of every row, cheap ones first."""
    if "ours" in options.models:
        for steps in sorted(options.steps):
            for sampler in options.samplers:
                yield "ours", sampler, steps
        if MOST[0] in options.samplers and MOST[1] not in options.steps:
            yield ("ours", *MOST)
    for model in options.models:
        if model != "ours":
            for sampler, steps in reversed(PEER_ROWS):
                yield model, sampler, steps


def same_quality(rows: list[Row]) -> str:
    """The cheapest row of ours that is as good as the peer's 1000 steps."""
    judged = [row for row in rows if "frechet" in row]
    references = [row for row in judged if row["model"] != "ours" and (row["sampler"], row["steps"]) == PEER_ROWS[0]]
    if not references:
        return "no 1000 steps of a peer to compare with"
    peer = min(references, key=lambda row: row["frechet"]["value"])
    most = peer["frechet"]["high"]
    name = f"MONAI's {peer['model']} with 1000 steps, Frechet distance {interval(peer['frechet'])}"
    ours = [row for row in judged if row["model"] == "ours" and row["frechet"]["high"] <= most]
    if not ours:
        return f"none of our rows has the quality of {name}"
    best = min(ours, key=lambda row: row["seconds"])
    more = [
        row
        for row in judged
        if (row["model"], row["sampler"]) == ("ours", best["sampler"]) and row["steps"] > best["steps"]
    ]
    worse = [str(row["steps"]) for row in more if row["frechet"]["high"] > most]
    onwards = f", but not with {', '.join(worse)}" if worse else " on" if more else ""
    lines = [
        f"same quality as {name}, by {best['sampler']} from {counted(best['steps'], 'step')}{onwards}, "
        f"{interval(best['frechet'])}: {peer['seconds'] / best['seconds']:.1f} times sooner, "
        f"{best['seconds']:.3g} s in place of {peer['seconds']:.3g} s a scan; {best['calls']} network calls in place "
        f"of {peer['calls']}; MS-SSIM {best['ms_ssim']['value']:.3f} beside the peer's {peer['ms_ssim']['value']:.3f}"
    ]
    own = [row for row in judged if row["model"] == peer["model"] and row["frechet"]["high"] <= most]
    sooner = min(own, key=lambda row: row["seconds"])
    if sooner is not peer:
        lines.append(
            f"the peer itself has that quality by {sooner['sampler']} with {sooner['steps']} steps: "
            f"ours is {sooner['seconds'] / best['seconds']:.1f} times sooner than that"
        )
    return "\n".join(lines)


def interval(figure: dict[str, Any]) -> str:
    return f"{figure['value']:.3g} [{figure['low']:.3g}, {figure['high']:.3g}]"


def table(rows: list[Row], judge: Judge) -> str:
    floor = next((row["frechet"]["floor"] for row in rows if "frechet" in row), None)
    if floor is None:
        return "no rows"
    lines = [
        f"| model | sampler | steps | calls | s a scan | Frechet distance | at n = {floor['n']} | RBF-MMD | MS-SSIM |",
        "|---" * 9 + "|",
    ]
    orders = (*STEPPERS, *(sampler for sampler, _ in PEER_ROWS))
    for row in sorted(rows, key=lambda row: (MODELS.index(row["model"]), orders.index(row["sampler"]), row["steps"])):
        head = f"| {row['model']} | {row['sampler']} | {row['steps']} |"
        if "skipped" in row:
            lines.append(f"{head} skipped: {row['skipped']} |||||")
            continue
        frechet, mmd = row["frechet"], row["mmd"]
        cells = [str(row["calls"]), f"{row['seconds']:.3g}", interval(frechet), f"{frechet['floor']['equal']:.3g}"]
        lines.append(f"{head} {' | '.join([*cells, interval(mmd), interval(row['ms_ssim'])])} |")
    floors = f"{floor['value']:.3g} [{floor['low']:.3g}, {floor['high']:.3g}]"
    lines.append(f"| real | | | | | | {floors} | | {interval(judge.similar)} |")
    return "\n".join(lines)


def draw_figure(rows: list[Row], file: Path) -> None:
    """Frechet distance against seconds a scan: a line a sampler, the peers' points, the floor of real scans."""
    judged = [row for row in rows if "frechet" in row]
    sheet = Figure(figsize=(8.5, 5.5), layout="constrained")
    axes = sheet.subplots()
    for marker, sampler in zip("os^vD<>Ph*", STEPPERS, strict=False):
        own = [row for row in judged if (row["model"], row["sampler"]) == ("ours", sampler)]
        own.sort(key=lambda row: row["steps"])
        seconds, values = [row["seconds"] for row in own], [row["frechet"]["value"] for row in own]
        axes.plot(seconds, values, marker=marker, markersize=4.5, linewidth=1.3, label=f"ours, {sampler}")
    for marker, model, colour in (("X", "latent", "black"), ("p", "voxels", "dimgrey")):
        theirs = [row for row in judged if row["model"] == model]
        if not theirs:
            continue
        found = [row["frechet"] for row in theirs]
        limits = [[one["value"] - one["low"] for one in found], [one["high"] - one["value"] for one in found]]
        axes.errorbar(
            [row["seconds"] for row in theirs], [one["value"] for one in found], yerr=limits, fmt=marker, color=colour,
            markersize=9, capsize=3, linewidth=1, label=f"MONAI, {model}",
        )  # fmt: skip
        for row in theirs:
            note = f"{row['sampler'].upper()} {row['steps']}"
            at = (row["seconds"], row["frechet"]["value"])
            axes.annotate(note, at, (0, 8), textcoords="offset points", color=colour, fontsize=8, ha="right")
    if judged:
        floor = judged[0]["frechet"]["floor"]
        axes.axhspan(floor["low"], floor["high"], color="0.9", zorder=0)
        axes.axhline(
            floor["value"],
            color="0.5",
            linestyle="--",
            linewidth=1,
            label=f"real, {floor['n']} against {floor['rest']}",
        )
    axes.set(xscale="log", yscale="log", xlabel="seconds a scan", ylabel="Frechet distance from held-out scans")
    axes.grid(True, which="major", color="0.93")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    sheet.savefig(file, dpi=130)


def check_settings(options: argparse.Namespace) -> None:
    """One folder is one run: rows of other settings would stand beside these."""
    free = ("out", "json", "steps", "samplers", "models")
    said = {name: str(value) for name, value in vars(options).items() if name not in free}
    file = options.out / "settings.json"
    if not file.is_file():
        file.write_text(json.dumps(said, indent=2) + "\n")
    before = json.loads(file.read_text())
    if changed := [name for name, value in said.items() if before.get(name) != value]:
        raise SystemExit(f"{options.out} was begun with other settings ({', '.join(changed)}): name another --out")


def main(say: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/quality"))
    parser.add_argument("--minutes", type=float, default=120.0, help="of training, for every model")
    parser.add_argument("--share", type=float, default=0.3, help="of its time that MONAI's autoencoder takes")
    parser.add_argument("--n", type=int, default=64, help="scans of each row")
    parser.add_argument("--batch", type=int, default=8, help="scans drawn at a time")
    parser.add_argument("--data", type=Path, help="folder of scans (default: head phantoms)")
    parser.add_argument("--pattern", help="which files of it")
    parser.add_argument("--table", type=Path, help="csv or tsv that says whose scans they are")
    parser.add_argument("--shape", type=int, nargs=3, default=[32, 40, 32], help="multiples of 8")
    parser.add_argument("--spacing", type=float, help="mm to resample the scans to")
    parser.add_argument("--phantoms", type=int, default=400)
    parser.add_argument("--rate", type=float, default=1e-3, help="the learning rate of all models")
    parser.add_argument("--decay", type=float, default=0.995, help="of the averages of the weights of all models")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--samplers", nargs="+", choices=STEPPERS, default=list(STEPPERS), help="of ours")
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS), help="of ours")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where the figures go (default: OUT/quality.json)")
    options = parser.parse_args()
    if any(size % 8 for size in options.shape):
        raise SystemExit(f"--shape {options.shape} must be multiples of 8: MONAI's networks halve them three times")
    options.out.mkdir(parents=True, exist_ok=True)
    check_settings(options)
    os.environ.setdefault("TQDM_DISABLE", "1")
    config, data = data_of(options)
    real = torch.stack([data.test[place].data[0] for place in range(len(data.test))])
    write(options.out / "real", real, 0, spacing_of(options))

    file = options.json or options.out / "quality.json"
    kept = json.loads(file.read_text()) if file.is_file() else {"training": {}, "rows": []}
    makers = {}
    for name in options.models:
        network, draw, spent = train_ours(options, config) if name == "ours" else train_peer(name, options, data)
        kept["training"][name] = spent
        makers[name] = Timed(network, draw, options)
        say(f"{name}: trained {spent['seconds']:.0f} s, {spent['steps']} steps")
    if options.device == "cpu":
        torch.set_num_threads(1)
    judge = Judge(real, options.seed)
    kept["real"] = {"scans": len(real), "ms_ssim": judge.similar, "extractor": judge.extractor.name}
    rows: list[Row] = kept["rows"]
    have = {(row["model"], row["sampler"], row["steps"]) for row in rows}
    for model, sampler, steps in wanted(options):
        if (model, sampler, steps) in have:
            continue
        row: Row = {"model": model, "sampler": sampler, "steps": steps}
        shortest = ("ddim", 1 if model == "ours" else 2)
        try:
            folder = options.out / "samples" / f"{model}-{sampler}-{steps}"
            scans, seconds, calls = makers[model].row(folder, sampler, steps, shortest)
        except ValueError as error:
            row["skipped"] = str(error)
            say(f"{model}, {sampler}, {steps} steps: skipped, {error}")
        else:
            row |= {"seconds": seconds, "calls": calls, **judge(scans)}
            say(f"{model}, {sampler}, {steps} steps: {seconds:.3g} s a scan, {interval(row['frechet'])}")
        rows.append(row)
        file.write_text(json.dumps(kept, indent=1) + "\n")
    say(f"{options.minutes:g} minutes of training each, {options.n} scans a row against {len(real)} real ones")
    say(table(rows, judge))
    say(same_quality(rows))
    draw_figure(rows, options.out / "quality.png")
    say(f"figure in {options.out / 'quality.png'}, figures in {file}")


if __name__ == "__main__":
    main()
