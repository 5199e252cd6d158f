"""The dense, factorised EGNN against a plain edge-list EGNN of the same weights: python -m tests.benchmarks.egnn

The peer is tests/molecules/edge_list_egnn.py, padded to the data set's largest molecule as the reference codes do. Both
are first checked to agree to 1e-5, then timed in turn, so that what else runs on the machine meets both; the fastest
round of each counts. With one thread it is processor time, with more the clock on the wall. Each runs with malloc as it
is used: the peer with glibc's own thresholds at the end of their range, ours with what `medmol` sets
(training/memory.py); a row of the peer has the same setting, which takes most of the page faults off it. --bf16 adds
ours under autocast, against the same peer in float32.

Tables: forward (a network call of sampling) and training step, padded and in batches of one size; with --budget, the
cost of a pair over N. --sizes FILE.npz takes the num_atoms of a data set (drug-like molecules, say) in place of QM9's.
"""

import argparse
import ctypes
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from medmol_diffusion.molecules import EGNN, PairTransformer
from medmol_diffusion.molecules.networks.network import MoleculeNetwork
from medmol_diffusion.molecules.sampler import SizeBucketSampler
from medmol_diffusion.training.memory import M_MMAP_THRESHOLD, M_TOP_PAD, M_TRIM_THRESHOLD, keep_freed_memory
from tests.molecules.edge_list_egnn import EdgeListEGNN

# QM9 with hydrogens: molecules by number of atoms, from 3 to 29 (100 000 of the EDM training split)
COUNTS = [
    1, 4, 5, 9, 16, 49, 124, 362, 807, 1689, 3060, 5136, 7796, 10644, 13025, 13364, 13832, 9482, 9970, 3393, 4848, 539,
    1506, 48, 266, 0, 25,
]  # fmt: skip
FEATURES = 6
SMALL, LARGE = (8, 11, 14, 18, 22, 25, 29), (40, 60, 80, 100, 140, 181)
Batch = tuple[Tensor, Tensor, Tensor, Tensor]


def all_sizes(path: str | None) -> np.ndarray:
    """The sizes of QM9, or those of a file."""
    if path is None:
        return np.repeat(np.arange(3, len(COUNTS) + 3), COUNTS)
    with np.load(path, allow_pickle=False) as file:
        return file["num_atoms"].astype(np.int64)


def quantiles(sizes: np.ndarray, count: int) -> np.ndarray:
    """The sizes at count equally spaced quantiles."""
    return np.quantile(sizes, (np.arange(count) + 0.5) / count).astype(int)


def random_batch(sizes: np.ndarray, padded: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(padded) < torch.from_numpy(sizes)[:, None]
    positions = 2 * torch.randn(len(sizes), padded, 3, generator=generator) * mask[..., None]
    values = torch.randn(len(sizes), padded, FEATURES, generator=generator) * mask[..., None]
    return positions, values, mask, torch.linspace(-5, 5, len(sizes))


def forward(network: nn.Module, batches: list[Batch], bf16: bool = False) -> None:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        for batch in batches:
            network(*batch)


def train(network: nn.Module, batches: list[Batch], bf16: bool = False) -> None:
    """A training step a batch but for the optimizer, which is the same for both."""
    for batch in batches:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            vectors, features, *_ = network(*batch)
        ((vectors - batch[0]).square().mean() + features.float().square().mean()).backward()
        network.zero_grad()


def give_memory_back() -> None:
    """What glibc's thresholds grow to by themselves: 32 MiB, and twice as much at the top of the heap."""
    mallopt = ctypes.CDLL(None).mallopt
    for name, value in ((M_MMAP_THRESHOLD, 2**25), (M_TRIM_THRESHOLD, 2**26), (M_TOP_PAD, 2**17)):
        mallopt(name, value)


def fastest(work: list[Callable[[], None]], rounds: int) -> list[float]:
    """Seconds of the fastest of several rounds, all pieces of work in turn, after one to warm up."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    best = [float("inf")] * len(work)
    for turn in range(rounds + 1):
        for place, run in enumerate(work):
            start = clock()
            run()
            if turn:
                best[place] = min(best[place], clock() - start)
    return best


def by_size(sizes: np.ndarray, pair_budget: int) -> list[Batch]:
    """As training batches them."""
    rows = SizeBucketSampler(sizes, pair_budget)
    return [random_batch(sizes[one], int(sizes[one].max())) for one in rows]


def against_the_peer(options: argparse.Namespace, sizes: np.ndarray) -> Table:
    """Seconds of ``molecules`` molecules, each network padded and in batches of one size."""
    torch.manual_seed(0)
    ours = EGNN(FEATURES, FEATURES, options.hidden, options.edge_hidden, options.layers)
    peer = EdgeListEGNN(ours)
    count, largest = options.molecules, int(sizes.max())
    chosen = quantiles(sizes, count)
    padded = [random_batch(chosen, largest)]
    if count > 8 and largest > 60:  # as much as a machine holds
        padded = [random_batch(part, largest) for part in np.array_split(chosen, count // 4)]
    many = quantiles(sizes, count * options.copies)
    buckets = by_size(many, int(max(count * (many.astype(float) ** 2).mean(), largest**2)))
    with torch.no_grad():
        for one, other in zip(ours(*buckets[0])[:2], peer(*buckets[0]), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    keep = keep_freed_memory
    runs: list[tuple[str, Callable[[], object], nn.Module, list[Batch], int, bool]] = [
        (f"edge list, padded to {largest}", give_memory_back, peer, padded, 1, False),
        ("the same, freed memory kept", keep, peer, padded, 1, False),
        ("edge list, batches of one size", keep, peer, buckets, options.copies, False),
        (f"dense factorised, padded to {largest}", keep, ours, padded, 1, False),
        ("dense factorised, batches of one size", keep, ours, buckets, options.copies, False),
    ]
    if options.bf16:
        runs.append(("the same in bf16", keep, ours, buckets, options.copies, True))

    def run(work: Callable, memory: Callable[[], object], network: nn.Module, batches: list[Batch], low: bool) -> None:
        memory()
        work(network, batches, low)

    times = np.array(
        [
            fastest(
                [partial(run, work, memory, network, batches, low) for _, memory, network, batches, _, low in runs],
                options.rounds,
            )
            for work in (forward, train)
        ]
    ) / np.array([copies for *_, copies, _ in runs])
    table = Table(
        title=f"{count} molecules of {chosen.mean():.1f} atoms on average, {options.layers} layers x {options.hidden} "
        f"nodes x {options.edge_hidden} edges, {options.threads} thread(s)"
    )
    for heading in ("network", "forward, s", "ratio", "training step, s", "ratio"):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    for (name, *_), (call, step) in zip(runs, times.T, strict=True):
        ratios = times[:, 0] / (call, step)
        table.add_row(name, f"{call:.3f}", f"{ratios[0]:.1f}x", f"{step:.3f}", f"{ratios[1]:.1f}x")
    return table


def of_a_pair(options: argparse.Namespace) -> Table:
    """Nanoseconds of a pair, N^2 of them in a molecule, at one budget of pairs for every N.

    To 29 atoms the line a (1 + c / N) is fitted to them, the cost a (N^2 + c N) of a molecule: c, and the worst over
    the mean of what is then left to tell apart.
    """
    torch.manual_seed(0)
    networks: dict[str, MoleculeNetwork] = {
        "EGNN": EGNN(FEATURES, FEATURES, options.hidden, options.edge_hidden, options.layers),
        "PairTransformer": PairTransformer(FEATURES, FEATURES, 192, 64, 6),
    }
    keep_freed_memory()
    table = Table(title=f"ns a pair, {options.budget} pairs a batch, {options.threads} thread(s)")
    for heading in ("network", "", *map(str, SMALL + LARGE), "worst / mean to 29", "worst / mean from 40", "c", "by c"):
        table.add_column(heading, justify="right")
    for name, network in networks.items():
        batches = [random_batch(np.full(max(1, options.budget // n**2), n), n) for n in SMALL + LARGE]
        pairs = np.array([len(one[0]) * one[0].shape[1] ** 2 for one in batches])
        for what, work in (("forward", forward), ("step", train)):
            seconds = np.array(fastest([partial(work, network, [one]) for one in batches], options.rounds))
            cost = 1e9 * seconds / pairs
            parts = cost[: len(SMALL)], cost[len(SMALL) :]
            spread = (f"{part.max() / part.mean():.2f}" for part in parts)
            each = 1 / np.array(SMALL)
            slope, base = np.polyfit(each, parts[0], 1)
            left = parts[0] / (1 + slope / base * each)
            fit = f"{slope / base:.1f}", f"{left.max() / left.mean():.2f}"
            table.add_row(name, what, *(f"{value:.0f}" for value in cost), *spread, *fit)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", type=int, default=64)
    parser.add_argument("--copies", type=int, default=4, help="how many times the molecules fill the buckets")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--edge-hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=9)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sizes", metavar="FILE", help="npz with num_atoms, in place of QM9's sizes")
    parser.add_argument("--bf16", action="store_true", help="time ours under bf16 autocast as well")
    parser.add_argument("--budget", type=int, default=0, help="pairs of a batch: time a pair over N instead")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    console = Console(width=200)
    if options.budget:
        console.print(of_a_pair(options))
    else:
        console.print(against_the_peer(options, all_sizes(options.sizes)))


if __name__ == "__main__":
    main()
