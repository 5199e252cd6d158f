"""`medmol demo`: the shipped models of both domains, and a short training run, in one report, in minutes."""

import csv
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from medmol_diffusion import __version__
from medmol_diffusion.core import Elbo
from medmol_diffusion.molecules import MoleculeDiffusion, write_sdf
from medmol_diffusion.molecules.enumerate import enumerate_molecules
from medmol_diffusion.molecules.gallery import gallery
from medmol_diffusion.molecules.metrics import score_molecules
from medmol_diffusion.molecules.perceive import perceived
from medmol_diffusion.mri import HaarStage, PhantomData, Volume, VolumeDiffusion
from medmol_diffusion.mri.anomaly import Detection, Setting
from medmol_diffusion.mri.anomaly.evaluation import Case, Evaluator, protocol_of, tables_of
from medmol_diffusion.mri.phantom import head_phantom
from medmol_diffusion.mri.picture import focus
from medmol_diffusion.mri.viewer import Stack, slice_viewer
from medmol_diffusion.progress import Bar
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
MOLECULES, SCANS = "qm9-chno", "head-phantom"
"""The shipped models."""
STEPS = 600
"""Of the live training run."""
ASKED: dict[str, list[float | str]] = {
    "contrast": ["T1w", "T1w", "T2w", "T2w", "FLAIR", "FLAIR"],
    "ventricles": [15.0, 80.0, 15.0, 80.0, 30.0, 30.0],
    "lesion_load": [0.0, 0.0, 0.0, 0.0, 0.0, 15.0],
}
"""Of six heads: their covariates, in ml."""
HEALTHY: dict[str, float | str] = {"contrast": "T1w", "lesion_load": 0.0}
"""What a scan under examination is asked to have been."""
METHODS = ("one_shot", "elbo")
"""Beside the baselines."""


def run_demo(out: Path, molecules: int = 100, steps: int = STEPS) -> Path:
    """Sample, score, detect, train and report into ``out``; returns the report's path.

    Args:
        molecules: how many are sampled and shown.
        steps: of the training run.
    """
    say = Console().print
    out.mkdir(parents=True, exist_ok=True)
    report = Report("medmol_diffusion demo", f"Version {__version__}. All of this was made on this machine just now.")
    say(f"[bold]1/3 molecules[/]: {molecules} by {MOLECULES}")
    _molecules(out, report, molecules)
    say(f"[bold]2/3 scans[/]: six heads by {SCANS}, and lesions in heads it has not seen")
    _scans(out, report)
    say(f"[bold]3/3 training[/]: {steps} steps on enumerated small molecules")
    _training(out, report, steps)
    return report.write(out / "report.html")


def _molecules(out: Path, report: Report, count: int) -> None:
    model = MoleculeDiffusion.from_pretrained(MOLECULES)
    molecules = model.sample(count, seed=0)
    write_sdf(molecules, out / "molecules.sdf")
    known = [molecule for molecule in enumerate_molecules() if not set(molecule.atomic_numbers) - {1, 6, 7, 8}]
    known = [perceived(molecule, model.layout.bond_orders) for molecule in known[:: len(known) // 32]]
    bound = model.nll(known, draws=8, seed=0)

    report.heading("Molecules")
    report.text(
        f"{count} molecules of H, C, N and O by {MOLECULES}, in {model.recipe.steps} steps of {model.recipe.sampler}, "
        "not selected. They are in molecules.sdf, with the bonds that the model made. Choose one, and drag to turn it."
    )
    report.markup(gallery(molecules))
    report.heading("Their scores", 3)
    report.text(
        "Bonds are read off the distances (rule 1, the tables of EDM). A stable atom has exactly the bonds of its "
        "element, a stable molecule only such atoms; a valid one is accepted by RDKit, and a connected one is valid "
        "and in one piece. Captions are the SMILES of the largest piece. The model's card has the figures of 10 000."
    )
    report.table(["score", "value", "95 % interval", "of"], list(score_molecules(molecules).rows()))
    _bound_section(
        report,
        summary(bound),
        bound,
        "molecule",
        "small molecules built by RDKit with the MMFF94 force field, unlike the model's training data, and shaken by "
        "0.01 angstrom; positions in angstrom; T = 1000; the recipe of EDM, with bonds",
    )


def _scans(out: Path, report: Report) -> None:
    model = VolumeDiffusion.from_pretrained(SCANS)
    grid = model.grid
    shape = list(grid.shape)
    with Bar("sampling", 6, transient=True) as bar:
        scans = model.sample(6, seed=0, covariates=ASKED, guidance=2.0, progress=bar.reach)
    for i, scan in enumerate(scans):
        scan.write(out / "samples" / f"sample-{i:04d}.nii.gz")
    data = PhantomData(
        8,
        shape,
        seed=1_000_000,
        contrast=["T1w", "T2w", "FLAIR"],
        atrophy=[0.0, 1.0],
        lesions=[0, 8],
        levels=grid.levels,
        upper_percentile=grid.upper,
        validation=0.0,
        test=0.0,
    )
    data.setup()
    bound = validate_model(model, data, "train", steps=0, draws=8, seed=0)
    real = [model.to_volume(data.train[i][0][0].numpy(), {}) for i in range(6)]

    report.heading("Scans")
    size = " x ".join(map(str, shape))
    report.text(
        f"Six heads by {SCANS} ({size} voxels of {grid.spacing:g} mm; procedural, not real scans), each asked for a "
        "contrast, the volume of its ventricles and its lesion load; 50 steps, guidance 2, not selected."
    )
    stacks = [Stack(f"generated {i}", scan) for i, scan in enumerate(scans, 1)]
    report.markup(slice_viewer([*stacks, *(Stack(f"phantom {i}", scan) for i, scan in enumerate(real, 1))]))
    report.text("The slider moves through all of them; below are six phantoms that the model has not seen.")
    asked = [(name, *(f"{v:g}" if isinstance(v, float) else v for v in values)) for name, values in ASKED.items()]
    report.table(["asked of head", *(str(i) for i in range(1, 7))], asked)
    baseline = validate_baseline(model, data, "train")
    figures = summary(bound) | ({} if baseline is None else baseline_summary(model, bound, baseline))
    _bound_section(report, figures, bound, "head", "256 grey levels; every voxel counted; continuous time")
    _anomalies(model, shape, out, report)


def _anomalies(model: VolumeDiffusion, shape: list[int], out: Path, report: Report) -> None:
    sick = [head_phantom(2_000_000 + i, shape, contrast="T1w", lesions=1, lesion_kind="mass") for i in range(6)]
    healthy = [head_phantom(3_000_000 + i, shape, contrast="T1w") for i in range(8)]
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
    evaluator = Evaluator(Setting(model, HEALTHY), healthy=cases[-4:], test=cases[:-4])
    shown: list[Detection] = []

    def seen(method: str, case: Case, found: Detection) -> None:
        if method == METHODS[0] and case is largest:
            shown.append(found)
            found.map.write(out / "anomaly.nii.gz")

    evaluations, left_out = evaluator.run(METHODS, seen)
    report.heading("Anomalies, found by what the model cannot restore", 3)
    report.text(
        "In brain masks of 6 T1w heads with a tumour each and 4 without. The model, which knows lesions of the white "
        f"matter and no tumours, is asked what each head would be without lesions. {protocol_of(evaluator)}"
    )
    for found in shown:
        stacks = [Stack("scan", found.scan), Stack("restored", found.restored)]
        stacks += [Stack(f"what {METHODS[0]} finds", found.scan, found.map)]
        lesions = largest.lesions
        stacks += [] if lesions is None else [Stack("lesions", found.scan, lesions)]
        report.text("The head with the largest:")
        report.markup(slice_viewer(stacks, focus(found, lesions)[2] / (found.scan.shape[2] - 1)))
    for table in tables_of(evaluations, left_out, evaluator):
        report.heading(table.title, 3)
        report.text(table.meaning)
        report.table(table.header, table.rows)


def training_config(folder: Path, steps: int) -> dict[str, Any]:
    """Small real molecules of C, N, O, F and H, and a network that begins to learn them in a minute."""
    elements = [1, 6, 7, 8, 9]
    network = {
        "class_path": "medmol_diffusion.molecules.EGNN",
        "init_args": {"atoms_in": 5, "atoms_out": 5, "hidden": 128, "edge_hidden": 48, "layers": 4},
    }
    arguments = {"elements": elements, "max_atoms": 16, "network": network, "gamma_mean": -2.0, "gamma_std": 3.0}
    model = {"class_path": "medmol_diffusion.molecules.MoleculeDiffusion", "init_args": arguments}
    data = {
        "class_path": "medmol_diffusion.molecules.EnumeratedData",
        "init_args": {"elements": elements, "max_heavy_atoms": 4, "conformers": 3, "validation": 0.0, "test": 0.1},
    }
    trainer = {
        "default_root_dir": str(folder),
        "max_steps": steps,
        "gradient_clip_val": 1.0,
        "num_sanity_val_steps": 0,
        "limit_val_batches": 0,
        "log_every_n_steps": 5,
        "enable_model_summary": False,
    }
    return {
        "seed_everything": 0,
        "trainer": trainer,
        "model": {"model": model, "warmup_steps": 50, "decay_steps": steps, "learning_rate": 2e-3},
        "data": data,
        "ema": {"decay": 0.99},
    }


def _training(out: Path, report: Report, steps: int) -> None:
    folder = out / "training"
    folder.mkdir(parents=True, exist_ok=True)
    last_checkpoint(folder / "checkpoints").unlink(missing_ok=True)  # of an earlier demo: this one begins anew
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(training_config(folder, steps), sort_keys=False))
    run = fit(["--config", str(path)])
    report.heading("A training run")
    report.text(
        f"{steps} steps on enumerated small molecules, by medmol fit --config {path}: the loss as it falls. It is not "
        "done, only begun."
    )
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
