"""The report is one self-contained, escaped page."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from medmol_diffusion.molecules import Molecule
from medmol_diffusion.molecules.picture import depictions, legend
from medmol_diffusion.report import Report


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.found += [value or "" for key, value in attrs if key in ("src", "href")]


def test_a_report_is_self_contained_and_escapes_what_it_shows(tmp_path: Path) -> None:
    report = Report("a <b> title", "<script>alert(1)</script>")
    report.heading("Section & more")
    report.text("<img src='http://example.org/x.png'>")
    report.table(["<i>"], [["<script>"]])
    report.curve({"loss": ([0, 1, 2], [3.0, 2.0, 1.0])}, "step", "loss", "a 'quoted' caption")
    page = report.write(tmp_path / "report.html").read_text(encoding="utf-8")
    links = Links()
    links.feed(page)
    assert links.scripts == 0
    assert links.found
    assert all(link.startswith("data:") for link in links.found)
    assert "&lt;script&gt;alert(1)" in page


def test_only_a_table_that_ends_in_sentences_is_as_wide_as_they_need(tmp_path: Path) -> None:
    report = Report("x", "y")
    report.table(["score", "n"], [["a", "5"]])
    report.table(["term", "what it is"], [["a", "b"], ["prior", "how far the end is from noise"]])
    report.table(["empty"], [])
    page = report.write(tmp_path / "x.html").read_text(encoding="utf-8")
    assert [part.split(">")[0] for part in page.split("<table")[1:]] == ["", " class='wordy'", ""]
    assert page.count("<div class='scroll' tabindex='0'>") == 3


def test_depictions_show_valid_and_invalid_molecules() -> None:
    water = Molecule(np.array([8, 1, 1]), np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
    crowd = Molecule(
        np.array([6] * 6), np.array([[0, 0, 0], [1.4, 0, 0], [-1.4, 0, 0], [0, 1.4, 0], [0, -1.4, 0], [0, 0, 1.4]])
    )
    assert legend(water) == "O"
    assert legend(crowd) == "not valid"
    far = Molecule(water.atomic_numbers, water.positions * 3, bonds=[[0, 1, 1], [0, 2, 1]])
    assert legend(far) == "O"  # by the bonds it has
    assert depictions([water, crowd]).count("<svg") == 1
