"""The dense, factorised E(3)-equivariant graph network.

Every pair of atoms of a molecule is an edge, so there is no edge list: pairs live in a dense (B, N, N, E) array, and
the first edge layer W [h_i | h_j | e_ij] is split into A h_i + B h_j + C e_ij, whose wide parts cost one product per
atom instead of one per pair. Neither changes the output. Nodes may be wide and edges narrow: time and memory go with
N^2 * edge_hidden.

Sources: Satorras et al. 2021 (E(n)-equivariant graph networks), Hoogeboom et al. 2022 (EDM: gates, the d + 1 divisor).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RadialBasis(nn.Module):
    """Features of a distance d in angstrom and of the noisy distance it came from.

    Gaussians exp(-(d - c)^2 / (2 w^2)) every 0.05 angstrom, 0.07 wide, over 0.8 to 2.0 (where bonds are decided), and
    coarser on both sides up to 6 angstrom; then log(1 + d), log(1 + d_noisy) and log(1 + d_noisy^2). All are finite and
    the Gaussians vanish for however large a distance.
    """

    centres: Tensor
    widths: Tensor

    def __init__(self) -> None:
        super().__init__()
        near, bond, far = torch.arange(4) * 0.2, 0.8 + torch.arange(25) * 0.05, 2.2 + torch.arange(16) * 0.25
        widths = [torch.full((4,), 0.2), torch.full((25,), 0.07), torch.full((16,), 0.25)]
        self.register_buffer("centres", torch.cat([near, bond, far]), persistent=False)
        self.register_buffer("widths", torch.cat(widths), persistent=False)

    @property
    def size(self) -> int:
        return len(self.centres) + 3

    def forward(self, distance: Tensor, noisy: Tensor) -> Tensor:
        """(...) and (...) -> (..., size)."""
        # Beyond 10 angstrom every Gaussian is nil; the clamp keeps the square of a huge distance from overflowing.
        offset = (distance.clamp(max=10.0).unsqueeze(-1) - self.centres) / self.widths
        smooth = torch.stack([distance.log1p(), noisy.log1p(), noisy.square().log1p()], dim=-1)
        return torch.cat([torch.exp(-0.5 * offset.square()), smooth], dim=-1)


class NoiseEmbedding(nn.Module):
    """Fourier features of gamma = -log SNR: sin and cos of gamma * pi / 32 * 2^k for k = 0..5, and gamma / 10."""

    frequencies: Tensor
    size = 13

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("frequencies", math.pi / 32 * 2.0 ** torch.arange(6), persistent=False)

    def forward(self, gamma: Tensor) -> Tensor:
        """(B,) -> (B, size)."""
        phase = gamma[:, None] * self.frequencies
        return torch.cat([phase.sin(), phase.cos(), gamma[:, None] / 10], dim=-1)


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
        u = self.radial(pairs)  # added up in place: no sum but the last is needed again, and memory is what costs
        u += self.receiver(normed).unsqueeze(2)
        u += self.sender(normed).unsqueeze(1)
        u = F.silu(u.addcmul_(near.to(u.dtype), self.distance.to(u.dtype)))
        m = F.silu(self.message(u))
        gate, shift = self.gate_and_shift(m).unbind(-1)
        gate = torch.sigmoid(gate) * (pair_mask / self.aggregation_norm).to(gate.dtype)
        incoming = (gate.unsqueeze(-2) @ m).squeeze(-2)
        h = h + self.update(torch.cat([normed, incoming], dim=-1))
        with torch.autocast(x.device.type, enabled=False):  # positions keep their precision
            weight = shift.to(x.dtype) * pair_mask / (self.aggregation_norm * (safe_sqrt(squared) + 1))
            x = x + x * weight.sum(dim=2, keepdim=True) - weight @ x
        return h, x


class EGNN(nn.Module):
    """Noisy positions and features -> a vector per atom (equivariant, zero mean) and features per atom (invariant).

    The positions are the variance-preserving state z = alpha x + sigma eps in angstrom, so d_ij / alpha with
    alpha = sqrt(sigmoid(-gamma)) is a distance in angstrom, and the radial features, computed once, resolve bond
    lengths at every noise level. gamma enters with the node features. Outputs: vectors = x_L - x_0 less its mean over
    the real atoms, features = Linear(LayerNorm(h_L)); both are zero at padded atoms.

    Positions, distances and the centre of mass stay in the positions' own type under autocast.
    """

    def __init__(
        self,
        features_in: int,
        features_out: int,
        hidden: int = 192,
        edge_hidden: int = 64,
        layers: int = 6,
        aggregation_norm: float = 10.0,
    ) -> None:
        super().__init__()
        self.basis = RadialBasis()
        self.noise = NoiseEmbedding()
        self.embed = nn.Linear(features_in + self.noise.size, hidden)
        self.layers = nn.ModuleList(
            EGNNLayer(hidden, edge_hidden, self.basis.size, aggregation_norm) for _ in range(layers)
        )
        last = nn.Linear(hidden, features_out)
        with torch.no_grad():  # outputs start near zero
            last.weight.mul_(0.1)
            last.bias.zero_()
        self.readout = nn.Sequential(nn.LayerNorm(hidden), last)

    def forward(self, positions: Tensor, features: Tensor, mask: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
        """positions (B, N, 3), features (B, N, F), mask (B, N) bool, gamma (B,) -> (B, N, 3), (B, N, features_out)."""
        gamma = gamma.to(positions.dtype)
        atoms = mask.unsqueeze(-1).to(positions.dtype)
        pair_mask = self.pair_mask(mask).to(positions.dtype)
        x = start = positions * atoms
        pairs = self.pair_features(x, gamma)
        noise = self.noise(gamma).unsqueeze(1).expand(-1, mask.shape[1], -1)
        h = self.embed(torch.cat([features * atoms, noise], dim=-1))
        for layer in self.layers:
            h, x = layer(h, x, pairs, pair_mask)
        vectors = (x - start) * atoms
        vectors = vectors - atoms * (vectors.sum(1, keepdim=True) / atoms.sum(1, keepdim=True).clamp(min=1))
        return vectors, self.readout(h) * mask.unsqueeze(-1)

    def pair_features(self, positions: Tensor, gamma: Tensor) -> Tensor:
        """The fixed e_ij: (B, N, 3) and (B,) -> (B, N, N, K)."""
        noisy = safe_sqrt(pair_squared_distances(positions))
        # log alpha stays finite where alpha would underflow; beyond e^30 a distance says nothing more
        inverse_alpha = torch.exp((-0.5 * F.logsigmoid(-gamma)).clamp(max=30.0))
        return self.basis(noisy * inverse_alpha[:, None, None], noisy)

    @staticmethod
    def pair_mask(mask: Tensor) -> Tensor:
        """(B, N) bool -> (B, N, N) bool: both atoms real, and distinct."""
        distinct = ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
        return mask.unsqueeze(1) & mask.unsqueeze(2) & distinct


def pair_squared_distances(x: Tensor) -> Tensor:
    """(B, N, 3) -> (B, N, N). By differences: the Gram form |x|^2 + |y|^2 - 2xy cancels for near atoms."""
    return (x.unsqueeze(2) - x.unsqueeze(1)).square().sum(-1)


def safe_sqrt(squared: Tensor) -> Tensor:
    """sqrt whose gradient is finite at 0, where an atom meets itself; off by less than 1e-9 at 1e-3 angstrom."""
    return (squared + 1e-12).sqrt()
