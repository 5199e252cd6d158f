"""Cross-attention of the U-Net to a sequence of embeddings."""

import pytest
import torch

from medmol_diffusion.mri.attention import Attention, CrossAttention, Tokens
from medmol_diffusion.mri.unet import UNet3D
from tests.mri.test_unet import awake, noise

X, GAMMA = noise(2, 2, 4, 4, 4), torch.tensor([0.5, -2.0]).double()
TOKENS = noise(2, 3, 5)
MASK = torch.tensor([[True, False, True], [False, False, False]])


def talkative(**options: object) -> UNet3D:
    return awake(token_dim=5, cross_attention=[True, True], **options)


def by_hand(layer: CrossAttention, h: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """One example, softmax written out head by head: h (C, X, Y, Z), words (L, D)."""
    voxels = layer.norm(h[None])[0].flatten(1).T
    query, (key, value) = layer.query(voxels), layer.key_value(layer.norm_tokens(words)).chunk(2, dim=1)
    size = query.shape[1] // layer.heads
    heads = [slice(i * size, (i + 1) * size) for i in range(layer.heads)]
    mixed = [(query[:, i] @ key[:, i].T / size**0.5).softmax(dim=1) @ value[:, i] for i in heads]
    return h + layer.out(torch.cat(mixed, dim=1)).T.reshape(h.shape)


def test_it_is_the_softmax_written_out() -> None:
    layer = CrossAttention(64, 5).double()
    torch.nn.init.normal_(layer.out.weight, generator=torch.Generator().manual_seed(0))
    h = noise(2, 64, 2, 3, 2)
    out = layer(h, Tokens.of(TOKENS, MASK | torch.tensor([[False], [True]])))
    torch.testing.assert_close(out[0], by_hand(layer, h[0], TOKENS[0, [0, 2]]))
    torch.testing.assert_close(out[1], by_hand(layer, h[1], TOKENS[1]))


def test_an_example_without_tokens_gets_exactly_nothing() -> None:
    network = talkative()
    plain = network(X, GAMMA)
    assert torch.equal(network(X, GAMMA, None, TOKENS, torch.zeros_like(MASK)), plain)
    mixed = network(X, GAMMA, None, TOKENS, MASK)
    torch.testing.assert_close(mixed[1], plain[1], rtol=0, atol=1e-12)
    assert (mixed[0] - plain[0]).abs().max() > 1e-3


@pytest.mark.parametrize("rubbish", [torch.nan, torch.inf, 1e30])
def test_what_padding_holds_changes_neither_output_nor_gradient(rubbish: float) -> None:
    network, answers = talkative(), []
    for tokens in (TOKENS, TOKENS.masked_fill(~MASK[:, :, None], rubbish)):
        network.zero_grad()
        out = network(X, GAMMA, None, tokens, MASK)
        out.square().sum().backward()
        answers.append([out, *(parameter.grad for parameter in network.parameters())])
    torch.testing.assert_close(answers[1], answers[0], rtol=0, atol=0)
    assert all(tensor.isfinite().all() for tensor in answers[0])


def test_tokens_all_masked_leave_every_weight_a_finite_gradient() -> None:
    network = talkative()
    network(X, GAMMA, None, TOKENS, torch.zeros_like(MASK)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


def test_order_and_padding_of_tokens_do_not_matter() -> None:
    network = talkative()
    base = network(X, GAMMA, None, TOKENS)
    torch.testing.assert_close(network(X, GAMMA, None, TOKENS.flip(1)), base)
    longer, there = torch.cat([TOKENS, noise(2, 4, 5)], dim=1), torch.arange(7).expand(2, 7) < 3
    torch.testing.assert_close(network(X, GAMMA, None, longer, there), base)


def test_every_parameter_gets_a_gradient_with_tokens() -> None:
    network = talkative(attention=[True, False])
    network(X, GAMMA, None, TOKENS).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_only_the_coarsest_level_attends_to_tokens_unless_told() -> None:
    names = {name.rpartition(".cross_attention.")[0] for name, _ in awake(token_dim=5, blocks=1).named_parameters()}
    assert names - {""} == {"middle.0", "middle.1"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [8, 64, 100])
def test_both_attentions_start_as_the_identity_and_keep_the_layout(channels: int, dtype: torch.dtype) -> None:
    h = noise(2, channels, 3, 2, 2, dtype=dtype).contiguous(memory_format=torch.channels_last_3d)
    tokens = Tokens.of(TOKENS.to(dtype), MASK)
    for out in (Attention(channels).to(dtype)(h), CrossAttention(channels, 5).to(dtype)(h, tokens)):
        assert torch.equal(out, h)
        assert out.is_contiguous(memory_format=torch.channels_last_3d)
