"""A plain edge-list EGNN written from the equations, as the reference codes do it: the peer of networks/egnn.py.

Every pair of padded places, the masked ones too, is an edge; each layer gathers and concatenates [h_i | h_j | e_ij |
log(1 + d_ij^2)], multiplies by one wide matrix and adds messages up with index_add.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medmol_diffusion.molecules.networks.egnn import EGNN, EGNNLayer


class EdgeListEGNN(nn.Module):
    """The same function as the EGNN it is made from, with the same numbers in its weights."""

    def __init__(self, egnn: EGNN) -> None:
        super().__init__()
        self.egnn = egnn
        wide = [
            torch.cat([one.receiver.weight, one.sender.weight, one.radial.weight, one.distance[:, None]], dim=1)
            for one in egnn.layers
        ]
        self.wide = nn.ParameterList(nn.Parameter(weight.detach().clone()) for weight in wide)

    def forward(self, positions: Tensor, features: Tensor, mask: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
        batch, size = mask.shape
        atoms = mask.reshape(-1, 1).to(positions)
        place = torch.arange(batch * size)
        i = place.repeat_interleave(size)
        j = place.reshape(batch, 1, size).expand(-1, size, -1).reshape(-1)
        edge_mask = ((mask.reshape(-1)[i] & mask.reshape(-1)[j]) & (i != j)).to(positions).unsqueeze(-1)

        x = start = positions.reshape(-1, 3) * atoms
        noisy = _distance(x, i, j)
        alpha = torch.sigmoid(-gamma).sqrt().repeat_interleave(size * size)
        radial = self.egnn.pair_features.basis(noisy / alpha, noisy)
        context = self.egnn.context(gamma, None).repeat_interleave(size, dim=0)
        h = self.egnn.embed(features.reshape(batch * size, -1) * atoms) + context
        for layer, wide in zip(self.egnn.layers, self.wide, strict=True):
            h, x = _layer(layer, wide, h, x, i, j, radial, edge_mask)
        moved = ((x - start) * atoms).reshape(batch, size, 3)
        mean = moved.sum(1, keepdim=True) / mask.sum(1).reshape(-1, 1, 1)
        out = self.egnn.readout(self.egnn.norm(h)) * atoms
        return (moved - mean) * mask.unsqueeze(-1), out.reshape(batch, size, -1)


def _layer(
    layer: EGNNLayer, wide: Tensor, h: Tensor, x: Tensor, i: Tensor, j: Tensor, radial: Tensor, edge_mask: Tensor
) -> tuple[Tensor, Tensor]:
    normed = layer.norm(h)
    distance = _distance(x, i, j).unsqueeze(-1)
    edges = torch.cat([normed[i], normed[j], radial, distance.square().log1p()], dim=-1)
    m = F.silu(layer.message(F.silu(F.linear(edges, wide, layer.receiver.bias))))
    gate, shift = layer.gate_and_shift(m).split(1, dim=-1)
    messages = torch.sigmoid(gate) * m * edge_mask
    incoming = torch.zeros(len(h), m.shape[-1]).to(m).index_add(0, i, messages) / layer.aggregation_norm
    moves = (x[i] - x[j]) / (distance + 1) * shift * edge_mask
    moved = x + torch.zeros_like(x).index_add(0, i, moves) / layer.aggregation_norm
    return h + layer.update(torch.cat([normed, incoming], dim=-1)), moved


def _distance(x: Tensor, i: Tensor, j: Tensor) -> Tensor:
    # a masked pair and an atom with itself lie at 0, where a norm has no gradient
    return ((x[i] - x[j]).square().sum(-1) + 1e-12).sqrt()
