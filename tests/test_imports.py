"""Imports run one way, and heavy libraries stay inside their domain."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import medmol_diffusion

PACKAGE = Path(medmol_diffusion.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
# What each room may import of the package, beside itself, errors.py, extras.py and the version.
ALLOWED = {
    "errors": set[str](),
    "extras": set[str](),
    "progress": set[str](),
    "plural": set[str](),
    "whole_file": set[str](),
    "core": set[str](),
    "pretrained": set[str](),
    "judging": {"whole_file"},
    "training": {"core", "progress", "plural", "pretrained", "whole_file"},
    "molecules": {"core", "training", "judging", "progress", "plural", "whole_file"},
    "mri": {"core", "training", "judging", "plural", "whole_file"},
    "testing": {"core", "molecules"},
    "report": {"core", "training", "molecules", "mri", "whole_file"},
    "score_page": {"judging", "molecules", "report", "plural"},
    "scan_page": {"mri", "report", "plural"},
    "anomaly_page": {"judging", "mri", "report", "plural"},
    "demo": {"core", "training", "molecules", "mri", "progress", "report"},
    "cli": {
        *("progress", "plural", "core", "pretrained", "training", "molecules", "mri", "report"),
        *("score_page", "scan_page", "anomaly_page", "demo", "whole_file"),
    },
    "__main__": set[str](),
}


def imported(file: Path) -> set[str]:
    """The absolute names of every module a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room(dotted: str) -> str:
    return dotted.split(".")[1]


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_run_one_way(file: Path) -> None:
    own = [name for name in imported(file) if name.split(".")[0] == "medmol_diffusion"]
    here = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if here == "__init__":
        assert not own
        return
    rooms = {room(name) for name in own} - {"errors", "extras", "__version__", here}
    assert rooms <= ALLOWED[here], f"{file} reaches for {sorted(rooms - ALLOWED[here])}"


@pytest.mark.parametrize("file", sorted((PACKAGE / "core").rglob("*.py")), ids=lambda file: file.name)
def test_core_needs_torch_alone(file: Path) -> None:
    roots = {name.split(".")[0] for name in imported(file)}
    assert roots - sys.stdlib_module_names <= {"torch", "medmol_diffusion"}


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_core_loads_no_heavy_library() -> None:
    heavy = ("pytorch_lightning", "lightning", "rdkit", "monai", "nibabel", "scipy", "matplotlib", "jsonargparse")
    loaded = run("import sys, medmol_diffusion.core; print(*sys.modules)").split()
    assert "torch" in loaded
    assert not {name.split(".")[0] for name in loaded} & set(heavy)


def test_molecules_are_read_and_judged_without_torch() -> None:
    """Which takes a second to load: that of a short file's whole score, and of each process that judges a long one."""
    loaded = run(
        """
import sys
import numpy as np
from medmol_diffusion.molecules import Molecule, read_molecules
from medmol_diffusion.molecules.judge import judged, score_report, verdict

verdict.judge([Molecule(np.array([8, 1, 1]), np.array([[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]]))], "distances")
print(*sys.modules)
"""
    ).split()
    assert "rdkit.Chem" in loaded
    assert "torch" not in loaded


def test_models_and_data_load_without_rdkit_monai_and_e3nn() -> None:
    run(
        """
import importlib.abc, sys

class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("rdkit", "monai", "e3nn"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Block())
import medmol_diffusion.cli, medmol_diffusion.molecules, medmol_diffusion.mri
from medmol_diffusion.molecules import chemistry, data, features, model, molecule, size
from medmol_diffusion.molecules.networks import egnn
from medmol_diffusion.mri import anomaly, first_stages, unet, volume
"""
    )
