"""Assertions for molecule networks, yours too: what a network with the signature of MoleculeNetwork promises.

network = shake(MyNetwork(atoms_in=4, atoms_out=4))
assert_equivariant(network)
assert_padding_invariant(network)
"""

from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from medmol_diffusion.molecules.networks.network import MoleculeNetwork, Reading

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.bfloat16: 5e-2}
"""Largest difference of two outputs that should be equal, in units of the larger of 1 and the largest output."""
Network = TypeVar("Network", bound=nn.Module)


class NoisyMolecules(NamedTuple):
    """The arguments of a MoleculeNetwork."""

    positions: Tensor
    atoms: Tensor
    mask: Tensor
    gamma: Tensor
    pairs: Tensor | None = None
    condition: Tensor | None = None


def noisy_molecules(
    network: MoleculeNetwork, sizes: tuple[int, ...] = (5, 9, 1, 2, 7), condition: bool = True, seed: int = 3
) -> NoisyMolecules:
    """Random molecules of these sizes in the network's own type, with zeros at padding; pairs where the network has
    them, and a condition where it has one and ``condition`` is set."""
    generator = torch.Generator().manual_seed(seed)
    like = next(network.parameters())

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(like)

    batch, size = len(sizes), max(sizes)
    mask = torch.arange(size) < torch.tensor(sizes)[:, None]
    real = mask.unsqueeze(-1).to(like)
    positions = 1.5 * normal(batch, size, 3) * real
    atoms = normal(batch, size, network.atoms_in) * real
    pairs = normal(batch, size, size, network.pairs_in) if network.pairs_in else None
    if pairs is not None:
        pairs = (pairs + pairs.transpose(1, 2)) * real.unsqueeze(1) * real.unsqueeze(2)
    asked = normal(batch, network.condition_size) if condition and network.condition_size else None
    gamma = torch.linspace(-5, 4, batch, dtype=torch.float64).to(like)
    return NoisyMolecules(positions, atoms, mask.to(like.device), gamma, pairs, asked)


def shake(network: Network, scale: float = 0.5, seed: int = 0) -> Network:
    """Add scale * N(0, 1) / sqrt(columns) to every weight, so that no part of a network is still as it was built: one
    that starts near zero would hide what is wrong with it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in network.parameters():
            noise = torch.randn(weight.shape, generator=generator, dtype=torch.float64).to(weight)
            weight.add_(scale * noise / (weight.shape[-1] if weight.ndim > 1 else 1) ** 0.5)
    return network


def assert_equivariant(
    network: MoleculeNetwork, molecules: NoisyMolecules | None = None, tolerance: float | None = None
) -> None:
    """Rotations and reflections turn the vectors and leave the rest, translations change nothing, permutations of the
    atoms permute everything; vectors have zero mean, pairs are symmetric.

    Args:
        network: with weights that say something (``shake``).
        molecules: what it is shown; ``noisy_molecules(network)`` when left out.
        tolerance: that of the network's type in TOLERANCE when left out.

    Raises:
        AssertionError: it is not so, or the outputs are too small to tell.
    """
    given = noisy_molecules(network) if molecules is None else molecules
    with torch.no_grad():
        said = network(*given)
        if not min(said.vectors.abs().max(), said.atoms.abs().max()) > 1e-2:
            raise AssertionError("the outputs are nearly zero, which is equivariant of itself: shake the network first")
        generator = torch.Generator().manual_seed(0)
        q, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
        for name, sign in (("rotation", 1), ("reflection", -1)):
            turn = (q * torch.linalg.det(q) * sign).to(said.vectors)
            turned = network(*given._replace(positions=given.positions @ turn.T.to(given.positions)))
            _assert_same(turned, said._replace(vectors=said.vectors @ turn.T), name, tolerance)
        step = torch.tensor([1.0, -2.0, 0.5]).to(given.positions)
        _assert_same(network(*given._replace(positions=given.positions + step)), said, "translation", tolerance)

        order = torch.randperm(given.mask.shape[1], generator=generator).to(given.mask.device)
        moved = network(
            *given._replace(
                positions=given.positions[:, order],
                atoms=given.atoms[:, order],
                mask=given.mask[:, order],
                pairs=None if given.pairs is None else given.pairs[:, order][:, :, order],
            )
        )
        expected = Reading(
            said.vectors[:, order],
            said.atoms[:, order],
            None if said.pairs is None else said.pairs[:, order][:, :, order],
        )
        _assert_same(moved, expected, "permutation", tolerance)
        mean = said._replace(vectors=said.vectors - said.vectors.sum(1, keepdim=True) * given.mask.unsqueeze(-1))
        _assert_same(mean, said, "mean of the vectors", tolerance)
        if said.pairs is not None:
            _assert_same(said._replace(pairs=said.pairs.transpose(1, 2)), said, "symmetry of the pairs", tolerance)


def assert_padding_invariant(
    network: MoleculeNetwork, molecules: NoisyMolecules | None = None, tolerance: float | None = None
) -> None:
    """Every molecule alone and without padding gives what it gives in the batch, whatever the padding holds; outputs
    are exactly zero at padding, and at the pairs of an atom with itself.

    Args, raises: as for assert_equivariant.
    """
    given = noisy_molecules(network) if molecules is None else molecules
    if bool(given.mask.all()):
        raise AssertionError("the molecules have no padding to test: give molecules of several sizes")
    with torch.no_grad():
        said = network(*given)
        real = given.mask.unsqueeze(1) & given.mask.unsqueeze(2)
        real = real & ~torch.eye(real.shape[1], dtype=torch.bool, device=real.device)
        outside = [said.vectors[~given.mask], said.atoms[~given.mask]]
        outside += [] if said.pairs is None else [said.pairs[~real]]
        if any((part != 0).any() for part in outside):
            raise AssertionError("the outputs at padding are not zero")
        junk = 7.0 * ~given.mask.unsqueeze(-1)
        soiled = given._replace(positions=given.positions + junk, atoms=given.atoms + junk)
        if given.pairs is not None:
            soiled = soiled._replace(pairs=given.pairs + 7.0 * ~real.unsqueeze(-1))
        _assert_same(network(*soiled), said, "what padding holds", tolerance)
        for row, size in enumerate(given.mask.sum(1).tolist()):
            alone = NoisyMolecules(
                given.positions[row : row + 1, :size],
                given.atoms[row : row + 1, :size],
                given.mask[row : row + 1, :size],
                given.gamma[row : row + 1],
                None if given.pairs is None else given.pairs[row : row + 1, :size, :size],
                None if given.condition is None else given.condition[row : row + 1],
            )
            expected = Reading(
                said.vectors[row : row + 1, :size],
                said.atoms[row : row + 1, :size],
                None if said.pairs is None else said.pairs[row : row + 1, :size, :size],
            )
            _assert_same(network(*alone), expected, f"padding of molecule {row}", tolerance)


def _assert_same(found: Reading, expected: Reading, what: str, tolerance: float | None) -> None:
    for field, one, other in zip(Reading._fields, found, expected, strict=True):
        if one is None or other is None:
            assert one is other
            continue
        limit = TOLERANCE[other.dtype] if tolerance is None else tolerance
        difference = (one - other).abs().max().item()
        if not difference <= limit * max(1.0, other.abs().max().item()):
            raise AssertionError(f"{what}: {field} differ by {difference:.1e}, more than the tolerance of {limit:.0e}")
