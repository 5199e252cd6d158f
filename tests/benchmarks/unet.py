"""Training step of UNet3D against monai's DiffusionModelUNet: equal channels, levels, residual blocks and input.

    python tests/benchmarks/unet.py [--rounds 5] [--threads N]

The two are timed in turn, forward and backward in float32, and the fastest round of each counts; the memory is what
autograd keeps for the backward pass, its peak but for temporaries. With one thread it is processor time that counts,
which other programs on the machine do not lengthen; with more it is the clock on the wall.
"""

import argparse
import time
from collections.abc import Callable

import torch
from monai.networks.nets import DiffusionModelUNet
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from medmol_diffusion.mri.unet import UNet3D

CASES: list[
    tuple[str, int, int, int, list[int]]
] = [  # name, batch, channels of the input, size, channels of the levels
    ("voxels", 1, 1, 32, [32, 64, 64]),
    ("voxels", 4, 1, 32, [32, 64, 64]),
    ("voxels", 2, 1, 32, [64, 128]),
    ("Haar 1 level", 4, 8, 16, [64, 128]),
    ("Haar 2 levels", 8, 64, 8, [64, 128]),
]


def monai_unet(channels: int, widths: list[int]) -> nn.Module:
    return DiffusionModelUNet(
        spatial_dims=3,
        in_channels=channels,
        out_channels=channels,
        channels=widths,
        attention_levels=[False] * len(widths),
        num_res_blocks=2,
        norm_num_groups=8,
        num_head_channels=32,
    )


def step(network: nn.Module, x: Tensor, time_: Tensor) -> Callable[[], None]:
    def run() -> None:
        network.zero_grad()
        network(x, time_).square().mean().backward()

    return run


def kept_mib(network: nn.Module, x: Tensor, time_: Tensor) -> float:
    """MiB of the distinct tensors that autograd keeps between forward and backward, weights not counted."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = network(x, time_)
    del out
    return sum(kept.values()) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.threads == 1 else time.perf_counter

    table = Table(title=f"U-Net training step, float32, {options.threads} threads, fastest of {options.rounds} rounds")
    for column in ("input", "levels", "weights, M", "ms", "monai ms", "times faster", "kept MiB", "monai kept MiB"):
        table.add_column(column, justify="left" if column == "input" else "right")
    for name, batch, channels, size, widths in CASES:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(batch, channels, size, size, size, generator=generator)
        ours, theirs = UNet3D(channels, channels, widths, blocks=2), monai_unet(channels, widths)
        inputs = {ours: torch.randn(batch, generator=generator), theirs: torch.full((batch,), 500)}
        fastest = dict.fromkeys(inputs, float("inf"))
        for network, time_ in inputs.items():
            step(network, x, time_)()
        for _ in range(options.rounds):
            for network, time_ in inputs.items():
                run = step(network, x, time_)
                start = clock()
                run()
                fastest[network] = min(fastest[network], clock() - start)
        millions = [sum(p.numel() for p in network.parameters()) / 1e6 for network in inputs]
        memory = [kept_mib(network, x, time_) for network, time_ in inputs.items()]
        table.add_row(
            f"{name}: {batch} x {channels} x {size}^3",
            str(widths),
            f"{millions[0]:.1f} / {millions[1]:.1f}",
            f"{fastest[ours] * 1e3:.0f}",
            f"{fastest[theirs] * 1e3:.0f}",
            f"{fastest[theirs] / fastest[ours]:.2f}",
            f"{memory[0]:.0f}",
            f"{memory[1]:.0f}",
        )
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
