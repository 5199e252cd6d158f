"""The shapes in the core's signatures are held against calls under pytest, and cost a user of the core nothing."""

import subprocess
import sys

import pytest
import torch
from jaxtyping import TypeCheckError

from medmol_diffusion.core import Dense, GaussianDenoiser, LinearGamma, Prediction, V, diffuse, grid
from medmol_diffusion.core.schedule import per_example

STATE, GAMMA = torch.zeros(2, 3, 4, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)


def test_states_of_two_shapes_are_told_apart() -> None:
    assert diffuse(STATE, STATE, GAMMA).shape == STATE.shape
    with pytest.raises(TypeCheckError, match="eps"):  # torch would broadcast it
        diffuse(STATE, STATE[:, :1], GAMMA)


def test_a_level_for_each_example_is_no_level_for_all() -> None:
    with pytest.raises(TypeCheckError, match="gamma"):  # torch would take this one as well
        diffuse(STATE, STATE, GAMMA[:1])
    with pytest.raises(TypeCheckError, match="value"):
        per_example(STATE[0], STATE)


def test_a_prediction_whose_output_has_another_shape_is_refused() -> None:
    with pytest.raises(TypeCheckError, match="z"):
        Prediction(STATE[:, :1], STATE, GAMMA, V(), Dense(STATE))


def test_what_comes_out_is_checked_too() -> None:
    class Short(LinearGamma):
        def time(self, gamma: torch.Tensor) -> torch.Tensor:
            return super().time(gamma)[:1]

    with pytest.raises(TypeCheckError, match="log_density"):
        Short().log_density(GAMMA)


def test_a_grid_is_one_vector_and_whole_numbers_are_no_levels() -> None:
    assert grid(LinearGamma(), 4).shape == (5,)
    with pytest.raises(TypeCheckError, match="gamma"):
        GaussianDenoiser(torch.ones(12, dtype=torch.float64))(STATE, GAMMA.long(), Dense(STATE))


def test_without_jaxtyping_the_core_runs_as_it_is() -> None:
    code = """
import sys
import torch, medmol_diffusion.core as core
from medmol_diffusion.core import shapes
assert "jaxtyping" not in sys.modules and "beartype" not in sys.modules
assert shapes.State.__metadata__ == ("batch *state",) and shapes.State.__origin__ is torch.Tensor
assert core.diffuse(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2)).shape == (2, 3)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
