"""Pages show names; they never obey them."""

import ast
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

import medmol_diffusion
from medmol_diffusion.cli import main
from medmol_diffusion.molecules import write_sdf
from tests.conftest import random_molecules, write_scans

pytestmark = pytest.mark.filterwarnings("default::UserWarning")  # which the suite turns into errors elsewhere
NAMES = (
    "<script>alert(1)<",
    "'><img src=x onerror=alert(1)>",
    '"><b onclick="x">',
    "]]><svg onload=x>",
    "&lt;script&gt;",
)
MOLECULE_NAMES = (*NAMES, "</script><script>alert(1)</script>", "\\u003cscript>", "<!--")


class Elements(HTMLParser):
    """The elements of a page, and whether it reaches for anything or runs anything of a name."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            assert name not in ("src", "href") or str(value).startswith(("data:", "#")), (tag, value)


def test_a_page_of_molecules_with_hostile_names_has_the_elements_of_one_with_plain_names(tmp_path: Path) -> None:
    made, pages = random_molecules(len(MOLECULE_NAMES)), []
    for file, names in (("plain.sdf", [f"m{i}" for i in range(len(made))]), (f"{NAMES[1]}.sdf", MOLECULE_NAMES)):
        write_sdf([replace(one, name=name) for one, name in zip(made, names, strict=True)], tmp_path / file)
        main(["score", str(tmp_path / file), "--html", str(tmp_path / "page.html")])
        pages.append((tmp_path / "page.html").read_text())
    assert "alert(1)" in pages[1]  # they are shown
    assert Elements(pages[1]).names == Elements(pages[0]).names


def test_a_page_of_scans_with_hostile_names_has_the_elements_of_one_with_plain_names(tmp_path: Path) -> None:
    pages = []
    plain = write_scans(tmp_path / "plain", len(NAMES))
    for folder in ("plain", "hostile"):
        if folder == "hostile":
            (tmp_path / folder).mkdir()
            for name, file in zip(NAMES, sorted(plain.iterdir()), strict=True):
                shutil.copy(file, tmp_path / folder / f"{name}.nii.gz")
        page = tmp_path / "page.html"
        main(["score", str(tmp_path / folder), "--reference", str(tmp_path / folder), "--html", str(page)])
        pages.append(page.read_text())
    assert "alert(1)" in pages[1]
    assert Elements(pages[1]).names == Elements(pages[0]).names


def test_markup_goes_into_a_report_from_our_own_drawing_only() -> None:
    """Report.markup and Report.svg insert what they are given as it is: our own words, or what escapes itself."""
    safe = {"viewer", "slice_viewer", "depictions", "gallery"}
    seen = set()
    for file in Path(medmol_diffusion.__file__).parent.rglob("*.py"):
        for call in ast.walk(ast.parse(file.read_text())):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
                continue
            if call.func.attr in ("markup", "svg") and getattr(call.func.value, "id", "") == "report":
                given = call.args[0]
                if not isinstance(given, ast.Constant):
                    assert isinstance(given, ast.Call), f"{file}:{call.lineno}"
                    seen.add(given.func.id)  # type: ignore[attr-defined]
    assert seen == safe
