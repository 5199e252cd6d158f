import pytest
import torch

from medmol_diffusion.molecules.egnn import EGNN
from tests.molecules.edge_list_egnn import EdgeListEGNN

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}
BOTH = pytest.mark.parametrize("dtype", TOLERANCE)


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


def orthogonal(determinant, dtype):
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    return (q * torch.linalg.det(q) * determinant).to(dtype)


@BOTH
@pytest.mark.parametrize("determinant", [1, -1], ids=["rotation", "reflection"])
def test_rotations_and_reflections_commute_with_the_network(dtype, determinant):
    net, (x, h, mask, gamma) = network(dtype), draw(dtype)
    q = orthogonal(determinant, dtype)
    vectors, features, _ = net(x, h, mask, gamma)
    turned_vectors, turned_features, _ = net(x @ q.T, h, mask, gamma)
    assert vectors.abs().max() > 0.01
    torch.testing.assert_close(turned_vectors, vectors @ q.T, rtol=0, atol=TOLERANCE[dtype])
    torch.testing.assert_close(turned_features, features, rtol=0, atol=TOLERANCE[dtype])


@BOTH
def test_translations_change_nothing(dtype):
    net, (x, h, mask, gamma) = network(dtype), draw(dtype)
    moved = net(x + torch.tensor([1.0, -2.0, 0.5], dtype=dtype), h, mask, gamma)
    for one, other in zip(net(x, h, mask, gamma)[:2], moved[:2], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=TOLERANCE[dtype])


@BOTH
def test_permutations_commute_with_the_network(dtype):
    net, (x, h, mask, gamma) = network(dtype), draw(dtype)
    order = torch.randperm(mask.shape[1], generator=torch.Generator().manual_seed(0))
    vectors, features, _ = net(x, h, mask, gamma)
    moved_vectors, moved_features, _ = net(x[:, order], h[:, order], mask[:, order], gamma)
    torch.testing.assert_close(moved_vectors, vectors[:, order], rtol=0, atol=TOLERANCE[dtype])
    torch.testing.assert_close(moved_features, features[:, order], rtol=0, atol=TOLERANCE[dtype])


@BOTH
def test_padding_changes_nothing_whatever_it_holds(dtype):
    net, (x, h, mask, gamma) = network(dtype), draw(dtype)
    vectors, features, _ = net(x, h, mask, gamma)
    assert (vectors[~mask] == 0).all()
    assert (features[~mask] == 0).all()
    for row, size in enumerate(mask.sum(1).tolist()):
        alone = net(x[row : row + 1, :size], h[row : row + 1, :size], mask[row : row + 1, :size], gamma[row : row + 1])
        torch.testing.assert_close(alone[0][0], vectors[row, :size], rtol=0, atol=TOLERANCE[dtype])
        torch.testing.assert_close(alone[1][0], features[row, :size], rtol=0, atol=TOLERANCE[dtype])
    junk = 7.0 * (~mask[..., None])
    for one, other in zip((vectors, features), net(x + junk, h + junk, mask, gamma)[:2], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=TOLERANCE[dtype])


@BOTH
def test_vectors_have_no_centre_of_mass(dtype):
    net, (x, h, mask, gamma) = network(dtype), draw(dtype)
    vectors, *_ = net(x, h, mask, gamma)
    torch.testing.assert_close(vectors.sum(1), torch.zeros(4, 3, dtype=dtype), rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("gamma", [-20.0, 20.0, 200.0])
@pytest.mark.parametrize("scale", [0.0, 1.0, 500.0])
def test_outputs_and_gradients_are_finite_at_every_noise_level(gamma, scale):
    net, (x, h, mask, _) = network(torch.float32), draw(torch.float32)
    x = (x * scale).requires_grad_()
    vectors, features, *_ = net(x, h, mask, torch.full((4,), gamma))
    (vectors.square().mean() + features.square().mean()).backward()
    assert all(torch.isfinite(t).all() for t in (vectors, features, x.grad, *(p.grad for p in net.parameters())))
    assert features.abs().max() < 100


def test_outputs_start_near_zero():
    net, (x, h, mask, gamma) = EGNN(4, 5, hidden=24, edge_hidden=16, layers=3).double(), draw()
    vectors, features, _ = net(x, h, mask, gamma)
    assert vectors.abs().max() < 0.1
    assert features.abs().max() < 0.5


def test_a_change_of_bond_length_of_a_tenth_of_an_angstrom_is_seen():
    basis = network().pair_features.basis
    single, double = basis(torch.tensor([1.54, 1.44]), torch.tensor([1.54, 1.44]))
    assert (single - double).abs().max() > 0.5


def test_positions_keep_their_precision_under_autocast():
    net, (x, h, mask, gamma) = network(torch.float32), draw(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        vectors, *_ = net(x + 300, h, mask, gamma)
    exact, *_ = net(x, h, mask, gamma)
    assert vectors.dtype == torch.float32
    # bf16 messages, but not a bf16 centre of mass: 300 angstrom in bf16 would be off by 1
    torch.testing.assert_close(vectors, exact, rtol=0, atol=0.05 * exact.abs().max().item())


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
