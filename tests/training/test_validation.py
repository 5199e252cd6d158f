"""The likelihood table: what is said of a total that nobody can quote, and how a missing error is shown."""

import math
from io import StringIO

import pytest
import torch
from rich.console import Console

from medmol_diffusion.core import Elbo
from medmol_diffusion.molecules import EGNN, MoleculeDiffusion
from medmol_diffusion.training.validation import bound_table, doubt

NAN = math.nan


def bound(totals: list[float], draw_variance: float, method: str = "bound", **settings: float) -> Elbo:
    """Totals of some examples, every one with this variance over its draws."""
    total = torch.tensor(totals, dtype=torch.float64)
    return Elbo(
        terms={"diffusion": total},
        dim=torch.full_like(total, 30.0),
        draw_variance=torch.full_like(total, draw_variance),
        settings={"gamma_0": -10.0, "gamma_1": 10.0, "draws": 4.0, "transitions": 1000.0, **settings},
        blocks={"diffusion/charges": total, "diffusion/formal_charges": total},
        method=method,
    )


NEAR, FAR = [-101.0, -100.0, -99.0, -100.0], [-140.0, -60.0, -100.0, -100.0]  # standard errors 0.41 and 16.3


@pytest.mark.parametrize(
    ("found", "cure"),
    [
        (bound(NEAR, 0.1), None),
        (bound([0.0, 1.0, -1.0, 0.0], 0.1), None),  # near zero a nat is allowed
        (bound([1000.0, 1080.0, 920.0, 1000.0], 0.1), None),  # 33 nats, 3 % of it
        (bound(FAR, 0.1), "more examples"),
        (bound(FAR, NAN), "more examples and more --draws, or --draws exact"),
        (bound(FAR, NAN, exact=1.0), "more examples"),
        (bound(FAR, 1000.0), "more --draws, or --draws exact"),
        (bound(NEAR, 1000.0), "more --draws, or --draws exact"),  # 15.8, whatever the spread of four examples is
        (bound(FAR, 1000.0, transitions=0.0), "more --draws"),
        (bound(FAR, 1000.0, method="iwae"), "more --draws"),
        (bound([-100.0], 1000.0), "more --draws, or --draws exact"),
        (bound([-100.0], 1.0), None),
    ],
)
def test_a_total_within_a_nat_or_5_percent_is_silent_and_any_other_says_what_to_take(
    found: Elbo, cure: str | None
) -> None:
    said = doubt(found)
    assert (said is None) == (cure is None)
    assert said is None or said.endswith(f": take {cure}")


def test_one_draw_of_one_example_is_said_to_be_of_unknown_error() -> None:
    assert "not known from one draw of one example" in str(doubt(bound([-100.0], NAN)))
    assert doubt(bound([-100.0], NAN, exact=1.0)) is None


def test_an_error_that_cannot_be_told_is_a_dash_and_blocks_have_the_names_given() -> None:
    model = MoleculeDiffusion([1, 6], EGNN(2, 2, hidden=8, edge_hidden=8, layers=1), max_atoms=5)
    console = Console(width=160, record=True, file=StringIO())
    console.print(bound_table(model, bound([-100.0], NAN), names={"charges": "nuclear charges"}))
    text = console.export_text()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    assert [row[0] for row in rows[-2:]] == ["of diffusion: nuclear charges", "of diffusion: formal charges"]
    assert {row[2] for row in rows} == {"-"}
    assert "nan" not in text
