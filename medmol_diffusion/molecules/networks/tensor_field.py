"""The tensor-field network: atoms carry vectors and tensors beside numbers, and messages keep directions.

Messages of distances alone do not see angles; here every neighbour contributes spherical harmonics of its direction,
and what an atom has gathered is multiplied with itself, so that one round of messages sees angles and the next one
dihedrals. Pairs are dense, and a message is a product per channel: the cost goes with N^2 * 9 * channels.

Sources: Thomas et al. 2018 (tensor field networks); Batzner et al. 2022 (NequIP: products channel by channel,
parities); Batatia et al. 2022 (MACE: the atom's product with itself). e3nn (Geiger & Smidt 2022) gives the spherical
harmonics, the coefficients and the selection rules; its generated code is not used, so that weights are plain tensors.
"""

import torch
from e3nn.o3 import Irrep, Irreps, spherical_harmonics, wigner_3j
from torch import Tensor, nn
from torch.nn import functional as F

from medmol_diffusion.molecules.networks.embedding import Context, PairFeatures, PairReadout, centred, real_pairs, small
from medmol_diffusion.molecules.networks.network import MoleculeNetwork, Reading

ORDER = 2
"""The highest l of a neighbour's direction."""
SOFTENING = 0.1
"""Angstrom: a direction is r / sqrt(d^2 + SOFTENING^2), which is smooth where two atoms meet."""


class Coupling(nn.Module):
    """All products of irreps a and b that land in irreps c, channel by channel, then mixed over paths and channels:

        out[u, k] = sum over paths (i, j -> k) and channels v of W[u, v, path] sqrt(2 l_k + 1) C^{ijk} x[v, i, j]

    C are the real Clebsch-Gordan (Wigner 3j) coefficients; |l_i - l_j| <= l_k <= l_i + l_j and the parities multiply.

    Args:
        first, second, out: irreps, each once a channel.
        channels: how many.
        symmetric: x is the product of one thing with itself, so that (i, j) and (j, i) say the same.
    """

    bits: Tensor

    def __init__(self, first: Irreps, second: Irreps, out: Irreps, channels: int, symmetric: bool = False) -> None:
        super().__init__()
        pieces, self.places = [], []
        self.mix = nn.ParameterList()
        for kind in (item.ir for item in out):
            paths = 0
            for a, (_, one) in enumerate(first):
                for b, (_, other) in enumerate(second):
                    twice = symmetric and (b < a or (b == a and kind.l % 2))  # said already, or v x v = 0
                    if twice or kind not in one * other:
                        continue
                    table = torch.zeros(first.dim, second.dim, kind.dim, dtype=torch.float64)
                    coefficients = wigner_3j(one.l, other.l, kind.l, dtype=torch.float64)
                    table[first.slices()[a], second.slices()[b]] = coefficients * kind.dim**0.5
                    pieces.append(table)
                    paths += 1
            self.places.append((paths, kind.dim))
            self.mix.append(torch.randn(channels, channels * paths) / (channels * paths) ** 0.5)
        # Bits of float64, which a cast of the module to float32 and back leaves whole.
        self.register_buffer("bits", torch.cat(pieces, -1).flatten(0, 1).view(torch.int64), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, channels, dim first, dim second) -> (B, N, channels, dim out)."""
        coupled = x.flatten(-2) @ self.bits.view(torch.float64).to(x.dtype)
        parts = coupled.split([paths * dim for paths, dim in self.places], dim=-1)
        mixed = [
            weight @ part.unflatten(-1, (paths, dim)).flatten(-3, -2)
            for weight, part, (paths, dim) in zip(self.mix, parts, self.places, strict=True)
        ]
        return torch.cat(mixed, dim=-1)


class TensorNorm(nn.Module):
    """t / sqrt(0.01 + mean over the channels of |t|^2) for every irrep: of about unit size, however much was added."""

    def __init__(self, irreps: Irreps) -> None:
        super().__init__()
        self.dims = [item.ir.dim for item in irreps]

    def forward(self, t: Tensor) -> Tensor:
        """(B, N, channels, dim) -> the same."""
        return torch.cat(
            [part * (0.01 + part.square().sum(-1, True).mean(-2, True)).rsqrt() for part in t.split(self.dims, -1)], -1
        )


class TensorFieldLayer(nn.Module):
    """One round of messages on numbers h (B, N, H) and tensors t (B, N, C, D), with the context c (B, H):

        n, s = LayerNorm(h), TensorNorm(t) whose first irrep, 0e, is S n
        u_ij = SiLU(A n_i + B n_j + C e_ij + K c)
        a_i = sum_j (W u_ij)_l Y_l(r_ij) s_j / norm          for l = 0, 1, 2 and every channel
        m_i = Coupling(a_i),   p_i = Coupling(m_i m_i)
        t_i <- t_i + sigmoid(G n_i) (m_i + p_i)               gates per channel and irrep
        h_i <- h_i + MLP[n_i, the 0e of m_i and p_i, sum_j sigmoid(g . u_ij) u_ij / norm]

    over the pairs of real, distinct atoms.
    """

    def __init__(
        self, irreps: Irreps, hidden: int, pair_hidden: int, channels: int, pair_features: int, norm: float
    ) -> None:
        super().__init__()
        self.aggregation_norm, self.channels = norm, channels
        harmonics = Irreps.spherical_harmonics(ORDER)
        self.harmonic_dims = [item.ir.dim for item in harmonics]
        self.dims = [item.ir.dim for item in irreps]
        self.norm, self.tensor_norm = nn.LayerNorm(hidden), TensorNorm(irreps)
        self.scalars = nn.Linear(hidden, channels)
        self.receiver = nn.Linear(hidden, pair_hidden)
        self.sender = nn.Linear(hidden, pair_hidden, bias=False)
        self.level = nn.Linear(hidden, pair_hidden, bias=False)
        self.radial = nn.Linear(pair_features, pair_hidden, bias=False)
        self.weights = nn.Linear(pair_hidden, channels * len(harmonics))
        self.gate = nn.Linear(pair_hidden, 1)
        self.message = Coupling(harmonics, irreps, irreps, channels)
        self.product = Coupling(irreps, irreps, irreps, channels, symmetric=True)
        self.tensor_gates = nn.Linear(hidden, channels * len(irreps))
        seen = hidden + 2 * channels + pair_hidden
        self.update = nn.Sequential(nn.Linear(seen, hidden), nn.SiLU(), nn.Linear(hidden, hidden))

    def forward(
        self, h: Tensor, t: Tensor, context: Tensor, pairs: Tensor, harmonics: Tensor, pair_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """pairs (B, N, N, K), harmonics (B, 9, N, N) and pair_mask (B, N, N) -> h, t."""
        n = self.norm(h)
        s = torch.cat([self.scalars(n).unsqueeze(-1), self.tensor_norm(t)[..., 1:]], dim=-1)
        u = self.radial(pairs)
        u += (self.receiver(n) + self.level(context).unsqueeze(1)).unsqueeze(2)
        u += self.sender(n).unsqueeze(1)
        u = F.silu(u)
        weight = (pair_mask / self.aggregation_norm).to(u.dtype)
        gathered = ((torch.sigmoid(self.gate(u).squeeze(-1)) * weight).unsqueeze(-2) @ u).squeeze(-2)
        batch, size, _ = n.shape
        # (B, C l, N N): one product gives the weights with the pairs last, as the sum over neighbours wants them.
        radial = torch.baddbmm(
            self.weights.bias.to(u.dtype)[:, None],
            self.weights.weight.to(u.dtype).expand(batch, -1, -1),
            u.flatten(1, 2).transpose(1, 2),
        )
        radial = radial.view(batch, self.channels, -1, size, size)
        shells = harmonics.to(radial.dtype).split(self.harmonic_dims, dim=1)
        filters = [radial[:, :, k : k + 1] * shell.unsqueeze(1) for k, shell in enumerate(shells)]
        a = torch.cat(filters, dim=2).flatten(2, 3) @ s.to(u.dtype).transpose(1, 2)  # (B, C, 9 N, D)
        m = self.message(a.unflatten(2, (-1, size)).permute(0, 3, 1, 2, 4) / self.aggregation_norm)
        p = self.product(m.unsqueeze(-1) * m.unsqueeze(-2))
        gates = torch.sigmoid(self.tensor_gates(n)).unflatten(-1, (self.channels, -1))
        gates = torch.cat([gates[..., k : k + 1].expand(*gates.shape[:-1], d) for k, d in enumerate(self.dims)], -1)
        t = t + gates * (m + p)
        h = h + self.update(torch.cat([n, m[..., 0], p[..., 0], gathered], dim=-1))
        return h, t


class TensorField(MoleculeNetwork):
    """Layers between the embedding of the atoms and gated sums of their tensors.

    vectors_i = sum_u (V h_i)_u t_i[u, 1o] / sqrt(channels) less their mean over the real atoms, atoms =
    Linear(LayerNorm(h_L)), pairs = Linear(SiLU(S h_i + S h_j + C e_ij)). The noise level and the condition enter with
    the atoms and in the messages' weights.

    Positions, distances, directions and the centre of mass stay in the positions' own type under autocast.

    Args: as for MoleculeNetwork, and
        hidden: width of an atom's numbers.
        pair_hidden: width of a pair.
        channels: of the tensors.
        layers: rounds of messages.
        irreps: what a channel holds, in e3nn's notation: 0e numbers, 1o vectors, 1e axial vectors, 2e tensors; begins
            with 0e and has 1o.
        aggregation_norm: what sums over neighbours are divided by.
    """

    def __init__(
        self,
        atoms_in: int,
        atoms_out: int,
        hidden: int = 128,
        pair_hidden: int = 64,
        channels: int = 24,
        layers: int = 4,
        irreps: str = "0e + 1o + 1e + 2e",
        aggregation_norm: float = 4.0,
        pairs_in: int = 0,
        pairs_out: int = 0,
        condition_size: int = 0,
    ) -> None:
        super().__init__(atoms_in, atoms_out, pairs_in, pairs_out, condition_size)
        kinds = Irreps(irreps)
        if any(item.mul != 1 for item in kinds) or kinds[0].ir != Irrep("0e") or Irrep("1o") not in kinds:
            raise ValueError(f"irreps = '{irreps}' must begin with 0e, have 1o, and name each once: '0e + 1o + 2e'")
        self.channels, self.dim = channels, kinds.dim
        self.vector = kinds.slices()[[item.ir for item in kinds].index(Irrep("1o"))]
        self.pair_features = PairFeatures(pairs_in)
        self.context = Context(condition_size, hidden)
        self.embed = nn.Linear(atoms_in, hidden, bias=False)
        edge_features = self.pair_features.size
        self.layers = nn.ModuleList(
            TensorFieldLayer(kinds, hidden, pair_hidden, channels, edge_features, aggregation_norm)
            for _ in range(layers)
        )
        self.norm, self.tensor_norm = nn.LayerNorm(hidden), TensorNorm(kinds)
        self.vector_readout, self.readout = small(nn.Linear(hidden, channels)), small(nn.Linear(hidden, atoms_out))
        if pairs_out:
            self.pair_readout = PairReadout(hidden, edge_features, pair_hidden, pairs_out)

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
        x = positions * real
        e = self.pair_features(x, gamma, pairs, pair_mask)
        with torch.autocast(x.device.type, enabled=False):
            harmonics = pair_harmonics(x) * pair_mask.unsqueeze(1)
        context = self.context(gamma, condition)
        h = self.embed(atoms * real) + context.unsqueeze(1)
        t = h.new_zeros(*mask.shape, self.channels, self.dim)
        for layer in self.layers:
            h, t = layer(h, t, context, e, harmonics, pair_mask)
        h = self.norm(h)
        # e3nn orders the components of l = 1 as x, y, z
        arrows = self.tensor_norm(t)[..., self.vector].to(x.dtype) / self.channels**0.5
        with torch.autocast(x.device.type, enabled=False):
            vectors = (self.vector_readout(h.to(x.dtype)).unsqueeze(-2) @ arrows).squeeze(-2)
        said = self.pair_readout(h, e, pair_mask) if self.pairs_out else None
        return Reading(centred(vectors, mask), self.readout(h) * mask.unsqueeze(-1), said)


def pair_harmonics(x: Tensor) -> Tensor:
    """(B, N, 3) -> (B, 9, N, N): Y_lm of (x_j - x_i) / sqrt(d_ij^2 + SOFTENING^2), of unit mean square for l = 0, 1, 2.

    They are polynomials of degree l, so that they vanish smoothly where atoms meet and are never singular.
    """
    difference = x.unsqueeze(1) - x.unsqueeze(2)
    direction = difference * (difference.square().sum(-1, keepdim=True) + SOFTENING**2).rsqrt()
    orders = list(range(ORDER + 1))
    return spherical_harmonics(orders, direction, normalize=False, normalization="component").permute(0, 3, 1, 2)
