"""What the tensor-field network sees that distances do not, and that its coefficients are exact in every type."""

from itertools import permutations

import pytest
import torch
from e3nn.o3 import Irreps
from safetensors.torch import load_file, save_file

from medmol_diffusion.molecules.networks.egnn import EGNN
from medmol_diffusion.molecules.networks.tensor_field import Coupling, TensorField, pair_harmonics
from medmol_diffusion.molecules.networks.transformer import PairTransformer
from medmol_diffusion.testing import assert_equivariant, noisy_molecules, shake

# Six points of the grid {0, 1, 2}^3 in two ways, found by exhaustive search. Four are shared: the ends of two columns
# along z, diagonally across. The other two are midpoints of opposite faces of the cube: across x in ONE, z in OTHER.
ONE = [(0, 0, 0), (0, 0, 2), (0, 1, 1), (2, 1, 1), (2, 2, 0), (2, 2, 2)]
OTHER = [(0, 0, 0), (0, 0, 2), (1, 1, 0), (1, 1, 2), (2, 2, 0), (2, 2, 2)]


def squared(points):
    x = torch.tensor(points)
    return (x[:, None] - x[None]).square().sum(-1)


def refined(points):
    """The colours of atoms after any number of rounds of messages that carry distances and colours (1-WL)."""
    d, colours = squared(points).tolist(), [()] * len(points)
    for _ in points:
        colours = [(c, tuple(sorted(zip(row, colours, strict=True)))) for c, row in zip(colours, d, strict=True)]
    return sorted(colours)


def triangles(points):
    d, n = squared(points).tolist(), range(len(points))
    return sorted(sorted((*sorted((d[i][j], d[i][k])), d[j][k]) for j in n for k in range(j)) for i in n)


def readings(network):
    """The atoms' outputs for both structures, each sorted, at bond-length scale and low noise."""
    given = noisy_molecules(network, (6, 6))
    x = 0.8 * torch.tensor([ONE, OTHER], dtype=torch.float64)
    given = given._replace(positions=x, atoms=torch.ones(2, 6, 4).double(), gamma=torch.full((2,), -6.0).double())
    return network(*given).atoms.detach().sort(dim=1).values


def test_the_pair_has_equal_distances_at_every_depth_and_is_not_congruent():
    assert sorted(map(sorted, squared(ONE).tolist())) == sorted(map(sorted, squared(OTHER).tolist()))
    assert refined(ONE) == refined(OTHER)
    d = squared(OTHER)
    assert not any(torch.equal(squared(ONE), d[list(p)][:, list(p)]) for p in permutations(range(6)))
    assert triangles(ONE) != triangles(OTHER)


@pytest.mark.parametrize("layers", [1, 4])
def test_messages_of_distances_cannot_tell_the_pair_apart_at_any_depth(layers):
    network = shake(EGNN(4, 5, hidden=24, edge_hidden=16, layers=layers).double())
    for layer in network.layers:  # atoms that stand still: distances and nothing else
        layer.gate_and_shift.weight.data[1] = 0
        layer.gate_and_shift.bias.data[1] = 0
    one, other = readings(network)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


def test_one_round_of_tensor_messages_tells_it_apart():
    one, other = readings(shake(TensorField(4, 5, hidden=24, pair_hidden=16, channels=6, layers=1).double()))
    assert (one - other).abs().max() > 1e-4


def test_one_round_of_the_egnn_cannot_and_two_can_by_moving_the_atoms():
    one, other = readings(shake(EGNN(4, 5, hidden=24, edge_hidden=16, layers=1).double()))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-11)
    one, other = readings(shake(EGNN(4, 5, hidden=24, edge_hidden=16, layers=2).double()))
    assert (one - other).abs().max() > 1e-6


def test_the_transformer_tells_it_apart_by_triangles_from_the_second_layer_on():
    options = {"hidden": 24, "pair_hidden": 16, "heads": 4, "triangles": 4}

    def still(layers, triangles):
        network = shake(PairTransformer(4, 5, **{**options, "triangles": triangles}, layers=layers).double())
        for layer in network.layers:
            layer.read.weight.data[layer.heads + layer.gates] = 0
            layer.read.bias.data[layer.heads + layer.gates] = 0
        return network

    for network in (still(1, 4), still(3, 0)):
        one, other = readings(network)
        torch.testing.assert_close(one, other, rtol=0, atol=1e-11)
    one, other = readings(still(2, 4))
    assert (one - other).abs().max() > 1e-6


def test_products_of_vectors_are_the_dot_and_the_cross_product():
    vector, out = Irreps("1o"), Irreps("0e + 1e")
    couple = Coupling(vector, vector, out, channels=1).double()
    for mix in couple.mix:
        mix.data.fill_(1.0)
    a, b = torch.randn(2, 7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = couple((a[:, :, None] * b[:, None, :])[None, :, None])[0, :, 0]
    torch.testing.assert_close(found[:, 0], (a * b).sum(-1) / 3**0.5, rtol=0, atol=1e-14)
    torch.testing.assert_close(found[:, 1:].abs(), torch.linalg.cross(a, b).abs() / 2**0.5, rtol=0, atol=1e-14)


def test_harmonics_are_polynomials_of_the_softened_direction():
    x = torch.zeros(1, 2, 3, dtype=torch.float64)
    x[0, 1] = torch.tensor([0.3, -0.4, 1.2])
    y = pair_harmonics(x)[0, :, 0, 1]
    r = x[0, 1] / (x[0, 1].square().sum() + 0.01).sqrt()
    torch.testing.assert_close(y[:4], torch.tensor([1.0, *(3**0.5 * r)], dtype=torch.float64), rtol=0, atol=1e-14)
    # the sum over m of Y_lm^2 is (2 l + 1) |r|^(2 l)
    torch.testing.assert_close(y[4:].square().sum(), 5 * r.square().sum() ** 2, rtol=0, atol=1e-13)


@pytest.mark.parametrize("irreps", ["0e + 1o", "0e + 1o + 2e", "0e + 0o + 1o + 1e + 2e + 2o"])
def test_every_choice_of_irreps_is_equivariant(irreps):
    options = {"hidden": 16, "pair_hidden": 8, "channels": 4, "layers": 2}
    assert_equivariant(shake(TensorField(4, 5, **options, irreps=irreps).double()))


@pytest.mark.parametrize("irreps", ["1o + 0e", "0e + 2e", "2x0e + 1o"])
def test_irreps_that_cannot_be_read_are_refused(irreps):
    with pytest.raises(ValueError, match="must begin with 0e, have 1o"):
        TensorField(4, 5, irreps=irreps)


def test_weights_are_plain_tensors_and_the_coefficients_survive_a_cast(tmp_path):
    options = {"hidden": 16, "pair_hidden": 8, "channels": 4, "layers": 2}
    network = shake(TensorField(4, 5, **options))
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    torch.save(network.state_dict(), tmp_path / "w.pt")
    assert all(value.is_floating_point() for value in network.state_dict().values())
    for state in (load_file(tmp_path / "w.safetensors"), torch.load(tmp_path / "w.pt", weights_only=True)):
        again = TensorField(4, 5, **options)
        again.load_state_dict(state)
        given = noisy_molecules(network)
        assert torch.equal(again(*given).atoms, network(*given).atoms)
    assert_equivariant(network.half().double())  # through half precision and back: still exact to 1e-10


def test_a_config_names_the_network_like_the_others() -> None:
    from medmol_diffusion import molecules

    assert molecules.TensorField is TensorField
    with pytest.raises(AttributeError, match="has no attribute 'VectorField'"):
        _ = molecules.VectorField
