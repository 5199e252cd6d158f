"""The pages of the reference have every public name, and no other."""

import importlib
import re

import pytest
import yaml

from tests.docs.pages import ROOT

PAGES = sorted((ROOT / "docs" / "api").glob("*.md"))
SHOWN = [name for page in PAGES for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)]


def resolved(name: str) -> object:
    """The object of a dotted name: as much of it as is a module, and attributes of that."""
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise AssertionError(f"{name} is not there")


@pytest.mark.parametrize("name", SHOWN)
def test_a_name_of_the_reference_exists(name: str) -> None:
    resolved(name)


@pytest.mark.parametrize("package", ["core", "molecules", "mri", "mri.anomaly", "mri.anomaly.evaluation"])
def test_every_public_name_is_in_the_reference(package: str) -> None:
    module = importlib.import_module(f"medmol_diffusion.{package}")
    short = {name.rsplit(".", 1)[1] for name in SHOWN}
    assert set(module.__all__) <= short


def test_no_name_is_there_twice() -> None:
    assert len(SHOWN) == len(set(SHOWN))


def test_the_navigation_has_every_page_of_docs() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    listed = set(re.findall(r"[\w/-]+\.md", yaml.safe_dump(config["nav"])))
    docs = ROOT / "docs"
    pages = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")}
    notebooks = {path.relative_to(docs).with_suffix(".md").as_posix() for path in docs.rglob("*.ipynb")}
    assert pages | notebooks <= listed
    assert listed - pages - notebooks == {"commands.md", "CONTRIBUTING.md", "CHANGELOG.md"}
