"""The dense, factorised E(3)-equivariant graph network.

Every pair of atoms of a molecule is an edge, so there is no edge list: pairs live in a dense (B, N, N, E) array, and
the first edge layer W [h_i | h_j | e_ij] is split into A h_i + B h_j + C e_ij, whose wide parts cost one product per
atom instead of one per pair. Neither changes the output. Nodes may be wide and edges narrow: time and memory go with
N^2 * edge_hidden.

Sources: Satorras et al. 2021 (E(n)-equivariant graph networks), Hoogeboom et al. 2022 (EDM: gates, the d + 1 divisor).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medmol_diffusion.molecules.networks.embedding import (
    Context,
    PairFeatures,
    PairReadout,
    centred,
    pair_squared_distances,
    plus_product,
    real_pairs,
    safe_sqrt,
    small,
)
from medmol_diffusion.molecules.networks.network import MoleculeNetwork, Reading


class EGNNLayer(nn.Module):
    """One round of messages, with the node features h (B, N, H) and the positions x (B, N, 3):

        u_ij = SiLU(A n_i + B n_j + C e_ij + w log(1 + d_ij^2) + b),   n = LayerNorm(h)
        m_ij = SiLU(W u_ij + b')
        h_i <- h_i + MLP[n_i, sum_j sigmoid(g . m_ij) m_ij / norm]
        x_i <- x_i + sum_j (x_i - x_j) / (d_ij + 1) (p . m_ij) / norm

    over the pairs of real, distinct atoms; e_ij are the fixed radial features and d_ij the distance of now.
    """

    def __init__(self, hidden: int, edge_hidden: int, pair_features: int, aggregation_norm: float) -> None:
        super().__init__()
        self.aggregation_norm = aggregation_norm
        self.norm = nn.LayerNorm(hidden)
        self.receiver = nn.Linear(hidden, edge_hidden)
        self.sender = nn.Linear(hidden, edge_hidden, bias=False)
        self.radial = nn.Linear(pair_features, edge_hidden, bias=False)
        self.distance = nn.Parameter(torch.randn(edge_hidden) * 0.1)
        self.message = nn.Linear(edge_hidden, edge_hidden)
        self.gate_and_shift = nn.Linear(edge_hidden, 2)  # one product for both scalars of a pair
        self.update = nn.Sequential(nn.Linear(hidden + edge_hidden, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        with torch.no_grad():  # positions start almost still
            self.gate_and_shift.weight[1].mul_(1e-2)
            self.gate_and_shift.bias[1].zero_()

    def forward(self, h: Tensor, x: Tensor, pairs: Tensor, pair_mask: Tensor) -> tuple[Tensor, Tensor]:
        """h (B, N, H), x (B, N, 3), pairs (B, N, N, K), pair_mask (B, N, N) of the positions' type -> h, x."""
        squared = pair_squared_distances(x)
        normed = self.norm(h)
        near = squared.log1p().unsqueeze(-1)
        u = self.receiver(normed).unsqueeze(2) + self.sender(normed).unsqueeze(1)
        u = plus_product(u, pairs, self.radial.weight)
        u = F.silu(plus_product(u, near, self.distance.unsqueeze(1)))
        m = F.silu(self.message(u))
        gate, shift = self.gate_and_shift(m).unbind(-1)
        gate = torch.sigmoid(gate) * (pair_mask / self.aggregation_norm).to(gate.dtype)
        incoming = (gate.unsqueeze(-2) @ m).squeeze(-2)
        h = h + self.update(torch.cat([normed, incoming], dim=-1))
        with torch.autocast(x.device.type, enabled=False):  # positions keep their precision
            weight = shift.to(x.dtype) * pair_mask / (self.aggregation_norm * (safe_sqrt(squared) + 1))
            x = x + x * weight.sum(dim=2, keepdim=True) - weight @ x
        return h, x


class EGNN(MoleculeNetwork):
    """Layers of messages between the embedding of the atoms and a linear reading.

    The noise level and the condition enter with the atoms, the pairs' state with the radial features. vectors = x_L -
    x_0 less its mean over the real atoms, atoms = Linear(LayerNorm(h_L)), pairs = Linear(SiLU(S h_i + S h_j + C e_ij)).

    Positions, distances and the centre of mass stay in the positions' own type under autocast.

    Args: as for MoleculeNetwork, and
        hidden: width of an atom.
        edge_hidden: width of a pair.
        layers: rounds of messages.
        aggregation_norm: what sums over neighbours are divided by.
    """

    def __init__(
        self,
        atoms_in: int,
        atoms_out: int,
        hidden: int = 192,
        edge_hidden: int = 64,
        layers: int = 6,
        aggregation_norm: float = 10.0,
        pairs_in: int = 0,
        pairs_out: int = 0,
        condition_size: int = 0,
    ) -> None:
        super().__init__(atoms_in, atoms_out, pairs_in, pairs_out, condition_size)
        self.pair_features = PairFeatures(pairs_in)
        self.context = Context(condition_size, hidden)
        self.embed = nn.Linear(atoms_in, hidden, bias=False)
        edge_features = self.pair_features.size
        self.layers = nn.ModuleList(
            EGNNLayer(hidden, edge_hidden, edge_features, aggregation_norm) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(hidden)
        self.readout = small(nn.Linear(hidden, atoms_out))
        if pairs_out:
            self.pair_readout = PairReadout(hidden, edge_features, edge_hidden, pairs_out)

    def forward(
        self,
        positions: Tensor,
        atoms: Tensor,
        mask: Tensor,
        gamma: Tensor,
        pairs: Tensor | None = None,
        condition: Tensor | None = None,
    ) -> Reading:
        gamma = gamma.to(positions.dtype)
        real, pair_mask = mask.unsqueeze(-1).to(positions), real_pairs(mask).to(positions)
        x = start = positions * real
        e = self.pair_features(x, gamma, pairs, pair_mask)
        h = self.embed(atoms * real) + self.context(gamma, condition).unsqueeze(1)
        for layer in self.layers:
            h, x = layer(h, x, e, pair_mask)
        h = self.norm(h)
        said = self.pair_readout(h, e, pair_mask) if self.pairs_out else None
        return Reading(centred(x - start, mask), self.readout(h) * mask.unsqueeze(-1), said)
