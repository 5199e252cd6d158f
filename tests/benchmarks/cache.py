"""What a large data set costs: python -m tests.benchmarks.cache [--conformers 1000000 --atoms 45]

Writes that many random conformers into the memory-mapped cache, then reads an epoch of training batches from it, and a
second one with two workers. Each stage runs in a process of its own; memory is its peak resident set, the part of it
that is its own (anonymous: mapped pages of files can be dropped at any time and belong to the page cache), and time.
"""

import argparse
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from medmol_diffusion.molecules import cache
from medmol_diffusion.molecules.dataset import MoleculeDataset
from medmol_diffusion.molecules.flat import FlatMolecules, centred, running
from medmol_diffusion.molecules.sampler import SizeBucketSampler
from medmol_diffusion.training.loader import ResumableLoader

CHUNK = 4096


def conformers(count: int, atoms: int) -> Iterator[FlatMolecules]:
    """Random chains of about that many atoms, with a bond between neighbours: what a reader would yield."""
    draw = np.random.default_rng(0)
    for start in range(0, count, CHUNK):
        index = np.arange(start, min(start + CHUNK, count))
        sizes = draw.integers(atoms - 10, atoms + 11, len(index))
        offsets, total = running(sizes), int(sizes.sum())
        first = np.arange(total) - np.repeat(offsets[:-1], sizes)
        bonds = np.stack([first - 1, first, np.ones(total)], axis=1).astype(np.int32)[first > 0]
        yield FlatMolecules(
            draw.choice(np.array([1, 6, 7, 8], dtype=np.uint8), total),
            centred(draw.normal(size=(total, 3)).astype(np.float32), offsets),
            offsets,
            index,
            index // 30,
            bonds,
            running(sizes - 1),
            np.zeros(total, dtype=np.int8),
            {"energy": draw.normal(size=len(index))},
            records=len(index),
        )


def build(folder: Path, count: int, atoms: int) -> str:
    cache.write(folder, conformers(count, atoms), {})
    return f"{sum(file.stat().st_size for file in folder.iterdir()) / 1e9:.2f} GB on disk"


def epoch(folder: Path, workers: int) -> str:
    data = MoleculeDataset(cache.read(folder), None, "file", ("energy",))
    budget = int(64 * (data.num_atoms.astype(float) ** 2).mean())
    batches = SizeBucketSampler(data.num_atoms, budget)
    loader = ResumableLoader(data, batches, num_workers=workers, collate_fn=lambda batch: batch)
    seen = sum(len(batch) for batch in loader)
    if seen != len(data):
        raise RuntimeError(f"an epoch gave {seen} of {len(data)} conformers")
    return f"{seen} conformers"


def _memory() -> tuple[float, float]:
    """GB: the largest resident set so far, and the anonymous part now."""
    rows = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak, own = (float(rows[key].split()[0]) / 1e6 for key in ("VmHWM", "RssAnon"))
    return peak, own


def _stage(queue: "SimpleQueue[Any]", work: Any, arguments: tuple[Any, ...]) -> None:
    before = time.perf_counter()
    note = work(*arguments)
    queue.put((note, time.perf_counter() - before, *_memory()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conformers", type=int, default=200_000)
    parser.add_argument("--atoms", type=int, default=45, help="on average, plus or minus 10")
    parser.add_argument("--root", type=Path, help="where to write (default: a temporary folder)")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(dir=options.root))
    folder = root / "conformers"
    table = Table(title=f"{options.conformers} conformers of {options.atoms} atoms")
    for heading in ("stage", "seconds", "peak resident, GB", "own memory at the end, GB", ""):
        table.add_column(heading, justify="left" if heading in ("stage", "") else "right")
    stages = [
        ("build", build, (folder, options.conformers, options.atoms)),
        ("epoch, no workers", epoch, (folder, 0)),
        ("epoch, two workers", epoch, (folder, 2)),
    ]
    try:
        spawn = multiprocessing.get_context("spawn")
        for title, work, arguments in stages:
            queue: SimpleQueue[Any] = spawn.SimpleQueue()
            process = spawn.Process(target=_stage, args=(queue, work, arguments))
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(process.exitcode)
            note, seconds, peak, own = queue.get()
            table.add_row(title, f"{seconds:.1f}", f"{peak:.2f}", f"{own:.2f}", note)
    finally:
        shutil.rmtree(root)
    Console().print(table)


if __name__ == "__main__":
    main()
