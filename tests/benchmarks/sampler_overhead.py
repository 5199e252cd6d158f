"""What the sampling loop costs beside the network: python -m tests.benchmarks.sampler_overhead

For every sampler and the smallest networks that ship, the demo's, beside the time of the step's network calls: the loop
(coefficients, noise from one stream per item, the update), timed with x_hat and eps_hat at hand; and the reading of
the network's output as x_hat and eps_hat, timed with a network that answers at once.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from medmol_diffusion.core import STEPPERS, Denoiser, Dense, Prediction, Space, Streams, X, grid, sample, stepper_named
from medmol_diffusion.demo import molecule_config, volume_config
from medmol_diffusion.molecules import EGNN, MoleculeDiffusion
from medmol_diffusion.mri import UNet3D, VolumeDiffusion
from medmol_diffusion.mri.spectrum import CosineSpace

REPEATS = 12


class Constant(nn.Module):
    """A network that answers with what it was given first, at no cost."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output, self.calls = output, 0

    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: Any = None) -> Tensor:
        self.calls += 1
        return self.output


class Known(X):
    """x_hat and eps_hat are at hand, both the output."""

    def eps(self, output: Tensor, z: Tensor, gamma: Tensor, space: Space) -> Tensor:
        return output


class Ready(Denoiser):
    """A denoiser that costs nothing, reading included."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output, self.space = output, Dense(output)

    def forward(self, z: Tensor, gamma: Tensor, space: Space, condition: Any = None) -> Prediction:
        return Prediction(self.output, z, gamma, Known(), self.space)


def molecules(count: int, device: str) -> tuple[MoleculeDiffusion, Space]:
    """The demo's molecules, all of 12 atoms."""
    arguments = molecule_config(Path())["model"]["model"]["init_args"]
    network = EGNN(**arguments.pop("network")["init_args"])
    model = MoleculeDiffusion(network=network, **arguments).to(device).eval()
    return model, model.layout.space(torch.ones(count, 12, dtype=torch.bool, device=device))


def scans(count: int, device: str) -> tuple[VolumeDiffusion, Space]:
    """The demo's scans."""
    arguments = volume_config(Path())["model"]["model"]["init_args"]
    network = UNet3D(**arguments.pop("network")["init_args"])
    model = VolumeDiffusion(network=network, **arguments).to(device).eval()
    return model, CosineSpace(torch.ones(count, 1, *arguments["shape"], dtype=torch.bool, device=device))


def seconds(work: Callable[[], Any], device: str) -> float:
    """The least of a few runs after one to warm up; on the CPU its own seconds, whoever else is there."""
    times, clock = [], time.process_time if device == "cpu" else time.perf_counter
    for _ in range(REPEATS):
        start = clock()
        work()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(clock() - start)
    return min(times[1:])


@torch.no_grad()
def measure(model: Any, space: Space, steps: int, device: str) -> tuple[float, dict[str, tuple[float, ...]]]:
    """(seconds of a network call, by sampler: seconds of the loop and with the reading, and network calls, a step)."""
    streams = Streams(0, torch.arange(space.shape[0]))
    z = space.noise(torch.zeros(space.shape, device=device), streams)
    gammas = grid(model.schedule, steps)
    level = gammas[1].to(device).expand(len(z))
    network = model.network
    call = seconds(lambda: network(z, level, space), device)
    constant = Constant(network(z, level, space))
    model.network = constant
    ready = Ready(constant.output)
    found = {}
    for name in STEPPERS:

        def run(denoiser: Denoiser, name: str = name) -> None:
            sample(denoiser, stepper_named(name), gammas, space, z, streams)

        loop = seconds(lambda run=run: run(ready), device) / steps
        constant.calls = 0
        both = seconds(lambda run=run: run(model.denoiser), device) / steps
        found[name] = loop, both, constant.calls / steps / REPEATS
    model.network = network
    return call, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    kinds: dict[str, Callable[[int, str], Any]] = {"molecules of 12 atoms": molecules, "scans": scans}
    # 222 molecules of 12 atoms are a full batch of MoleculeDiffusion.sample, 4 scans one of VolumeDiffusion.sample.
    counts = {"molecules of 12 atoms": (1, 32, 222), "scans": (1, 4)}
    for what, count in ((what, count) for what, several in counts.items() for count in several):
        call, found = measure(*kinds[what](count, options.device), options.steps, options.device)
        table = Table("sampler", "network calls", "loop, us", "% of network", "loop + reading, us", "% of network")
        table.title = f"{count} {what}, per step; a network call takes {1e3 * call:.1f} ms ({options.device})"
        for name, (loop, both, calls) in found.items():
            row = (calls, 1e6 * loop, 100 * loop / (call * calls), 1e6 * both, 100 * both / (call * calls))
            table.add_row(name, *(f"{value:.{digits}f}" for value, digits in zip(row, (2, 0, 1, 0, 1), strict=True)))
        Console().print(table)


if __name__ == "__main__":
    main()
