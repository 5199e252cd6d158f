"""The tables of a handful of molecules: every measure has one, with a word or "-" where there is no figure."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from medmol_diffusion.judging.cells import interval, number
from medmol_diffusion.judging.table import ScoreTable
from medmol_diffusion.molecules.judge.score_report import full_tables, rules_table
from medmol_diffusion.molecules.judge.strain import strain_scores
from medmol_diffusion.molecules.molecule import Molecule
from tests.molecules import geometries as known

CROWD = Molecule([6, 1, 1, 1, 1, 1], [[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1]])
HELIUM = Molecule([2], [[0, 0, 0]])


@contextmanager
def silent(title: str, total: int) -> Iterator[Callable[[int], None]]:
    yield lambda done: None


def tables(molecules: list[Molecule], reference: list[Molecule] | None) -> dict[str, ScoreTable]:
    rules = rules_table(molecules, reference, "distances", 0)
    return {one.key: one for one in [rules, *full_tables(molecules, reference, "distances", silent)]}


def test_a_cell_says_its_figure_or_that_there_is_none() -> None:
    assert number(12.3456, unit="pm") == "12.35 pm"
    assert number(0.5, ".1f", "%") == "0.5 %"
    assert number(0.0) == "0"
    assert interval(0.1, 0.25, ".2f") == "0.10 - 0.25"
    nan = float("nan")
    assert {number(nan, unit="pm"), number(None), interval(nan, 1), interval(1, nan)} == {"-"}


@pytest.mark.parametrize("reference", [None, [known.WATER], [CROWD, HELIUM]], ids=["none", "one", "strange"])
@pytest.mark.parametrize(
    "molecules",
    [[known.WATER], [HELIUM], [CROWD], [known.WATER, known.ETHENE]],
    ids=["water", "helium", "crowd", "two"],
)
def test_one_or_two_molecules_have_every_table_and_no_nan(
    molecules: list[Molecule], reference: list[Molecule] | None
) -> None:
    found = tables(molecules, reference)
    expected = {"rules", "properties", "diversity", "strain", "posebusters"}
    assert set(found) == (expected if reference is None else expected | {"distances"})
    for table in found.values():
        assert table.rows
        assert all(len(row) == len(table.header) for row in table.rows)
        assert not any("nan" in cell for row in table.rows for cell in row)


def test_means_of_two_have_no_interval_and_of_three_one() -> None:
    two, three = (
        tables(molecules, None) for molecules in ([known.WATER, known.ETHENE], [known.WATER, known.ETHENE] * 2)
    )
    for key, column in (("properties", 2), ("diversity", 2), ("strain", 2), ("strain", 4)):
        assert two[key].rows[0][column] == "-"
        assert " - " in three[key].rows[0][column]
    apart = tables([known.WATER, known.ETHENE], [known.WATER])["distances"].rows
    assert {row[2] for row in apart} == {"-"}


def test_distances_of_many_molecules_have_no_interval_where_few_have_the_quantity() -> None:
    rows = {row[0]: row for row in tables([known.ETHENE, *[known.WATER] * 4], [known.ETHENE])["distances"].rows}
    assert rows["dihedrals"][2] == "-"
    assert " - " in rows["number of atoms"][2]


def test_the_strain_table_says_how_many_could_not_be_relaxed_and_why() -> None:
    borane = Molecule([5, 1, 1, 1], [[0, 0, 0], [1.19, 0, 0], [-0.595, 1.03, 0], [-0.595, -1.03, 0]])
    table = tables([borane, CROWD, borane], None)["strain"]
    assert table.rows == [("none could be relaxed", "-", "-", "-", "-", "0")]
    said = "0 of 3 relaxed (0 of them not to the end), 2 without MMFF94 parameters, 1 not one sound molecule"
    assert said in table.meaning
    assert strain_scores([known.WATER, borane]).outcome().startswith("1 of 2 relaxed")
