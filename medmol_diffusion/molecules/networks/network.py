"""The one signature of a molecule network."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn


class Reading(NamedTuple):
    """What a network says of a noisy molecule.

    Attributes:
        vectors: (B, N, 3), equivariant, of zero mean over the real atoms.
        atoms: (B, N, atoms_out), invariant.
        pairs: (B, N, N, pairs_out), invariant and symmetric; None of a network without pairs.
    """

    vectors: Tensor
    atoms: Tensor
    pairs: Tensor | None = None


class MoleculeNetwork(nn.Module, ABC):
    """Noisy positions, atoms, pairs and a noise level -> vectors, atoms and pairs.

    Rotations, reflections and translations of the positions rotate and reflect the vectors and leave the rest as it
    is; a permutation of the atoms permutes everything; padding changes nothing, whatever it holds.

    Args:
        atoms_in: features of an atom.
        atoms_out: outputs for an atom.
        pairs_in: features of a pair; 0 where pairs have no state.
        pairs_out: outputs for a pair.
        condition_size: the numbers of a condition; 0 without.
    """

    def __init__(self, atoms_in: int, atoms_out: int, pairs_in: int, pairs_out: int, condition_size: int) -> None:
        super().__init__()
        self.atoms_in, self.atoms_out, self.pairs_in, self.pairs_out = atoms_in, atoms_out, pairs_in, pairs_out
        self.condition_size = condition_size

    @abstractmethod
    def forward(
        self,
        positions: Tensor,
        atoms: Tensor,
        mask: Tensor,
        gamma: Tensor,
        pairs: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> Reading:
        """Args: positions (B, N, 3) of the variance-preserving state, angstrom; atoms (B, N, atoms_in); mask (B, N)
        bool; gamma (B,); pairs (B, N, N, pairs_in), symmetric; condition (B, condition_size), None being zeros."""
