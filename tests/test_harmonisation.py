"""tests/benchmarks/harmonisation.py: another scanner shifts scans as it says, and its undoing is told from the rest."""

from dataclasses import replace

import numpy as np
import torch

from medmol_diffusion.mri import HaarStage, UNet3D, VolumeDiffusion
from medmol_diffusion.mri.transforms import Grid
from tests.benchmarks.harmonisation import AS_IT_IS, OTHER, USUAL, Scanner, figures, harmonised, rows

GRID = Grid((24, 32, 24), 8.0)


def untrained() -> VolumeDiffusion:
    torch.manual_seed(0)
    model = VolumeDiffusion(list(GRID.shape), HaarStage(1), network=UNet3D(16, 16, [8], 1), spacing=8.0).eval()
    model.first_stage.spectrum.std.fill_(0.3)
    return model


def test_a_scan_of_the_usual_scanner_is_no_distance_from_itself_and_one_of_another_is() -> None:
    model, (truth, other) = untrained(), (scanner.scan(0, GRID, "T1w") for scanner in (USUAL, OTHER))
    same, apart = figures(model, [truth], [truth])[0], figures(model, [other], [truth])[0]
    assert same[0] < 1e-9
    assert np.isinf(same[1])
    assert same[2] > 0.9999
    assert apart[0] > 0.05
    assert apart[1] < 30
    assert np.array_equal(other.data, OTHER.scan(0, GRID, "T1w").data)
    contrast = replace(truth, data=7 * Scanner(1.4).scan(0, GRID, "T1w").data + 3)  # units are no matter
    assert 0.02 < figures(model, [contrast], [truth])[0, 0] < apart[0] + 0.05


def test_varying_is_held_against_leaving_the_scan_as_it_is_head_by_head() -> None:
    found = harmonised(untrained(), "T1w", 3, [0.02, 0.9], steps=2)
    assert list(found) == [AS_IT_IS, "vary, strength 0.02", "vary, strength 0.9"]
    plain, little, much = found.values()
    assert np.abs(little - plain).max() < np.abs(much - plain).max()
    assert (much[:, 2] < plain[:, 2]).all()  # an untrained model makes no head
    shown = rows(found)
    assert [row[0] for row in shown] == list(found)
    gain = (much - plain)[:, 1].mean()
    assert f"{gain:+.2f} (" in shown[2][2]
