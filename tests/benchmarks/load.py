"""python -m tests.benchmarks.load FOLDER: memory and seconds of `medmol sample` and `medmol score` of more and more.

Each command is a process of its own; what is counted is the most memory that it, or the largest of the processes that
it starts, has held. Molecules to score are 100 of the shipped model, again and again under other names; scans are noise
that was smoothed; the models that sample are untrained but for two steps, and as small as they get.
"""

import argparse
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from medmol_diffusion.molecules import Molecule, MoleculeDiffusion, write_sdf, write_xyz
from medmol_diffusion.molecules.molecule import pad
from medmol_diffusion.mri import Volume
from medmol_diffusion.training.fit import fit
from tests.conftest import MOLECULES, TRAINER, VOLUMES, random_molecules, write_npz, write_scans

STEPS = ("--steps", "2")
KINDS = ("sample", "score", "formats", "scans")

STARTER = """
import os, sys
process = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-m", "medmol_diffusion", *sys.argv[1:]])
_, status, usage = os.wait4(process, 0)
assert status == 0
print(usage.ru_maxrss)
"""
"""Starts a command from a small process: one begins with the most memory that the one which starts it has held."""


def measured(*arguments: str) -> tuple[float, float]:
    """(GiB, seconds) of a command."""
    began = time.monotonic()
    starter = [sys.executable, "-c", STARTER, *arguments]
    said = subprocess.run(starter, stdout=subprocess.PIPE, text=True, check=True).stdout
    return int(said.splitlines()[-1]) / 2**20, time.monotonic() - began


def say(what: str, count: int, found: tuple[float, float]) -> None:
    print(f"| {what} | {count} | {found[0]:.2f} | {found[1]:.0f} |", flush=True)


def trained(folder: Path, name: str, text: str, data: Path) -> Path:
    config = folder / f"{name}.yaml"
    config.write_text(TRAINER + text.replace("PATH", str(data)))
    run = folder / name
    return run if run.exists() else fit(["--config", str(config), "--trainer.default_root_dir", str(run)])


def many(count: int, some: list[Molecule]) -> list[Molecule]:
    return [replace(some[place % len(some)], name=f"molecule-{place}") for place in range(count)]


def write_many_scans(folder: Path, count: int, size: int) -> Path:
    for place in range(count):
        data = np.random.default_rng(place).normal(size=(size,) * 3).cumsum(0).cumsum(1).cumsum(2)
        Volume(data - data.min(), np.eye(4)).write(folder / f"sub-{place:04d}_T1w.nii.gz")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("kinds", nargs="*", choices=KINDS, default=KINDS)
    options = parser.parse_args()
    folder, kinds = options.folder, options.kinds
    folder.mkdir(parents=True, exist_ok=True)
    print("| command | of | GiB | s |\n|---|---|---|---|", flush=True)
    if "sample" in kinds:
        tiny = trained(folder, "molecules", MOLECULES, write_npz(folder / "some.npz", random_molecules()))
        for count in (1_000, 10_000, 100_000):
            say(
                "`sample`, molecules",
                count,
                measured("sample", str(tiny), "-n", str(count), *STEPS, "-o", str(folder / "out.sdf")),
            )
        tiny = trained(folder, "scans", VOLUMES, write_scans(folder / "some"))
        for count in (100, 1_000):
            say(
                "`sample`, scans of 8^3",
                count,
                measured("sample", str(tiny), "-n", str(count), *STEPS, "-o", str(folder / f"made-{count}")),
            )
    some = MoleculeDiffusion.from_pretrained("qm9-chno").sample(100, steps=10)
    if "score" in kinds:
        for count in (1_000, 10_000, 100_000):
            molecules = many(count, some)
            write_sdf(molecules, folder / "many.sdf")
            say("`score`, SDF", count, measured("score", str(folder / "many.sdf")))
    if "formats" in kinds:
        molecules = many(100_000, some)
        write_xyz(molecules, folder / "many.xyz")
        numbers, positions, sizes = pad(molecules)
        np.savez(folder / "many.npz", atomic_numbers=numbers, positions=positions, num_atoms=sizes)
        for kind in ("xyz", "npz"):
            say(f"`score`, {kind}", 100_000, measured("score", str(folder / f"many.{kind}")))
    if "scans" in kinds:
        real = str(write_many_scans(folder / "real", 50, 32))
        for count in (100, 1_000):
            made = write_many_scans(folder / f"scans-{count}", count, 32)
            say("`score`, scans of 32^3", count, measured("score", str(made), "--reference", real))


if __name__ == "__main__":
    main()
