"""The transformer's layer against its formulas, written out atom by atom."""

import pytest
import torch

from medmol_diffusion.molecules.networks.embedding import real_pairs
from medmol_diffusion.molecules.networks.transformer import PairTransformer, PairTransformerLayer
from medmol_diffusion.testing import shake

HIDDEN, PAIR, HEADS, GATES, TRIANGLES, NORM = 8, 6, 2, 3, 2, 5.0


def plain(layer, h, e, x, c):
    """The formulas for one molecule without padding: h (N, H), e (N, N, P), x (N, 3), c (H)."""
    size = len(h)
    s, b, s_mlp, b_mlp = layer.modulation(c).chunk(4)
    n = (1 + s) * layer.norm(h) + b
    to, of = layer.ends.weight.chunk(2)
    d = [[(x[i] - x[j]).square().sum().sqrt() for j in range(size)] for i in range(size)]
    others = [[j for j in range(size) if j != i] for i in range(size)]

    def pair(i, j):
        near = torch.log1p(d[i][j] ** 2)
        return torch.nn.functional.silu(
            layer.pair(layer.pair_norm(e[i, j])) + to @ n[i] + of @ n[j] + layer.distance * near
        )

    u = [[pair(i, j) for j in range(size)] for i in range(size)]
    widths = [HEADS, GATES, 1, TRIANGLES, TRIANGLES]
    read = [[layer.read(u[i][j]).split(widths) for j in range(size)] for i in range(size)]
    q, k, v = (part.unflatten(-1, (HEADS, -1)) for part in layer.qkv(n).chunk(3, -1))
    new_h, new_e, new_x = [], torch.empty_like(e), []
    for i in range(size):
        for j in range(size):
            through = [m for m in range(size) if m not in (i, j)]
            t = sum((read[i][m][3] * read[m][j][4] for m in through), torch.zeros(TRIANGLES).to(h)) / NORM
            new_e[i, j] = e[i, j] + layer.pair_out(torch.cat([u[i][j], t]))
        heads = []
        for head in range(HEADS):
            scores = [q[i, head] @ k[j, head] / (HIDDEN / HEADS) ** 0.5 + read[i][j][0][head] for j in range(size)]
            heads.append(torch.softmax(torch.stack(scores), 0) @ v[:, head])
        gathered = [sum(torch.sigmoid(read[i][j][1][g]) * u[i][j] for j in others[i]) / NORM for g in range(GATES)]
        row = h[i] + layer.out(torch.cat([*heads, *gathered]))
        new_h.append(row + layer.mlp((1 + s_mlp) * layer.norm_mlp(row) + b_mlp))
        moves = [(x[i] - x[j]) / (d[i][j] + 1) * read[i][j][2] / NORM for j in others[i]]
        new_x.append(x[i] + sum(moves))
    return torch.stack(new_h), new_e, torch.stack(new_x)


@pytest.mark.parametrize("padding", [0, 2])
def test_a_layer_does_what_its_formulas_say(padding):
    layer = shake(PairTransformerLayer(HIDDEN, PAIR, HEADS, GATES, TRIANGLES, NORM).double())
    generator = torch.Generator().manual_seed(0)
    size = 5 + padding
    h, e, x, c = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((size, HIDDEN), (size, size, PAIR), (size, 3), (HIDDEN,))
    )
    mask = torch.arange(size)[None] < 5
    found = layer(h[None], e[None], x[None], c[None], mask, real_pairs(mask).double())
    expected = plain(layer, h[:5], e[:5, :5], x[:5], c)
    torch.testing.assert_close(found[0][0, :5], expected[0], rtol=0, atol=1e-10)
    torch.testing.assert_close(found[1][0, :5, :5], expected[1], rtol=0, atol=1e-10)
    torch.testing.assert_close(found[2][0, :5], expected[2], rtol=0, atol=1e-10)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="multiple of heads"):
        PairTransformer(4, 4, hidden=30, heads=8)
