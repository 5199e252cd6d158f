"""The site is built without a warning, and the tutorial notebooks are run for it."""

from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config

from tests.docs.pages import ROOT


def test_the_site_is_built_without_a_warning_and_the_notebooks_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `make docs` does it: mkdocs.yml is strict, and a cell that fails ends the build."""
    monkeypatch.delenv("MEDMOL_DOCS_RUN", raising=False)
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path))
    assert config.strict
    build(config)
    for notebook in (ROOT / "docs" / "tutorials").glob("*.ipynb"):
        page = (tmp_path / "tutorials" / f"{notebook.stem}.html").read_text()
        assert 'class="outputs"' in page
        assert "<img" in page
