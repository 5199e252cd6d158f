"""Windows: what a network says of parts is what it says of the whole, where it may be."""

from dataclasses import replace

import pytest
import torch

from medmol_diffusion.core import Streams
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import HaarStage, UNet3D, VolumeDiffusion
from medmol_diffusion.mri.windows import Windows, positions
from tests.mri.test_model import Scans

GRID = (7, 5, 9)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.8])
def test_a_pointwise_network_does_not_feel_the_windows(overlap: float) -> None:
    x = noise(2, 3, *GRID)
    found = Windows((4, 8, 3), overlap).slide(torch.tanh, x)
    torch.testing.assert_close(found, x.tanh(), rtol=1e-12, atol=1e-12)


def test_neighbours_share_at_least_the_overlap_and_all_places_are_seen() -> None:
    seen: list[int] = []

    def count(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.shape[2])
        return x

    x = torch.arange(20.0).view(1, 1, 20, 1, 1)
    torch.testing.assert_close(Windows((6, 1, 1), 0.5).slide(count, x), x)
    assert seen == [6] * 6  # a stride of 14 / 5 = 2.8 places, and 3 is what half of the width allows


def test_drawn_windows_lie_inside_and_reach_every_corner() -> None:
    windows = Windows((4, 8, 3), 0.25)
    corners = windows.draw(400, GRID, torch.Generator().manual_seed(0))
    assert corners.amin(0).tolist() == [0, 0, 0]
    assert corners.amax(0).tolist() == [3, 0, 6]
    assert (windows.inside(corners, GRID).flatten(1).sum(1) == 4 * 5 * 3).all()


def test_one_window_answers_where_it_lies_and_nowhere_else() -> None:
    windows, x = Windows((4, 8, 3), 0.25), noise(2, 3, *GRID)
    corners = torch.tensor([[0, 0, 5], [3, 0, 1]])
    inside = windows.inside(corners, GRID)
    torch.testing.assert_close(windows.one(torch.exp, x, corners), x.exp() * inside)


def test_positions_run_from_end_to_end_of_each_axis() -> None:
    where = positions(GRID, torch.zeros(()))
    assert where[:, 0, 0, 0].tolist() == [-1, -1, -1]
    assert where[:, -1, -1, -1].tolist() == [1, 1, 1]
    assert where[2, 3, 2].tolist() == pytest.approx([k / 4 - 1 for k in range(9)])


def windowed(window: list[int], zero: bool = False) -> VolumeDiffusion:
    model = VolumeDiffusion([8, 12, 8], HaarStage(1), network=UNet3D(19, 16, [8], blocks=1), window=window)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data = 0.0 * parameter if zero else 0.3 * torch.randn(parameter.shape, generator=generator)
    return model


def aim(windows: Windows | None, corner: list[int]) -> None:
    """Let the next windows be drawn there, and nothing else be drawn for it."""
    assert windows is not None
    windows.draw = lambda count, grid, generator: torch.tensor([corner] * count)  # type: ignore[method-assign]


def test_the_loss_of_windows_is_on_average_that_of_the_whole() -> None:
    """Of windows that divide the grid, with noise that is the same for all of them, where none sees beyond itself."""
    batch = Scans(3, (8, 12, 8), [8, 9, 8]).batch()
    whole, parts = windowed([8, 12, 8], zero=True), windowed([8, 4, 8], zero=True)
    aim(whole.network.windows, [0, 0, 0])
    losses = []
    for start in (0, 2, 4):
        aim(parts.network.windows, [0, start, 0])
        losses.append(parts.loss(batch, Streams(0, batch.index)))
    full = whole.loss(batch, Streams(0, batch.index))
    assert (torch.stack(losses) - full).abs().max() > 1e-2
    torch.testing.assert_close(torch.stack(losses).mean(0), full, rtol=1e-5, atol=1e-6)


def test_one_window_as_large_as_the_grid_is_the_whole() -> None:
    model = windowed([8, 12, 8]).eval()
    batch = Scans(2, (8, 12, 8), [8, 12, 8]).batch()
    space, x, known = model.training_example(batch, Streams(0, batch.index))
    gamma = torch.tensor([0.0, 1.0])
    slid = model.network(x, gamma, space, known)
    aimed = model.network(x, gamma, space, replace(known, window=torch.zeros(2, 3, dtype=torch.long)))
    assert slid.abs().amax() > 0.1
    torch.testing.assert_close(slid, aimed)


def test_positions_are_told_without_windows_too() -> None:
    model = VolumeDiffusion([8, 12, 8], HaarStage(1), network=UNet3D(19, 16, [8], blocks=1), positions=True)
    whole = windowed([8, 12, 8])
    model.load_state_dict(whole.state_dict())
    batch = Scans(2, (8, 12, 8), [8, 12, 8]).batch()
    space, x, known = model.training_example(batch, Streams(0, batch.index))
    gamma = torch.zeros(2)
    torch.testing.assert_close(model.network(x, gamma, space, known), whole.network(x, gamma, space, known))


def test_a_model_of_windows_samples_and_bounds_the_whole() -> None:
    model = windowed([8, 4, 4], zero=True).eval()
    scans = Scans(4, (8, 12, 8), [8, 12, 8])
    model.prepare(scans)
    assert model.sample(1, steps=2)[0].shape == (8, 12, 8)
    whole = windowed([8, 12, 8], zero=True).eval()
    whole.prepare(scans)
    ours, theirs = (each.elbo(scans.batch(), draws=4).total for each in (model, whole))
    torch.testing.assert_close(ours, theirs)


def test_windows_that_do_not_fit_the_first_stage_are_named() -> None:
    for window in ([8, 3, 8], [8, 8], [0, 8, 8]):
        with pytest.raises(InputError, match="must be three multiples of 2"):
            windowed(window)
    with pytest.raises(InputError, match="channels_in 16: set it to 19"):
        VolumeDiffusion([8, 8, 8], HaarStage(1), network=UNet3D(16, 16, [8], blocks=1), window=[4, 4, 4])
    with pytest.raises(InputError, match="overlap"):
        VolumeDiffusion([8, 8, 8], HaarStage(1), window=[4, 4, 4], overlap=1.0)
