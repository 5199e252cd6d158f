"""The solvers against equations with known solutions: order, tolerance, one step size per example."""

import math

import pytest
import torch
from torch import Tensor

from medmol_diffusion.core import DormandPrince, FixedGrid, Solver

START, END = torch.tensor([0.0, 0.5], dtype=torch.float64), torch.tensor([2.0, -1.0], dtype=torch.float64)


def field(t: Tensor, y: Tensor) -> Tensor:
    """y' = cos(t) y, whose solution is y exp(sin t - sin t_0)."""
    return t.cos()[:, None] * y


def solve(solver: Solver) -> Tensor:
    """[2] relative errors."""
    y = torch.tensor([[1.0, -3.0], [2.0, 0.1]], dtype=torch.float64)
    exact = y * torch.exp(END.sin() - START.sin())[:, None]
    return ((solver(field, y, START, END) - exact) / exact).abs().amax(1)


@pytest.mark.parametrize(("method", "order"), [("heun", 2), ("rk4", 4)])
def test_fixed_grids_converge_at_their_order(method: str, order: int) -> None:
    coarse, fine = solve(FixedGrid(40, method)), solve(FixedGrid(80, method))
    for ratio in (coarse / fine).log2().tolist():
        assert ratio == pytest.approx(order, abs=0.1)


def test_dormand_prince_meets_its_tolerance_and_no_more() -> None:
    for tolerance in (1e-4, 1e-7, 1e-10):
        error = solve(DormandPrince(tolerance, tolerance))
        assert error.max() < 10 * tolerance
        assert error.max() > 1e-5 * tolerance


def test_one_step_of_dormand_prince_is_of_fifth_order() -> None:
    """With a tolerance that accepts everything and the first step a hundredth of the way, steps grow fivefold: two of
    them cover 1/100 + 5/100 of the way, and halving the way divides the error of a step by 2^6."""

    def error(span: float) -> float:
        calls: list[float] = []

        def seen(t: Tensor, y: Tensor) -> Tensor:
            calls.append(t.item())
            return field(t, y)

        start = torch.zeros(1, dtype=torch.float64)
        y = torch.ones(1, 1, dtype=torch.float64)
        found = DormandPrince(1e3, 1e3)(seen, y, start, start + span)
        assert len(calls) == 1 + 6 * 4  # steps of 1, 5, 25 and 69 hundredths, each reusing the last stage
        return abs(found.item() - math.exp(math.sin(span)))

    assert math.log2(error(0.4) / error(0.2)) == pytest.approx(6, abs=0.3)


def test_the_steps_of_an_example_are_its_own() -> None:
    """A hard example beside an easy one changes nothing for the easy one, bit for bit."""
    rate = torch.tensor([1.0, 60.0], dtype=torch.float64)
    solver = DormandPrince(1e-6, 1e-6)

    def run(rows: list[int]) -> Tensor:
        start = torch.zeros(len(rows), dtype=torch.float64)
        y = torch.ones(len(rows), 1, dtype=torch.float64)
        return solver(lambda t, y: rate[rows, None] * torch.cos(rate[rows] * t)[:, None] * y, y, start, start + 1)

    together = run([0, 1])
    assert torch.equal(run([0]), together[:1])
    torch.testing.assert_close(together[:, 0], torch.exp(torch.sin(rate)), rtol=1e-4, atol=0)


def test_entries_of_zeros_change_nothing() -> None:
    solver = DormandPrince(1e-6, 1e-6)
    y = torch.tensor([[1.0], [2.0]], dtype=torch.float64)
    padded = torch.cat([y, torch.zeros(2, 7, dtype=torch.float64)], 1)
    assert torch.equal(solver(field, padded, START, END)[:, :1], solver(field, y, START, END))


def test_impossible_solvers_are_refused() -> None:
    with pytest.raises(ValueError, match="steps = 0"):
        FixedGrid(0)
    with pytest.raises(ValueError, match="unknown method 'euler': choose one of heun, rk4"):
        FixedGrid(3, "euler")
    with pytest.raises(ValueError, match="must be positive"):
        DormandPrince(rtol=0.0)
    with pytest.raises(ValueError, match="max_steps = 3: loosen rtol"):
        solve(DormandPrince(1e-12, 1e-12, max_steps=3))
    one = torch.ones(1, dtype=torch.float64)
    with pytest.raises(ValueError, match="max_steps = 50"):
        DormandPrince(max_steps=50)(lambda t, y: y * torch.nan, one[:, None], one, one + 1)
