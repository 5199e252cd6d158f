"""Python and YAML of README, docs and notebooks are real: they compile, what they name exists; test_guides.py runs
that of pages."""

import ast
import importlib
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from pytorch_lightning import Trainer

from medmol_diffusion.molecules import MoleculeData, MoleculeDiffusion, write_sdf
from medmol_diffusion.mri import MonaiDiffusion, VolumeData, VolumeDiffusion
from medmol_diffusion.training.module import DiffusionTask
from medmol_diffusion.training.saved import named_class
from tests.docs.pages import PAGES, ROOT, Block, blocks

SNIPPETS = [block for page in PAGES for block in blocks(page) if block.is_python]
NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))
OWN = {
    "data": (MoleculeData, VolumeData),
    "model": (DiffusionTask,),
    "model.model": (MoleculeDiffusion, VolumeDiffusion),
    "trainer": (Trainer,),
}
"""What a part of a config belongs to where it does not name its class."""
KEYS = {"data", "model", "network", "trainer", "ema", "checkpoint"}


def cells(notebook: Path) -> list[str]:
    return [
        "".join(cell["source"]) for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"
    ]


def imported(tree: ast.AST) -> Iterator[tuple[str, object]]:
    """name -> object of every import of the package; fails where there is none."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("medmol_diffusion"):
            module = importlib.import_module(str(node.module))
            for name in node.names:
                yield name.asname or name.name, getattr(module, name.name)


def check(code: str) -> None:
    """The code compiles, its imports exist, what it imports takes the keywords it is given, and models have the methods
    that are called."""
    tree = ast.parse(code)
    known = dict(imported(tree))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name) and callable(target := known.get(node.func.id)):
            parameters = inspect.signature(target).parameters.values()
            if not any(one.kind is one.VAR_KEYWORD for one in parameters):
                assert {word.arg for word in node.keywords} <= {one.name for one in parameters}, node.func.id
        if (
            isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "model"
        ):
            assert any(hasattr(kind, node.func.attr) for kind in (MoleculeDiffusion, VolumeDiffusion, MonaiDiffusion))


@pytest.mark.parametrize("block", SNIPPETS, ids=str)
def test_a_snippet_compiles_and_what_it_names_exists(block: Block) -> None:
    check(block.text)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_compiles_and_lies_here_without_outputs(notebook: Path) -> None:
    """`make docs` and tests/docs/test_site.py run it."""
    assert not any(cell.get("outputs") for cell in json.loads(notebook.read_text())["cells"])
    check("\n".join(cells(notebook)))


def _python(page: str) -> str:
    return "\n".join(block.text for block in blocks(page) if block.language == "python")


def test_the_snippet_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer molecules and steps."""
    monkeypatch.chdir(tmp_path)
    write_sdf(MoleculeDiffusion.from_pretrained("qm9-chno").sample(2, steps=2, sizes=[6, 7]), "molecules.sdf")
    code = _python("README.md")
    shorter = {
        "100, seed=0": "4, steps=3, seed=0",
        "draws=16": "draws=1",
        'method="flow"': 'method="flow", steps=2',
        "made[:4], ": "made[:4], steps=3, ",
        "4, seed=0": "4, seed=0, steps=3",
        "strength=0.4": "strength=0.4, steps=3",
    }
    for long, short in shorter.items():
        assert long in code
        code = code.replace(long, short)
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec"), names)
    assert len(names["made"]) == len(names["grown"]) == 4
    assert names["flow"].total.isfinite().all()
    assert len(names["others"]) == 4
    assert names["result"].map.data.shape == names["result"].restored.data.shape


def test_the_method_of_ones_own_runs() -> None:
    (code,) = (block.text for block in blocks("docs/guides/finding-anomalies.md") if "METHODS" in block.text)
    names: dict[str, Any] = {"__name__": "own"}
    exec(compile(code, "finding-anomalies.md", "exec"), names)
    try:
        scan = torch.zeros(1, 1, 9, 9, 9)
        scan[..., 4, 4, 4] = 1
        found = names["METHODS"]["opening"].restore(None, SimpleNamespace(data=scan))
        torch.testing.assert_close(found.scans, torch.zeros_like(scan))
    finally:
        del names["METHODS"]["opening"]


def _configs() -> Iterator[Any]:
    for page in PAGES:
        for block in blocks(page):
            if block.language in ("", "yaml") and re.match(rf"({'|'.join(KEYS)}):", block.text):
                yield pytest.param(yaml.safe_load(block.text), id=str(block))


CONFIGS = list(_configs())


@pytest.mark.parametrize("config", CONFIGS)
def test_the_keys_of_a_config_are_read_by_something(config: dict[str, Any]) -> None:
    assert set(config) <= KEYS
    for key, value in config.items():
        _check_part(key, value)


def _check_part(key: str, value: Any) -> None:
    if not isinstance(value, dict):
        return
    kinds = OWN.get(key, ())
    if "class_path" in value:
        if not value["class_path"].startswith("medmol_diffusion"):
            return  # a reader's own
        kind = named_class(value["class_path"])
        assert kind is not None, value["class_path"]
        kinds = (kind,)
    given = value.get("init_args", {} if "class_path" in value else value)
    assert kinds, key
    assert any(set(given) <= _arguments(kind) for kind in kinds), (key, sorted(given))
    for name, inner in given.items():
        if isinstance(inner, dict) and ("class_path" in inner or f"{key}.{name}" in OWN):
            _check_part(f"{key}.{name}", inner)


def _arguments(kind: type) -> set[str]:
    return {name for base in kind.__mro__ if "__init__" in vars(base) for name in inspect.signature(base).parameters}


def test_there_are_configs_and_snippets() -> None:
    assert len(CONFIGS) >= 6
    assert len(SNIPPETS) >= 15
    assert len(NOTEBOOKS) == 3
