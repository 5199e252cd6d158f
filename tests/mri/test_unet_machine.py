"""How the U-Net uses a machine: layout, memory, compilation."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.profiler import ProfilerActivity, profile

from medmol_diffusion.mri.unet import UNet3D
from tests.mri.test_unet import awake, noise


def full(checkpointing: bool = False, dtype: torch.dtype = torch.float64, dropout: float = 0.0) -> UNet3D:
    flags = [False, True]
    options = {"attention": flags, "embedding_dim": 4, "token_dim": 5, "cross_attention": flags, "dropout": dropout}
    return awake(dtype, blocks=2, checkpointing=checkpointing, **options)


def inputs(batch: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    shapes = (2, 8, 8, 8), (), (4,), (3, 5)
    return *(noise(batch, *shape, dtype=dtype) for shape in shapes), torch.tensor([True, True, False]).expand(batch, 3)


@pytest.mark.parametrize("channels_in", [1, 2])
def test_every_layer_answers_in_channels_last(channels_in: int) -> None:
    network = UNet3D(channels_in, 3, [8, 16], attention=[False, True], token_dim=5)
    wrong: list[str] = []

    def look(name: str) -> None:
        def hook(module: torch.nn.Module, given: object, out: torch.Tensor) -> None:
            if out.dim() == 5 and not out.is_contiguous(memory_format=torch.channels_last_3d):
                wrong.append(name)

        network.get_submodule(name).register_forward_hook(hook)

    for name, module in network.named_modules():
        if name and not isinstance(module, torch.nn.ModuleList):
            look(name)
    network(noise(2, channels_in, 4, 6, 4).float(), torch.zeros(2), None, noise(2, 3, 5).float())
    assert wrong == []


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_checkpointing_gives_the_same_gradients(dropout: float) -> None:
    answers = []
    for checkpointing in (False, True):
        network = full(checkpointing, dropout=dropout)
        torch.manual_seed(0)  # dropout draws from the global stream
        out = network(*inputs(2))
        out.square().sum().backward()
        answers.append([out, *(parameter.grad for parameter in network.parameters())])
    torch.testing.assert_close(answers[1], answers[0], rtol=0, atol=0)


def test_checkpointing_lowers_the_peak_of_memory() -> None:
    def peak(checkpointing: bool) -> int:
        network, given = full(checkpointing, torch.float32), inputs(2, torch.float32)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            network(*given).square().sum().backward()
        events = (event for event in record.profiler.kineto_results.events() if event.name() == "[memory]")
        held = most = 0
        for event in sorted(events, key=lambda event: event.start_ns()):
            held += event.nbytes()
            most = max(most, held)
        return most

    assert peak(True) < 0.75 * peak(False)


def test_without_gradients_checkpointing_changes_nothing() -> None:
    with torch.no_grad():
        assert torch.equal(full(True)(*inputs(2)), full()(*inputs(2)))


def test_compiled_it_gives_the_same_and_is_compiled_once_for_all_batches() -> None:
    torch.compiler.reset()
    options = {"attention": [True], "embedding_dim": 4, "token_dim": 5}
    network, counter = awake(channels=[8], **options), CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(network, backend=counter, fullgraph=True)
    with torch.no_grad():
        for batch in (2, 3, 4):
            torch.testing.assert_close(compiled(*inputs(batch)), network(*inputs(batch)))
    assert counter.frame_count <= 2  # the first size, and then any size


def test_it_runs_on_meta_tensors_under_which_memory_and_operations_are_counted() -> None:
    network = full().to("meta")
    assert network(*(tensor.to("meta") for tensor in inputs(2))).shape == (2, 3, 8, 8, 8)
