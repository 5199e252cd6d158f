"""The dense, factorised EGNN against a plain edge-list EGNN; what every network promises is in test_networks.py."""

import torch

from medmol_diffusion.molecules.networks.egnn import EGNN
from tests.molecules.edge_list_egnn import EdgeListEGNN


def draw(dtype=torch.float64, sizes=(5, 9, 1, 7), features=4):
    generator = torch.Generator().manual_seed(3)
    batch, size = len(sizes), max(sizes)
    mask = torch.arange(size) < torch.tensor(sizes)[:, None]
    positions = 1.5 * torch.randn(batch, size, 3, generator=generator, dtype=torch.float64) * mask[..., None]
    h = torch.randn(batch, size, features, generator=generator, dtype=torch.float64) * mask[..., None]
    gamma = torch.linspace(-5, 4, batch, dtype=torch.float64)
    return positions.to(dtype), h.to(dtype), mask, gamma.to(dtype)


def network(dtype=torch.float64, **options):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        net = EGNN(4, 5, **{"hidden": 24, "edge_hidden": 16, "layers": 3, **options}).to(dtype)
        for layer in net.layers:  # shifts as large as after training, or positions would hardly be tested
            layer.gate_and_shift.weight.data[1] *= 100
    return net


def test_equals_a_plain_edge_list_implementation_gradients_included():
    net, (x, h, mask, gamma) = network(torch.float32), draw(torch.float32)
    peer = EdgeListEGNN(net)
    ours, theirs = net(x, h, mask, gamma), peer(x, h, mask, gamma)
    for one, other in zip(ours[:2], theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)

    net, (x, h, mask, gamma) = network(), draw()
    peer = EdgeListEGNN(net)
    net_grad, peer_grad = (
        torch.autograd.grad(
            sum(out.square().sum() for out in one(x, h, mask, gamma)[:2]),
            [net.layers[0].message.weight, net.embed.weight],
        )
        for one in (net, peer)
    )
    for one, other in zip(net_grad, peer_grad, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)
