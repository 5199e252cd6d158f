"""What the sampling loop costs beside the network: python -m tests.benchmarks.sampler_overhead

For every sampler and small networks, those of configs/molecules/enumerated.yaml and configs/mri/phantom.yaml, beside
the time of the step's network calls: the loop
(coefficients, noise from one stream per item, the update), timed with x_hat and eps_hat at hand; and the reading of the
network's output as x_hat and eps_hat, timed with a network that answers at once.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from medmol_diffusion.core import STEPPERS, Denoiser, Dense, Prediction, Space, Streams, X, grid, sample, stepper_named
from medmol_diffusion.molecules import MoleculeDiffusion
from medmol_diffusion.mri import VolumeDiffusion
from medmol_diffusion.mri.spectrum import CosineSpace
from medmol_diffusion.training.saved import build

REPEATS = 12
CONFIGS = Path(__file__).parents[2] / "configs"


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


def untrained(config: str, device: str) -> Any:
    """The model of a config of the package, as it begins."""
    content = yaml.safe_load((CONFIGS / config).read_text())
    return build(content["model"]["model"]).to(device).eval()


def molecules(count: int, device: str) -> tuple[MoleculeDiffusion, Space]:
    """Enumerated molecules, all of 12 atoms."""
    model = untrained("molecules/enumerated.yaml", device)
    return model, model.layout.space(torch.ones(count, 12, dtype=torch.bool, device=device))


def scans(count: int, device: str) -> tuple[VolumeDiffusion, Space]:
    """Phantoms."""
    model = untrained("mri/phantom.yaml", device)
    return model, CosineSpace(torch.ones(count, 1, *model.grid.shape, dtype=torch.bool, device=device))


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
    call = seconds(lambda: model.network(z, level, space), device)
    constant = Constant(model.network(z, level, space))
    reading = model.denoiser
    reading.network = constant
    ready = Ready(constant.output)
    found = {}
    for name in STEPPERS:

        def run(denoiser: Denoiser, name: str = name) -> None:
            sample(denoiser, stepper_named(name), gammas, space, z, streams)

        loop = seconds(lambda run=run: run(ready), device) / steps
        constant.calls = 0
        both = seconds(lambda run=run: run(reading), device) / steps
        found[name] = loop, both, constant.calls / steps / REPEATS
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
