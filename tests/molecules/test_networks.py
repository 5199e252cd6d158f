"""What every molecule network promises, in both precisions, with pairs and a condition and without."""

import pytest
import torch

from medmol_diffusion.molecules.networks.egnn import EGNN
from medmol_diffusion.molecules.networks.embedding import RadialBasis
from medmol_diffusion.molecules.networks.network import MoleculeNetwork, Reading
from medmol_diffusion.molecules.networks.tensor_field import TensorField
from medmol_diffusion.molecules.networks.transformer import PairTransformer
from medmol_diffusion.testing import (
    TOLERANCE,
    assert_equivariant,
    assert_padding_invariant,
    noisy_molecules,
    shake,
)

NETWORKS = {
    "egnn": (EGNN, {"hidden": 24, "edge_hidden": 16, "layers": 3}),
    "transformer": (PairTransformer, {"hidden": 24, "pair_hidden": 16, "layers": 3, "heads": 4, "triangles": 4}),
    "tensor_field": (TensorField, {"hidden": 24, "pair_hidden": 16, "channels": 6, "layers": 2}),
}
EVERY = pytest.mark.parametrize("name", NETWORKS)
BOTH = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
RICH = {"pairs_in": 3, "pairs_out": 3, "condition_size": 2}


def build(name, dtype=torch.float64, shaken=True, **options):
    kind, small = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = kind(4, 5, **small, **options).to(dtype)
    if shaken:
        shake(network)
        for layer in getattr(network, "layers", []):  # positions that move as far as after training
            for head, row in (("gate_and_shift", 1), ("read", -2 * getattr(layer, "triangles", 0) - 1)):
                if hasattr(layer, head):
                    getattr(layer, head).weight.data[row] *= 3
    return network


@EVERY
@BOTH
@pytest.mark.parametrize("options", [{}, RICH, {"pairs_out": 2}], ids=["plain", "rich", "pairs_out"])
def test_networks_are_equivariant_and_padding_changes_nothing(name, dtype, options):
    network = build(name, dtype, **options)
    for condition in (True, False):
        molecules = noisy_molecules(network, condition=condition)
        assert_equivariant(network, molecules)
        assert_padding_invariant(network, molecules)


@EVERY
def test_no_condition_is_a_condition_of_zeros_and_another_one_is_seen(name):
    network = build(name, **RICH)
    given = noisy_molecules(network)
    without, zeros = network(*given._replace(condition=None)), network(*given._replace(condition=torch.zeros(5, 2)))
    for one, other, asked in zip(without, zeros, network(*given), strict=True):
        assert torch.equal(one, other)
        assert (asked - one).abs().max() > 1e-3


@EVERY
def test_pairs_the_noise_level_and_the_atoms_are_seen(name):
    network = build(name, **RICH)
    given = noisy_molecules(network)
    said = network(*given)
    for field in ("pairs", "gamma", "atoms", "positions"):
        other = network(*given._replace(**{field: getattr(given, field) * 1.1}))
        assert all((one - two).abs().max() > 1e-4 for one, two in zip(said, other, strict=True)), field


@EVERY
def test_a_condition_that_the_network_was_not_built_for_is_refused(name):
    network = build(name)
    with pytest.raises(ValueError, match="condition_size"):
        network(*noisy_molecules(network)._replace(condition=torch.zeros(5, 2)))


@EVERY
@pytest.mark.parametrize("sizes", [(2,), (1,), (2, 2)])
def test_the_smallest_molecules_and_a_batch_of_one_are_equivariant(name, sizes):
    network = build(name, **RICH)
    given = noisy_molecules(network, sizes)
    said = network(*given)
    assert all(torch.isfinite(part).all() for part in said)
    if max(sizes) == 1:
        assert said.vectors.abs().max() < 1e-12  # a lone atom cannot move
    else:
        assert_equivariant(network, given)


@EVERY
@pytest.mark.parametrize("gamma", [-20.0, 20.0, 200.0])
@pytest.mark.parametrize("scale", [0.0, 1.0, 500.0, 1e6])
def test_outputs_and_gradients_are_finite_at_every_noise_level_and_distance(name, gamma, scale):
    network = build(name, torch.float32, **RICH)
    given = noisy_molecules(network)
    x = (given.positions * scale).requires_grad_()
    said = network(*given._replace(positions=x, gamma=torch.full((5,), gamma)))
    sum(part.square().mean() for part in said).backward()
    gradients = [x.grad, *(p.grad for p in network.parameters() if p.grad is not None)]
    assert all(torch.isfinite(part).all() for part in (*said, *gradients))


@EVERY
def test_every_weight_is_used(name):
    network = build(name, **RICH)
    sum(part.square().mean() for part in network(*noisy_molecules(network))).backward()
    unused = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    # what the last layer adds to a state that is not read, and axial vectors, which the first round cannot make yet
    last = f"layers.{len(network.layers) - 1}."
    assert all(key.startswith((last, "layers.0.message.mix.2", "layers.0.product.mix.2")) for key in unused), unused


@EVERY
def test_outputs_start_near_zero(name):
    network = build(name, shaken=False, **RICH)
    said = network(*noisy_molecules(network))
    assert said.vectors.abs().max() < 0.1
    assert said.atoms.abs().max() < 0.5
    assert said.pairs.abs().max() < 0.5


@EVERY
def test_bfloat16_agrees_with_float32_and_positions_keep_their_precision(name):
    network = build(name, torch.float32, **RICH)
    given = noisy_molecules(network)
    exact = network(*given)
    with torch.autocast("cpu", torch.bfloat16):
        # 300 angstrom away, where a bf16 position would be off by 1
        found = network(*given._replace(positions=given.positions + 300 * given.mask[..., None]))
    assert found.vectors.dtype == torch.float32
    for one, other in zip(found, exact, strict=True):
        limit = TOLERANCE[torch.bfloat16] * max(1.0, other.abs().max().item())
        torch.testing.assert_close(one.float(), other, rtol=0, atol=limit)


@EVERY
def test_no_number_of_the_radial_features_is_denormal(name):
    distances = torch.linspace(0, 200, 20_001)
    features = RadialBasis()(distances, distances).abs()
    assert features[features > 0].min() > 1e-20


def test_a_change_of_bond_length_of_a_tenth_of_an_angstrom_is_seen():
    single, double = RadialBasis()(torch.tensor([1.54, 1.44]), torch.tensor([1.54, 1.44]))
    assert (single - double).abs().max() > 0.5


class Wrong(MoleculeNetwork):
    """A right network, spoilt by one mistake."""

    def __init__(self, mistake):
        super().__init__(4, 5, 0, 3, 0)
        self.network, self.mistake = build("egnn", pairs_out=3), mistake

    def forward(self, positions, atoms, mask, gamma, pairs=None, condition=None):
        vectors, said, of_pairs = self.network(positions, atoms, mask, gamma)
        real = mask[..., None].to(positions)
        x = (positions - (positions * real).sum(1, True) / real.sum(1, True)) * real
        if self.mistake == "rotation":
            vectors = vectors * torch.tensor([1.0, 1.0, 0.99])
        if self.mistake == "reflection":  # an axial vector turns with rotations, and not with reflections
            axial = torch.linalg.cross(x, vectors)
            vectors = vectors + 0.1 * (axial - axial.sum(1, True) / real.sum(1, True)) * real
        if self.mistake == "translation":
            said = said + 0.1 * (positions.norm(dim=-1, keepdim=True) * real)
        if self.mistake == "permutation":
            said = said * (1 + torch.arange(mask.shape[1])[:, None])
        if self.mistake == "mean":
            vectors = vectors + x.square().sum(-1, True) * x
        if self.mistake == "symmetry":
            of_pairs = of_pairs * said[:, :, None, :3]
        if self.mistake == "zero":
            said = said + 1
        if self.mistake == "padding holds":
            said = said + 0.1 * atoms.mean(1, keepdim=True)[..., :1] * real
        if self.mistake == "padding of":
            said = said + 0.1 * said.mean(1, keepdim=True) * real
        return Reading(vectors, said, of_pairs)


@pytest.mark.parametrize("mistake", ["rotation", "reflection", "translation", "permutation", "mean", "symmetry"])
def test_a_broken_symmetry_is_caught_by_name(mistake):
    with pytest.raises(AssertionError, match=mistake):
        assert_equivariant(Wrong(mistake))


@pytest.mark.parametrize("mistake", ["zero", "padding holds", "padding of"])
def test_a_missing_mask_is_caught_by_name(mistake):
    with pytest.raises(AssertionError, match=mistake):
        assert_padding_invariant(Wrong(mistake))


def test_a_network_that_says_nothing_is_not_called_equivariant():
    network = build("egnn")
    network.readout.weight.data.zero_()
    network.readout.bias.data.zero_()
    with pytest.raises(AssertionError, match="shake"):
        assert_equivariant(network)
