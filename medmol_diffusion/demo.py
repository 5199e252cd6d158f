"""`medmol demo`: both domains on the embedded data, from training to one report, in minutes on two cores."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from medmol_diffusion import __version__
from medmol_diffusion.core import Elbo
from medmol_diffusion.molecules import EnumeratedData, MoleculeDiffusion, write_sdf
from medmol_diffusion.molecules.metrics import score_molecules, smiles_of
from medmol_diffusion.molecules.picture import depictions
from medmol_diffusion.mri import HaarStage, PhantomData, Volume, VolumeDiffusion
from medmol_diffusion.mri.anomaly import Detection, Setting
from medmol_diffusion.mri.anomaly.evaluation import Case, Evaluator, protocol_of, tables_of
from medmol_diffusion.mri.phantom import head_phantom
from medmol_diffusion.mri.picture import detection_sheet, scan_sheet
from medmol_diffusion.report import Report
from medmol_diffusion.training.checkpoint import last_checkpoint
from medmol_diffusion.training.fit import fit
from medmol_diffusion.training.names import TRAIN_LOSS
from medmol_diffusion.training.validation import baseline_summary, summary, validate_baseline, validate_model

MEANING = {
    "prior": "what is left of the data at the noisy end; close to 0 when gamma_1 is large enough",
    "diffusion": "what the network fails to predict, summed over all noise levels",
    "reconstruction": "from the last, nearly clean state to the data themselves",
    "log_volume": "change of units by the encoding (subtracted); 0 here",
    "size": "how surprising the number of atoms is",
    "total": "the bound on -log p: lower is better",
    "nats_per_dim": "the total per degree of freedom",
    "bits_per_dim": "the same in bits",
    HaarStage.baseline_name: "what bits_per_dim is without a network",
    "gain over it": "by how much bits_per_dim is lower, paired by head: what the network is worth",
}
SHAPE = [32, 40, 32]
MOLECULE_STEPS, VOLUME_STEPS = 4000, 800


def _config(folder: Path, steps: int, model: dict[str, Any], data: dict[str, Any], **task: Any) -> dict[str, Any]:
    return {
        "seed_everything": 0,
        "trainer": {
            "default_root_dir": str(folder),
            "max_steps": steps,
            "gradient_clip_val": 1.0,
            "num_sanity_val_steps": 0,
            "limit_val_batches": 0,
            "log_every_n_steps": 10,
            "enable_model_summary": False,
        },
        "model": {"model": model, "warmup_steps": 50, "decay_steps": steps, **task},
        "data": data,
        "ema": {"decay": 0.995},
    }


def molecule_config(folder: Path) -> dict[str, Any]:
    """Small real molecules of C, N, O, F and H, and a network that learns them in a few minutes."""
    elements = [1, 6, 7, 8, 9]
    network = {
        "class_path": "medmol_diffusion.molecules.EGNN",
        "init_args": {"atoms_in": 5, "atoms_out": 5, "hidden": 128, "edge_hidden": 48, "layers": 4},
    }
    model = {
        "class_path": "medmol_diffusion.molecules.MoleculeDiffusion",
        "init_args": {
            "elements": elements,
            "max_atoms": 16,
            "network": network,
            "gamma_mean": -2.0,
            "gamma_std": 3.0,
        },
    }
    data = {
        "class_path": "medmol_diffusion.molecules.EnumeratedData",
        "init_args": {"elements": elements, "max_heavy_atoms": 4, "conformers": 3, "validation": 0.0, "test": 0.1},
    }
    return _config(folder, MOLECULE_STEPS, model, data, learning_rate=2e-3)


def volume_config(folder: Path) -> dict[str, Any]:
    """Healthy head phantoms (FLAIR), and a U-Net that learns them in a few minutes."""
    network = {
        "class_path": "medmol_diffusion.mri.UNet3D",
        "init_args": {"channels_in": 128, "channels_out": 128, "channels": [64, 96], "blocks": 1},
    }
    model = {
        "class_path": "medmol_diffusion.mri.VolumeDiffusion",
        "init_args": {
            "shape": SHAPE,
            "spacing": 6.0,
            "network": network,
            "gamma_mean": 0.0,  # most training where shapes are decided, not where noise is
            "gamma_std": 3.0,
        },
    }
    data = {
        "class_path": "medmol_diffusion.mri.PhantomData",
        "init_args": {
            "count": 80,
            "shape": SHAPE,
            "contrast": "FLAIR",
            "flip": True,
            "batch_size": 4,
            "validation": 0.0,
        },
    }
    return _config(folder, VOLUME_STEPS, model, data, learning_rate=1e-3)


def run_demo(out: Path) -> Path:
    """Train, sample, score, detect and report into ``out``; returns the report's path."""
    say = Console().print
    out.mkdir(parents=True, exist_ok=True)
    report = Report("medmol_diffusion demo", f"Version {__version__}. All of this was made on this machine just now.")
    say("[bold]1/2 molecules[/]: training on enumerated small molecules")
    _molecules(out, report, say)
    say("[bold]2/2 MRI[/]: training on procedural head phantoms")
    _volumes(out, report, say)
    return report.write(out / "report.html")


def _train(config: dict[str, Any]) -> Path:
    folder = Path(config["trainer"]["default_root_dir"])
    folder.mkdir(parents=True, exist_ok=True)
    last_checkpoint(folder / "checkpoints").unlink(missing_ok=True)  # of an earlier demo: this one begins anew
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return fit(["--config", str(path)])


def _molecules(out: Path, report: Report, say: Callable[..., None]) -> None:
    run = _train(molecule_config(out / "molecules"))
    model = MoleculeDiffusion.from_pretrained(run)
    data = EnumeratedData(**molecule_config(out)["data"]["init_args"])
    data.setup()

    say("the bound on molecules that were not trained on")
    bound = validate_model(model, data, "test", steps=1000, draws=8, seed=0)
    say("100 molecules, 100 steps")
    molecules = model.sample(100, steps=100, seed=0)
    write_sdf(molecules, out / "molecules.sdf")
    trained_on = [data.train[i] for i in range(len(data.train))]
    scores, own = score_molecules(molecules, smiles_of(trained_on)), score_molecules(trained_on)

    report.heading("Molecules")
    report.text(
        f"{len(data.train)} conformers of small real molecules (C, N, O, F with hydrogens), enumerated by valence and "
        f"embedded by RDKit, trained for {MOLECULE_STEPS} steps. Bonds are perceived from distances; the samples are "
        "in molecules.sdf, with bonds. A model trained this briefly makes mistakes, shown as they are."
    )
    report.svg(depictions(molecules[:20]), "The first 20 of 100 generated molecules, not selected.")
    report.heading("Scores of the 100 molecules", 3)
    report.text(
        "Bonds are read off the distances (rule 1, the tables of EDM). A stable atom has exactly the bonds of its "
        "element, a stable molecule only such atoms; a valid one is accepted by RDKit, and a connected one is valid "
        "and in one piece. Captions are the SMILES of the largest piece. By the same rule "
        f"{100 * own.molecule_stability.value:.0f} % of the training molecules themselves are stable."
    )
    report.table(["score", "value", "95 % interval", "of"], list(scores.rows()))
    _bound_section(
        report, summary(bound), bound, "held-out molecule", "positions in angstrom; T = 1000; the recipe of EDM"
    )
    _curve_section(report, run)


def _volumes(out: Path, report: Report, say: Callable[..., None]) -> None:
    run = _train(volume_config(out / "scans"))
    model = VolumeDiffusion.from_pretrained(run)
    data = PhantomData(**volume_config(out)["data"]["init_args"])
    data.setup()

    say("the bound on heads that were not trained on")
    bound = validate_model(model, data, "test", steps=0, draws=8, seed=0)
    say("8 scans, 50 steps")
    scans = model.sample(8, steps=50, seed=0)
    for i, scan in enumerate(scans):
        scan.write(out / "samples" / f"sample-{i:04d}.nii.gz")
    real = [model.to_volume(data.train[i][0][0].numpy(), {}) for i in range(8)]

    say("lesions in heads the model has not seen")
    sick = [head_phantom(1_000_000 + i, SHAPE, contrast="FLAIR", lesions=1, lesion_kind="mass") for i in range(6)]
    healthy = [head_phantom(2_000_000 + i, SHAPE, contrast="FLAIR") for i in range(8)]
    cases = [
        Case(
            head.volume,
            f"head-{i}",
            Volume(head.lesion, head.volume.affine) if head.lesion.any() else None,
            Volume(head.brain, head.volume.affine),
        )
        for i, head in enumerate([*sick, *healthy])
    ]
    largest = cases[max(range(len(sick)), key=lambda i: int(sick[i].lesion.sum()))]
    evaluator = Evaluator(Setting(model), healthy=cases[-4:], test=cases[:-4])
    picture: list[bytes] = []

    def seen(method: str, case: Case, found: Detection) -> None:
        if method == "one_shot" and case is largest:
            picture.append(detection_sheet(found, case.lesions))
            found.map.write(out / "anomaly.nii.gz")

    evaluations, left_out = evaluator.run(("one_shot", "partial"), seen)

    report.heading("MRI")
    size = " x ".join(map(str, SHAPE))
    report.text(
        f"{len(data.train)} healthy head phantoms (FLAIR-like, {size} voxels of 6 mm), trained for {VOLUME_STEPS} "
        "steps. The phantoms are procedural, not real scans."
    )
    sheet = scan_sheet({"generated": scans, "phantoms the model was trained on": real})
    report.png(sheet, "Axial slices, not selected.")
    baseline = validate_baseline(model, data, "test")
    rows = summary(bound) | ({} if baseline is None else baseline_summary(model, bound, baseline))
    _bound_section(report, rows, bound, "held-out head", "256 grey levels; every voxel counted; continuous time")
    report.heading("Anomalies, found by what the model cannot restore", 3)
    report.text(
        "In brain masks of 6 heads with one mass each and 4 without. At 6 mm a lesion is a handful of voxels, so Dice "
        f"is low for every method. {protocol_of(evaluator)}"
    )
    for shown in picture:
        report.png(shown, "The largest of 6 lesions, outlined in cyan, and in green what one_shot flags.")
    for table in tables_of(evaluations, left_out, evaluator):
        report.heading(table.title, 3)
        report.text(table.meaning)
        report.table(table.header, table.rows)
    _curve_section(report, run)


def _bound_section(report: Report, rows: dict[str, tuple[float, float]], bound: Elbo, unit: str, note: str) -> None:
    settings, nats = bound.settings, {*bound.terms, "total"}
    report.heading("Likelihood", 3)
    report.text(
        f"A bound on -log p in nats per {unit}, over {len(bound.total)} of them ({note}; gamma from "
        f"{settings['gamma_0']:.2f} to {settings['gamma_1']:.2f}, {settings['draws']:.0f} draws each)."
    )
    report.table(
        ["term", "mean", "standard error", "unit", "what it is"],
        [
            (name, _figure(mean), _figure(error), "nats" if name in nats else "per degree of freedom", MEANING[name])
            for name, (mean, error) in rows.items()
            if name != "log_volume" or mean
        ],
    )


def _figure(value: float) -> str:
    """Three decimals where they can mean something."""
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:,.0f}"


def _curve_section(report: Report, run: Path) -> None:
    with (run / "metrics.csv").open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row.get(TRAIN_LOSS)]
    steps, losses = [int(row["step"]) for row in rows], [float(row[TRAIN_LOSS]) for row in rows]
    windows = [losses[max(0, i - 9) : i + 1] for i in range(len(losses))]
    smooth = [sum(window) / len(window) for window in windows]
    report.curve({"training loss, mean of 10 logged batches": (steps, smooth)}, "step", "loss", "The training run.")
