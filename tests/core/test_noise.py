import pytest
import torch
from scipy.stats import kstest

from medmol_diffusion.core import Masked, Streams
from medmol_diffusion.core.noise import standard_normal, stratified_uniforms, uniforms


def test_draws_of_an_item_depend_on_seed_and_index_alone() -> None:
    sizes = torch.tensor([3, 7, 5, 2])
    mask = torch.arange(7) < sizes[:, None]
    together = Masked(mask, 3).noise(torch.zeros(4, 7, 3), Streams(5, torch.arange(4)))
    order = torch.tensor([2, 0, 3, 1])
    moved = Masked(mask[order], 3).noise(torch.zeros(4, 7, 3), Streams(5, order))
    assert torch.equal(moved, together[order])
    for i, n in enumerate(sizes.tolist()):
        for width in (n, 9):  # with and without padding
            row = torch.arange(width)[None] < n
            alone = Masked(row, 3).noise(torch.zeros(1, width, 3), Streams(5, torch.tensor([i])))
            assert torch.equal(alone[0, :n], together[i, :n])
    other = Masked(mask, 3).noise(torch.zeros(4, 7, 3), Streams(6, torch.arange(4)))
    assert not (other == together)[mask].any()
    assert len(together[mask].unique()) == 3 * sizes.sum()  # no two items share a draw


def test_what_taken_streams_draw_is_not_drawn_again() -> None:
    whole, fresh = Streams(1, torch.arange(3)), Streams(1, torch.arange(3))
    like = torch.zeros(3, 4)
    first, second = standard_normal(like, fresh), standard_normal(like, fresh)
    part = whole.take(torch.tensor([2, 1]))
    assert part.index.tolist() == [2, 1]
    assert torch.equal(standard_normal(like[:2], part), first[[2, 1]])
    assert torch.equal(standard_normal(like, whole), torch.stack([first[0], second[1], second[2]]))


def test_normals_are_standard() -> None:
    drawn = torch.stack(Streams(0, torch.arange(2000)).normals([4] * 2000, 1, torch.float64)).flatten()
    assert kstest(drawn, "norm").pvalue > 0.01
    neighbours = torch.corrcoef(drawn.reshape(2000, 4)[:, 0].unfold(0, 2, 1).T)[0, 1]
    assert abs(neighbours) < 4 / 2000**0.5


@pytest.mark.parametrize("draws", [1, 3])
def test_batch_uniforms_fall_one_into_every_cell(draws: int) -> None:
    batch = 7
    u = stratified_uniforms(batch, draws, torch.Generator().manual_seed(0))
    cells = (u * draws * batch).floor().long()
    assert torch.equal(cells.flatten().sort().values, torch.arange(draws * batch))
    assert torch.equal((u * draws).floor(), torch.arange(draws)[:, None].expand(draws, batch).double())


@pytest.mark.parametrize("draws", [1, 3])
def test_stream_uniforms_are_spread_evenly_and_know_no_batch(draws: int) -> None:
    index = torch.arange(100)
    u = stratified_uniforms(100, draws, Streams(4, index))
    assert torch.equal(stratified_uniforms(2, draws, Streams(4, index[[7, 3]])), u[:, [7, 3]])
    assert torch.equal((u * draws).floor(), torch.arange(draws)[:, None].expand(draws, 100).double())
    gaps = u.sort(dim=1).values.diff(dim=1) * draws
    assert gaps.max() < 2 / 100  # a hundred independent uniforms leave a gap of about 5 / 100


@pytest.mark.parametrize("draws", [1, 3])
def test_times_of_a_shared_batch_fall_one_into_every_cell_over_all_shares(draws: int) -> None:
    """Places 0, 3, 6 on one rank, 1, 4 on the next, 2, 5 on the last."""
    shares = [Streams(9, torch.arange(rank, 7, 3), total=7) for rank in range(3)]
    u = torch.cat([stratified_uniforms(len(share), draws, share) for share in shares], 1)
    cells = (u * draws * 7).floor().long()
    assert torch.equal(cells.flatten().sort().values, torch.arange(draws * 7))
    alone = stratified_uniforms(7, draws, Streams(9, torch.arange(7), total=7))
    assert torch.equal(u, alone[:, [0, 3, 6, 1, 4, 2, 5]])
    assert stratified_uniforms(1, draws, Streams(9, torch.tensor([7]), total=7)).shape == (draws, 1)  # does not count


def test_uniforms_of_an_item_are_those_it_draws_one_by_one() -> None:
    ahead, turn = (Streams(3, torch.arange(4)) for _ in range(2))
    assert torch.equal(uniforms(4, 5, ahead), torch.stack([turn.uniform() for _ in range(5)], -1))
    assert torch.equal(ahead.uniform(), turn.uniform())


@pytest.mark.parametrize("streams", [True, False])
def test_every_item_sees_every_time(streams: bool) -> None:
    def draw(seed: int) -> torch.Tensor:
        source = Streams(seed, torch.arange(4)) if streams else torch.Generator().manual_seed(seed)
        return stratified_uniforms(4, 2, source)[1, 2]

    found = torch.stack([draw(seed) for seed in range(500)])
    assert kstest(found * 2 - 1, "uniform").pvalue > 0.01


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_what_is_drawn_ahead_is_what_is_drawn_in_turn(dtype: torch.dtype) -> None:
    """Also when the last block is not full: torch makes the last 16 of 17 normals anew."""
    sizes = [1, 15, 16, 17, 333]
    ahead, turn = (Streams(2, torch.arange(5)) for _ in range(2))
    whole = ahead.normals(sizes, 7, dtype)
    parts = zip(*(turn.normals(sizes, count, dtype) for count in (1, 4, 2)), strict=True)
    for together, apart in zip(whole, parts, strict=True):
        assert torch.equal(together, torch.cat(apart))
        assert len(together.unique()) > 0.9 * together.numel() or dtype == torch.bfloat16
    assert torch.equal(ahead.uniform(), turn.uniform())
