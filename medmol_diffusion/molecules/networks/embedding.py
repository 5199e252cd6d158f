"""What every molecule network reads off a noisy state: distances, their radial features, and the noise level."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RadialBasis(nn.Module):
    """Features of a distance d in angstrom and of the noisy distance it came from.

    Gaussians exp(-(d - c)^2 / (2 w^2)) every 0.05 angstrom, 0.07 wide, over 0.8 to 2.0 (where bonds are decided), and
    coarser on both sides up to 6 angstrom; then log(1 + d), log(1 + d_noisy) and log(1 + d_noisy^2). All are finite for
    however large a distance. The tails of the Gaussians end at e^-30: denormal numbers, which they would run into, slow
    every product they enter several times over on a CPU.
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
        # Beyond 10 angstrom all are tail; the clamp keeps the square of a huge distance from overflowing.
        offset = (distance.clamp(max=10.0).unsqueeze(-1) - self.centres) / self.widths
        smooth = torch.stack([distance.log1p(), noisy.log1p(), noisy.square().log1p()], dim=-1)
        return torch.cat([torch.exp((-0.5 * offset.square()).clamp(min=-30.0)), smooth], dim=-1)


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


class PairFeatures(nn.Module):
    """The radial features of every pair of a noisy state, in angstrom of the clean one, and the pair's own state where
    it has one.

    The positions are the variance-preserving state z = alpha x + sigma eps in angstrom, so d_ij / alpha with alpha =
    sqrt(sigmoid(-gamma)) is a distance in angstrom, and the features resolve bond lengths at every noise level.
    """

    def __init__(self, pairs_in: int = 0) -> None:
        super().__init__()
        self.pairs_in = pairs_in
        self.basis = RadialBasis()

    @property
    def size(self) -> int:
        return self.basis.size + self.pairs_in

    def forward(self, positions: Tensor, gamma: Tensor, pairs: Tensor | None, pair_mask: Tensor) -> Tensor:
        """(B, N, 3), (B,), (B, N, N, pairs_in) and (B, N, N) -> (B, N, N, size)."""
        noisy = safe_sqrt(pair_squared_distances(positions))
        # log alpha stays finite where alpha would underflow; beyond e^30 a distance says nothing more
        inverse_alpha = torch.exp((-0.5 * F.logsigmoid(-gamma)).clamp(max=30.0))
        radial = self.basis(noisy * inverse_alpha[:, None, None], noisy)
        if not self.pairs_in:
            return radial
        assert pairs is not None
        return torch.cat([radial, pairs.to(radial) * pair_mask.unsqueeze(-1)], dim=-1)


class PairReadout(nn.Module):
    """What a network without features of its own on pairs says of them: Linear(SiLU(S h_i + S h_j + C e_ij)).

    Args:
        hidden: width of an atom.
        features: of a pair.
        width: of the layer between.
        pairs_out: outputs for a pair.
    """

    def __init__(self, hidden: int, features: int, width: int, pairs_out: int) -> None:
        super().__init__()
        self.node = nn.Linear(hidden, width)
        self.edge = nn.Linear(features, width, bias=False)
        self.out = small(nn.Linear(width, pairs_out))

    def forward(self, h: Tensor, e: Tensor, pair_mask: Tensor) -> Tensor:
        """(B, N, hidden), (B, N, N, features) and (B, N, N) -> (B, N, N, pairs_out), symmetric for symmetric e."""
        node = self.node(h)
        u = F.silu(node.unsqueeze(1) + node.unsqueeze(2) + self.edge(e))
        return self.out(u) * pair_mask.unsqueeze(-1)


class Context(nn.Module):
    """The noise level, and what a molecule is asked to be, as one vector: NoiseEmbedding(gamma) and W condition.

    No condition is the same as one of zeros.

    Args:
        condition_size: the numbers of a condition; 0 for a network that takes none.
        size: of the vector.
    """

    def __init__(self, condition_size: int, size: int) -> None:
        super().__init__()
        self.noise = NoiseEmbedding()
        self.level = nn.Linear(self.noise.size, size)
        self.asked = nn.Linear(condition_size, size, bias=False) if condition_size else None
        if self.asked is not None:  # a model that was trained without begins as it was
            nn.init.zeros_(self.asked.weight)

    def forward(self, gamma: Tensor, condition: Tensor | None) -> Tensor:
        """(B,) and (B, condition_size) or None -> (B, size)."""
        context = self.level(self.noise(gamma))
        if condition is not None:
            if self.asked is None:
                raise ValueError("the network was built without a condition: give it condition_size")
            context = context + self.asked(condition.to(context))
        return context


def real_pairs(mask: Tensor) -> Tensor:
    """(B, N) bool -> (B, N, N) bool: both atoms real, and distinct."""
    distinct = ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
    return mask.unsqueeze(1) & mask.unsqueeze(2) & distinct


def centred(vectors: Tensor, mask: Tensor) -> Tensor:
    """(B, N, 3) less the mean over the real atoms, zero at padding."""
    atoms = mask.unsqueeze(-1).to(vectors)
    vectors = vectors * atoms
    return vectors - atoms * (vectors.sum(1, keepdim=True) / atoms.sum(1, keepdim=True).clamp(min=1))


def pair_squared_distances(x: Tensor) -> Tensor:
    """(B, N, 3) -> (B, N, N). By differences: the Gram form |x|^2 + |y|^2 - 2xy cancels for near atoms."""
    return (x.unsqueeze(2) - x.unsqueeze(1)).square().sum(-1)


def plus_product(total: Tensor, features: Tensor, weight: Tensor) -> Tensor:
    """(B, N, N, P), (B, N, N, K) and (P, K) -> total + features weight^T, added up by the product itself.

    A sum of its own would be one more pass over pairs, and in bf16 a slow one.
    """
    return torch.addmm(total.flatten(0, 2), features.flatten(0, 2), weight.t()).view(total.shape)


def safe_sqrt(squared: Tensor) -> Tensor:
    """sqrt whose gradient is finite at 0, where an atom meets itself; off by less than 1e-9 at 1e-3 angstrom."""
    return (squared + 1e-12).sqrt()


def small(last: nn.Linear) -> nn.Linear:
    """A last layer whose outputs start near zero."""
    with torch.no_grad():
        last.weight.mul_(0.1)
        last.bias.zero_()
    return last
