"""Training step of UNet3D against monai's DiffusionModelUNet: equal channels, levels, blocks, attention and input.

    python -m tests.benchmarks.unet [--rounds 5] [--threads N] [--only TEXT] [--compile] [--json FILE]
    python -m tests.benchmarks.unet --device cuda [--peak 989]

A step is forward, backward and a fused AdamW. The two take it in turn, and the fastest round of each counts: processor
time with one thread, which other programs lengthen least, else the clock on the wall. monai attends with torch's fused
kernel too (use_flash_attention), in its middle always, so ours attends at the coarsest level. Peak memory is that of
three steps, above what the process held before the network was made: on a CPU each network has a process of its own
(VmHWM), on a GPU it is torch's count. On a GPU both run in bf16 autocast, and the fraction of the chip's dense bf16
rate is that of the convolutions, products and attentions of the step, as torch.utils.flop_counter counts them.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from medmol_diffusion.mri.unet import UNet3D
from medmol_diffusion.training import memory

Shape = tuple[int, int, int]


class Case(NamedTuple):
    name: str
    batch: int
    channels_in: int
    size: Shape
    channels: list[int]

    @property
    def attention(self) -> list[bool]:
        return [False] * (len(self.channels) - 1) + [True]

    def __str__(self) -> str:
        return f"{self.name}: {self.batch} x {self.channels_in} x {' x '.join(map(str, self.size))}, {self.channels}"


CASES = [
    Case("Haar, 48 x 56 x 48 voxels", 4, 128, (12, 14, 12), [64, 128]),
    Case("Haar, 48 x 56 x 48 voxels", 4, 128, (12, 14, 12), [128, 128]),
    Case("Haar, 96 x 112 x 96 voxels", 1, 128, (24, 28, 24), [64, 128]),
    Case("Haar, 96 x 112 x 96 voxels", 1, 128, (24, 28, 24), [128, 128]),
    Case("voxels", 1, 1, (64, 64, 64), [32, 64, 128]),
]
NETWORKS = ("ours", "monai", "ours, checkpointing")


def build(name: str, case: Case, device: str, compiled: bool = False) -> nn.Module:
    c = case.channels_in
    network: nn.Module
    if name == "monai":
        from monai.networks.nets import DiffusionModelUNet  # here, that it does not count in the memory of ours

        network = DiffusionModelUNet(
            spatial_dims=3,
            in_channels=c,
            out_channels=c,
            channels=case.channels,
            attention_levels=case.attention,
            num_res_blocks=2,
            norm_num_groups=8,
            num_head_channels=32,
            use_flash_attention=True,
        )
    else:
        network = UNet3D(c, c, case.channels, 2, case.attention, checkpointing=name != "ours")
    network = network.to(device)
    if compiled:
        network.compile()
    return network


def stepper(network: nn.Module, case: Case, device: str) -> Callable[[], None]:
    """One training step of a batch that is always the same."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(case.batch, case.channels_in, *case.size, generator=generator).to(device)
    level = torch.zeros(case.batch, device=device)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            error = (network(x, level).float() - x).square().mean()
        error.backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def flops(name: str, case: Case) -> int:
    """Floating-point operations of forward and backward, counted on tensors without content."""
    network = build(name, case, "meta")
    with FlopCounterMode(display=False) as counter:
        x = torch.empty(case.batch, case.channels_in, *case.size, device="meta")
        network(x, torch.empty(case.batch, device="meta")).sum().backward()
    return counter.get_total_flops()


def peak_mib(name: str, case: Case, device: str) -> float:
    """MiB of three steps at their peak, in this process."""
    if name == "monai":
        import monai.networks.nets  # noqa: F401 (its modules are not memory of the network)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        memory.restart_peak()
        before = memory.peak()
    step = stepper(build(name, case, device), case, device)
    for _ in range(3):
        step()
    return ((torch.cuda.max_memory_allocated() if device == "cuda" else memory.peak()) - before) / 2**20


def peak_apart(name: str, case: Case, device: str, threads: int) -> float:
    if device == "cuda":
        return peak_mib(name, case, device)
    command = [sys.executable, "-m", "tests.benchmarks.unet", "--threads", str(threads)]
    command += ["--peak-of", name, str(CASES.index(case))]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(said.split()[-1])


def measure(case: Case, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    clock = time.process_time if options.threads == 1 and options.device == "cpu" else time.perf_counter
    networks = {name: build(name, case, options.device, options.compile) for name in NETWORKS}
    steps = {name: stepper(network, case, options.device) for name, network in networks.items()}
    found: dict[str, dict[str, float]] = {}
    for name, step in steps.items():
        step()
        weights = sum(parameter.numel() for parameter in networks[name].parameters())
        found[name] = {"weights": weights, "flops": flops(name, case), "seconds": float("inf")}
    for _ in range(options.rounds):
        for name, step in steps.items():
            start = clock()
            step()
            found[name]["seconds"] = min(found[name]["seconds"], clock() - start)
    del networks, steps, step
    for name, of in found.items():
        of["peak_mib"] = peak_apart(name, case, options.device, options.threads)
        of["rate"] = of["flops"] / of["seconds"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--peak", type=float, default=989.0, help="dense bf16 TFLOP/s; default: H100 SXM and H200")
    parser.add_argument("--only", default="", help="only the cases whose line in the table contains this")
    parser.add_argument("--compile", action="store_true", help="all networks through torch.compile, inductor")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peak-of", nargs=2, metavar=("NETWORK", "CASE"), help="print one peak and end")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak_of:
        print(peak_mib(options.peak_of[0], CASES[int(options.peak_of[1])], options.device))
        return

    gpu = options.device == "cuda"
    precision = "bf16" if gpu else "float32"
    where = torch.cuda.get_device_name() if gpu else f"{options.threads} threads of a CPU"
    compiled = ", compiled" if options.compile else ""
    table = Table(title=f"U-Net training step, {precision}{compiled}, {where}, fastest of {options.rounds} rounds")
    for column in ("input and levels", "network", "weights, M", "TFLOP", "ms", "times monai's speed", "peak MiB"):
        table.add_column(column, justify="left" if column in ("input and levels", "network") else "right")
    table.add_column("% of bf16 rate" if gpu else "GFLOP/s", justify="right")
    rows = []
    for case in (case for case in CASES if options.only in str(case)):
        found = measure(case, options)
        for name, of in found.items():
            table.add_row(
                str(case) if name == "ours" else "",
                name,
                f"{of['weights'] / 1e6:.1f}",
                f"{of['flops'] / 1e12:.3f}",
                f"{of['seconds'] * 1e3:.0f}",
                f"{found['monai']['seconds'] / of['seconds']:.2f}",
                f"{of['peak_mib']:.0f}",
                f"{of['rate'] / options.peak / 1e10:.1f}" if gpu else f"{of['rate'] / 1e9:.0f}",
            )
        rows.append({"case": str(case), **found})
    Console(width=150).print(table)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
