"""The dense, factorised EGNN against a plain edge-list EGNN of the same weights: python -m tests.benchmarks.egnn

Times are for 64 molecules with the sizes of QM9, 9 layers x 256, forward and full training step. Both networks run
padded to the data set's largest molecule, as the reference codes do, and in batches of one size, so that what bucketing
saves and what the dense layout saves are seen apart. The two are first checked to agree to 1e-5.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from medmol_diffusion.molecules.networks.egnn import EGNN
from medmol_diffusion.molecules.sampler import SizeBucketSampler
from tests.molecules.edge_list_egnn import EdgeListEGNN

# QM9 with hydrogens: molecules by number of atoms, from 3 to 29 (100 000 of the EDM training split)
COUNTS = [
    1, 4, 5, 9, 16, 49, 124, 362, 807, 1689, 3060, 5136, 7796, 10644, 13025, 13364, 13832, 9482, 9970, 3393, 4848, 539,
    1506, 48, 266, 0, 25,
]  # fmt: skip
LARGEST = 29
Batch = tuple[Tensor, Tensor, Tensor, Tensor]


def qm9_sizes(count: int) -> np.ndarray:
    """The sizes at count equally spaced quantiles of QM9."""
    return np.quantile(np.repeat(np.arange(3, LARGEST + 1), COUNTS), (np.arange(count) + 0.5) / count).astype(int)


def random_batch(sizes: np.ndarray, padded: int, features: int) -> Batch:
    generator = torch.Generator().manual_seed(0)
    mask = torch.arange(padded) < torch.from_numpy(sizes)[:, None]
    positions = 2 * torch.randn(len(sizes), padded, 3, generator=generator) * mask[..., None]
    values = torch.randn(len(sizes), padded, features, generator=generator) * mask[..., None]
    return positions, values, mask, torch.linspace(-5, 5, len(sizes))


def forward(network: nn.Module, batches: list[Batch]) -> None:
    with torch.no_grad():
        for batch in batches:
            network(*batch)


def train(network: nn.Module, batches: list[Batch]) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    for batch in batches:
        vectors, features, *_ = network(*batch)
        ((vectors - batch[0]).square().mean() + features.square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()


def seconds(work: Callable[[], None], repeats: int) -> float:
    """The fastest of several runs, after one to warm up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--molecules", type=int, default=64)
    parser.add_argument("--copies", type=int, default=4, help="how many times the molecules fill the buckets")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--edge-hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=9)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()

    torch.manual_seed(0)
    features = 6
    ours = EGNN(features, features, options.hidden, options.edge_hidden, options.layers)
    peer = EdgeListEGNN(ours)
    sizes = qm9_sizes(options.molecules)
    padded = [random_batch(sizes, LARGEST, features)]
    many = np.tile(sizes, options.copies)
    sampler = SizeBucketSampler(many, int(max(options.molecules * (many**2).mean(), LARGEST**2)))
    buckets = [random_batch(many[rows], int(many[rows].max()), features) for rows in sampler]

    with torch.no_grad():
        for one, other in zip(ours(*buckets[0])[:2], peer(*buckets[0]), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5)

    runs = [
        ("edge list, padded to 29", peer, padded, 1),
        ("edge list, batches of one size", peer, buckets, options.copies),
        ("dense factorised, padded to 29", ours, padded, 1),
        ("dense factorised, batches of one size", ours, buckets, options.copies),
    ]
    table = Table(
        title=f"{options.molecules} QM9-sized molecules, mean {sizes.mean():.1f} atoms, {options.layers} layers x "
        f"{options.hidden} nodes x {options.edge_hidden} edges, {torch.get_num_threads()} threads"
    )
    for heading in ("network", "forward, s", "ratio", "training step, s", "ratio"):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    first: list[float] = []
    for name, network, batches, copies in runs:
        times = [seconds(partial(work, network, batches), options.repeats) / copies for work in (forward, train)]
        first = first or times
        cells = [cell for t, t_0 in zip(times, first, strict=True) for cell in (f"{t:.3f}", f"{t_0 / t:.1f}x")]
        table.add_row(name, *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
