"""The three molecule networks side by side: python -m tests.benchmarks.networks [--seconds 60] [--compile]

At about equal parameters and at about equal time of a training step: forward, training step, memory, and what
each has learned of the enumerated molecules after the same number of seconds. Times are processor time, so that
neighbours on the machine change them little; learning is the loss over noise drawn from one seed, so that networks see
the same molecules and the same noise. --compile also measures torch.compile, and bf16 and compiled against float32.
"""

import argparse
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

from medmol_diffusion.molecules import EGNN, EnumeratedData, MoleculeDiffusion, PairTransformer
from medmol_diffusion.molecules.batch import MoleculeBatch
from medmol_diffusion.molecules.networks.network import MoleculeNetwork
from medmol_diffusion.molecules.networks.tensor_field import TensorField
from medmol_diffusion.testing import noisy_molecules, shake

ELEMENTS = [1, 6, 7, 8]
EQUAL_PARAMETERS: dict[str, Callable[[], MoleculeNetwork]] = {
    "EGNN": lambda: EGNN(4, 4, hidden=160, edge_hidden=64, layers=5),
    "PairTransformer": lambda: PairTransformer(4, 4, hidden=72, pair_hidden=40, layers=5, heads=6),
    "TensorField": lambda: TensorField(4, 4, hidden=128, pair_hidden=64, channels=24, layers=4),
}
EQUAL_TIME: dict[str, Callable[[], MoleculeNetwork]] = {
    "EGNN": lambda: EGNN(4, 4, hidden=256, edge_hidden=80, layers=5),
    "PairTransformer": lambda: PairTransformer(4, 4, hidden=128, pair_hidden=48, layers=4),
    "TensorField": lambda: TensorField(4, 4, hidden=128, pair_hidden=48, channels=16, layers=2),
}


def processor_seconds(work: Callable[[], object], repeats: int) -> float:
    """The least of several runs, after one to warm up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def costs(network: MoleculeNetwork, repeats: int) -> tuple[float, float, float]:
    """Processor seconds of a forward pass and of a training step with 64 molecules of 18 atoms, and the MB that a
    forward pass keeps for the gradient."""
    given = noisy_molecules(network, (18,) * 64)

    def step() -> None:
        said = network(*given)
        (said.vectors.square().mean() + said.atoms.square().mean()).backward()
        network.zero_grad()

    with torch.no_grad():
        forward = processor_seconds(lambda: network(*given), repeats)
    train = processor_seconds(step, repeats)
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(*given)
    return forward, train, sum(kept.values()) / 1e6


def learned(network: MoleculeNetwork, batches: list[MoleculeBatch], seconds: float, rate: float) -> tuple[int, float]:
    """(steps taken in this much processor time, the mean loss of the held-out batches)."""
    model = MoleculeDiffusion(ELEMENTS, network, gamma_mean=-2.0, gamma_std=3.0)
    held_out, train = batches[:8], batches[8:]
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(0)
    start, steps = time.process_time(), 0
    while (spent := (time.process_time() - start) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (steps + 1) / 20) * (1 - spent)
        model.loss(train[steps % len(train)], generator).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        steps += 1
    generator.manual_seed(1)
    with torch.no_grad():
        losses = [model.loss(batch, generator) for _ in range(4) for batch in held_out]
    return steps, torch.cat(losses).mean().item()


def enumerated_batches(size: int) -> list[MoleculeBatch]:
    """The embedded molecules in batches of neighbouring sizes, in one fixed order."""
    data = EnumeratedData(elements=ELEMENTS, batch_size=size)
    data.setup("fit")
    torch.manual_seed(0)
    return list(data.train_dataloader())


def agreement(network: MoleculeNetwork, compiled: bool) -> tuple[float, float, float, float]:
    """Largest difference from float32, per unit of the larger of 1 and the largest output, of bf16 autocast and of
    torch.compile with dynamic sizes; the seconds that compiling took; the processor seconds of a compiled forward."""
    shake(network)
    given = noisy_molecules(network, (18, 11, 7, 15) * 16)
    with torch.no_grad():
        exact = network(*given)

        def off(found: object) -> float:
            pairs = zip(found, exact, strict=True)  # type: ignore[call-overload]
            return max(((a - b).abs().max() / b.abs().max().clamp(min=1)).item() for a, b in pairs if b is not None)

        with torch.autocast("cpu", torch.bfloat16):
            bf16 = off(network(*given))
        if not compiled:
            return bf16, float("nan"), float("nan"), float("nan")
        fast = torch.compile(network, dynamic=True)
        start = time.perf_counter()
        found = fast(*given)
        took = time.perf_counter() - start
        again = noisy_molecules(network, (18,) * 64)
        return bf16, off(found), took, processor_seconds(lambda: fast(*again), 5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="processor seconds of learning, each network")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    batches = enumerated_batches(32)
    for title, networks in (("about equal parameters", EQUAL_PARAMETERS), ("about equal time", EQUAL_TIME)):
        table = Table(title=f"{title}; 64 molecules of 18 atoms, one thread; {options.seconds:.0f} s of learning")
        for heading in ("network", "parameters", "forward, s", "step, s", "memory, MB", "steps", "loss"):
            table.add_column(heading, justify="left" if heading == "network" else "right")
        for name, build in networks.items():
            torch.manual_seed(0)
            network = build()
            size = sum(parameter.numel() for parameter in network.parameters())
            forward, train, memory = costs(network, options.repeats)
            steps, loss = learned(network, batches, options.seconds, options.rate)
            table.add_row(
                name, f"{size:,}", f"{forward:.3f}", f"{train:.3f}", f"{memory:.0f}", f"{steps}", f"{loss:.3f}"
            )
        Console().print(table)
    table = Table(title="against float32, of the larger of 1 and the largest output")
    for heading in ("network", "bf16 autocast", "compiled", "compiling, s", "compiled forward, s"):
        table.add_column(heading, justify="left" if heading == "network" else "right")
    for name, build in EQUAL_TIME.items():
        bf16, compiled, took, forward = agreement(build(), options.compile)
        table.add_row(name, f"{bf16:.1e}", f"{compiled:.1e}", f"{took:.0f}", f"{forward:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
