"""Cost: what a method takes for a scan, measured while it runs."""

from dataclasses import dataclass
from time import perf_counter
from typing import Any, Self

import torch
from torch import nn

from medmol_diffusion.training import memory


@dataclass(frozen=True)
class Cost:
    """What a method takes.

    Attributes:
        calls: of the network for a scan; one on a batch of three counts three.
        seconds: for a scan, with its way to the model's grid and back.
        memory: bytes held at most: on a GPU of tensors, else of the whole process, with torch and the model in it.
        fit_seconds: for all healthy scans together, before the first scan.
    """

    calls: float
    seconds: float
    memory: int
    fit_seconds: float = 0.0


class Meter:
    """Counts and times what happens inside it; a context manager that can be entered again and again.

    Args:
        network: whose forward calls are counted, by the rows of their first argument.
        device: where it runs.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.network, self.device = network, device
        self.calls = self.entered = self.peak = 0
        self.seconds = 0.0

    def __enter__(self) -> Self:
        memory.give_back()
        memory.restart_peak()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self.hook = self.network.register_forward_hook(self._count)
        self.began = perf_counter()
        return self

    def __exit__(self, *fault: object) -> None:
        cuda = self.device.type == "cuda"
        if cuda:
            torch.cuda.synchronize(self.device)
        self.seconds += perf_counter() - self.began
        self.entered += 1
        self.hook.remove()
        self.peak = max(self.peak, torch.cuda.max_memory_allocated(self.device) if cuda else memory.peak())

    def cost(self, fit_seconds: float = 0.0) -> Cost:
        """The mean of the times it was entered, and the peak of all."""
        times = max(1, self.entered)
        return Cost(self.calls / times, self.seconds / times, self.peak, fit_seconds)

    def _count(self, network: nn.Module, given: tuple[Any, ...], answer: Any) -> None:
        self.calls += len(given[0])
