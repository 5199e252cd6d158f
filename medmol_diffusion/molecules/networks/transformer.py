"""The equivariant transformer with pair features: the strongest of the networks for its cost.

Every pair of atoms has features of its own that live through all layers: they are updated from their two atoms, the
distance of now and the triangles they belong to, and they steer what atoms read from one another. Atoms are wide, where
products are cheap (N of them); pairs are narrow, where they are dear (N^2).

Sources: attention with a bias from pairs and triangles of pairs as in Jumper et al. 2021 (AlphaFold, algorithms 7 and
11); modulation by the noise level as in Peebles & Xie 2023; positions moved along differences as in Satorras et al.
2021; the composition is our own.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medmol_diffusion.molecules.networks.embedding import (
    Context,
    PairFeatures,
    centred,
    pair_squared_distances,
    real_pairs,
    safe_sqrt,
    small,
)
from medmol_diffusion.molecules.networks.network import MoleculeNetwork, Reading


class PairTransformerLayer(nn.Module):
    """One layer on atoms h (B, N, H), pairs e (B, N, N, P) and positions x (B, N, 3), with the context c (B, H):

        n = (1 + s(c)) LayerNorm(h) + b(c)
        u_ij = SiLU(C LayerNorm(e_ij) + A n_i + B n_j + w log(1 + d_ij^2))
        t_ij = sum_k a_ik * b_kj / norm,   (a_ij, b_ij) = D u_ij
        e_ij <- e_ij + E [u_ij, t_ij]
        h_i <- h_i + O [sum_j softmax_j(q_i . k_j / sqrt(d) + w . u_ij) v_j, sum_j sigmoid(g . u_ij) u_ij / norm]
        h_i <- h_i + MLP((1 + s'(c)) LayerNorm(h_i) + b'(c))
        x_i <- x_i + sum_j (x_i - x_j) / (d_ij + 1) (p . u_ij) / norm

    per head of attention and per gate; sums run over real, distinct atoms, the attention over itself too.
    """

    def __init__(self, hidden: int, pair_hidden: int, heads: int, gates: int, triangles: int, norm: float) -> None:
        super().__init__()
        self.heads, self.gates, self.triangles, self.aggregation_norm = heads, gates, triangles, norm
        self.modulation = nn.Linear(hidden, 4 * hidden)
        self.norm, self.norm_mlp = (nn.LayerNorm(hidden, elementwise_affine=False) for _ in range(2))
        self.pair_norm = nn.LayerNorm(pair_hidden)
        self.pair = nn.Linear(pair_hidden, pair_hidden)
        self.ends = nn.Linear(hidden, 2 * pair_hidden, bias=False)
        self.distance = nn.Parameter(torch.randn(pair_hidden) * 0.1)
        self.read = nn.Linear(pair_hidden, heads + gates + 1 + 2 * triangles)
        self.pair_out = nn.Linear(pair_hidden + triangles, pair_hidden)
        self.qkv = nn.Linear(hidden, 3 * hidden, bias=False)
        self.out = nn.Linear(hidden + gates * pair_hidden, hidden)
        self.mlp = nn.Sequential(nn.Linear(hidden, 3 * hidden), nn.SiLU(), nn.Linear(3 * hidden, hidden))
        with torch.no_grad():
            self.modulation.weight.zero_()
            self.modulation.bias.zero_()
            self.read.weight[heads + gates].mul_(1e-2)  # positions start almost still
            self.read.bias.zero_()

    def forward(
        self, h: Tensor, e: Tensor, x: Tensor, context: Tensor, mask: Tensor, pair_mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """mask (B, N) and pair_mask (B, N, N) of the positions' type -> h, e, x."""
        batch, size = mask.shape
        shifts = self.modulation(context).unsqueeze(1).chunk(4, dim=-1)
        n = self.norm(h) * (1 + shifts[0]) + shifts[1]
        squared = pair_squared_distances(x)
        receiver, sender = self.ends(n).chunk(2, dim=-1)
        u = F.linear(self.pair_norm(e), self.pair.weight)  # added up in place: passes over pairs are what costs
        u += squared.log1p().unsqueeze(-1).to(u.dtype) @ self.distance.to(u.dtype).unsqueeze(0)
        u += (receiver + self.pair.bias).unsqueeze(2)
        u += sender.unsqueeze(1)
        u = F.silu(u)
        bias, gate, shift, sides = self.read(u).split([self.heads, self.gates, 1, 2 * self.triangles], dim=-1)
        weight = (pair_mask / self.aggregation_norm).to(u.dtype).unsqueeze(-1)
        of_pair, of_triangle = self.pair_out.weight.split([self.pair.out_features, self.triangles], dim=1)
        update = F.linear(u, of_pair, self.pair_out.bias)
        if self.triangles:
            left, right = (sides * weight).permute(0, 3, 1, 2).chunk(2, dim=1)
            triangle = (left @ right).permute(0, 2, 3, 1)
            update += F.linear(triangle, of_triangle * self.aggregation_norm)
        e = e + update
        q, k, v = self.qkv(n).view(batch, size, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        bias = bias.permute(0, 3, 1, 2).masked_fill(~mask[:, None, None, :], -torch.inf)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype)).transpose(1, 2).flatten(2)
        gathered = ((torch.sigmoid(gate) * weight).transpose(2, 3) @ u).flatten(2)
        h = h + self.out(torch.cat([attended, gathered], dim=-1))
        h = h + self.mlp(self.norm_mlp(h) * (1 + shifts[2]) + shifts[3])
        with torch.autocast(x.device.type, enabled=False):  # positions keep their precision
            move = shift.squeeze(-1).to(x.dtype) * pair_mask / (self.aggregation_norm * (safe_sqrt(squared) + 1))
            x = x + x * move.sum(dim=2, keepdim=True) - move @ x
        return h, e, x


class PairTransformer(MoleculeNetwork):
    """Layers between the embeddings of atoms and pairs and their linear readings.

    vectors = x_L - x_0 less its mean over the real atoms, atoms = Linear(LayerNorm(h_L)), pairs =
    Linear(LayerNorm(e_L + its transpose)).

    Positions, distances and the centre of mass stay in the positions' own type under autocast.

    Args: as for MoleculeNetwork, and
        hidden: width of an atom.
        pair_hidden: width of a pair.
        layers: how many.
        heads: of the attention; a divisor of hidden.
        gates: weighted sums of pairs that an atom reads.
        triangles: channels of the sum over triangles; 0 for none.
        aggregation_norm: what sums over neighbours are divided by.
    """

    def __init__(
        self,
        atoms_in: int,
        atoms_out: int,
        hidden: int = 192,
        pair_hidden: int = 64,
        layers: int = 6,
        heads: int = 8,
        gates: int = 4,
        triangles: int = 16,
        aggregation_norm: float = 10.0,
        pairs_in: int = 0,
        pairs_out: int = 0,
        condition_size: int = 0,
    ) -> None:
        super().__init__(atoms_in, atoms_out, pairs_in, pairs_out, condition_size)
        if hidden % heads:
            raise ValueError(f"hidden = {hidden} must be a multiple of heads = {heads}")
        self.pair_features = PairFeatures(pairs_in)
        self.context = Context(condition_size, hidden)
        self.embed = nn.Linear(atoms_in, hidden)
        self.embed_pair = nn.Linear(self.pair_features.size, pair_hidden)
        self.layers = nn.ModuleList(
            PairTransformerLayer(hidden, pair_hidden, heads, gates, triangles, aggregation_norm) for _ in range(layers)
        )
        self.readout = nn.Sequential(nn.LayerNorm(hidden), small(nn.Linear(hidden, atoms_out)))
        if pairs_out:
            self.pair_readout = nn.Sequential(nn.LayerNorm(pair_hidden), small(nn.Linear(pair_hidden, pairs_out)))

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
        features = self.pair_features(x, gamma, pairs, pair_mask)
        context = F.silu(self.context(gamma, condition))
        h = self.embed(atoms * real) + context.unsqueeze(1)
        e = self.embed_pair(features)
        for layer in self.layers:
            h, e, x = layer(h, e, x, context, mask, pair_mask)
        said = None
        if self.pairs_out:
            said = self.pair_readout(e + e.transpose(1, 2)) * pair_mask.unsqueeze(-1)
        return Reading(centred(x - start, mask), self.readout(h) * mask.unsqueeze(-1), said)
