"""The core needs torch alone, each domain its own extra; whatever is missing, one sentence says what to install."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from medmol_diffusion.extras import EXTRAS, TRAINING, MissingExtra, installed, need

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BLOCKED = """
import sys
from importlib.abc import MetaPathFinder

class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named '{{name}}'", name=name)

sys.meta_path.insert(0, Missing())
"""
"""As if these packages were not installed."""
VERBS = """
from medmol_diffusion.__main__ import main

def medmol(*words):
    sys.argv[1:] = words
    try:
        main()
    except SystemExit as end:
        return end.code
    return 0

"""


def without(names: set[str], code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run code where these packages are missing."""
    whole = BLOCKED.format(names=sorted(names)) + VERBS + code
    done = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    return done


def distributions(extra: str) -> set[str]:
    """The names of what an extra of pyproject.toml brings, those of the extras in it among them."""
    found = set()
    for line in PROJECT["optional-dependencies"][extra]:
        inner = re.match(r"medmol_diffusion\[(.*)\]", line)
        names = inner[1].split(",") if inner else ()
        found |= {one for name in names for one in distributions(name)} if inner else {re.split(r"[\[>=]", line)[0]}
    return found


@pytest.mark.parametrize("extra", ["training", "molecules", "mri"])
def test_an_extra_brings_what_is_asked_for(extra: str) -> None:
    origin = packages_distributions()
    brought = {name.lower() for module in EXTRAS[extra] for name in origin[module]}
    assert brought == {name.lower() for name in distributions(extra)}


def test_everything_is_in_all_and_the_core_needs_torch_alone() -> None:
    assert [re.split("[>=]", line)[0] for line in PROJECT["dependencies"]] == ["torch"]
    assert distributions("all") == distributions("molecules") | distributions("mri") | {"ase", "msgpack"}
    assert set(EXTRAS["all"]) == set(EXTRAS["molecules"]) | set(EXTRAS["mri"])
    assert installed("all")


def test_what_is_there_but_does_not_load_is_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ImportError(f"{name} wants another glibc")

    monkeypatch.setattr("medmol_diffusion.extras.find_spec", broken)
    need("mri", "this")
    monkeypatch.setattr("medmol_diffusion.extras.find_spec", lambda name: None if name == "nibabel" else name)
    with pytest.raises(MissingExtra, match=r"^this needs nibabel: pip install 'medmol_diffusion\[mri\]'$"):
        need("mri", "this")


def test_the_core_runs_with_torch_alone(tmp_path: Path) -> None:
    code = """
import torch
from medmol_diffusion.core import DDIM, Dense, GaussianDenoiser, Cosine, grid, sample
generator, z = torch.Generator().manual_seed(0), torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
x = sample(GaussianDenoiser(torch.ones(3)), DDIM(), grid(Cosine(), 3), Dense(z), z, generator)
assert x.shape == z.shape and x.isfinite().all()
for name in ("mri", "molecules", "training"):
    try:
        __import__("medmol_diffusion." + name)
    except ImportError as error:
        print(error)
assert medmol("models") == 2
"""
    done = without(set(EXTRAS["all"]) | {"ase", "msgpack", "pandas", "PIL", "jaxtyping"}, code, tmp_path)
    said = done.stdout.splitlines()
    assert [line.partition(" needs ")[0] for line in said] == [
        *("medmol_diffusion.mri", "medmol_diffusion.molecules", "medmol_diffusion.training")
    ]
    assert all(
        line.endswith(f"pip install 'medmol_diffusion[{name}]'")
        for line, name in zip(said, ("mri", "molecules", "training"), strict=True)
    )
    assert done.stderr.splitlines()[-1].startswith("error: medmol needs jsonargparse")
    assert "[molecules]' for molecules, 'medmol_diffusion[mri]' for scans" in done.stderr


def test_the_verbs_of_molecules_need_nothing_of_scans(tmp_path: Path) -> None:
    code = """
assert medmol("models") == 0
assert medmol("sample", "qm9-chno", "-n", "2", "--steps", "2", "--size", "5", "-o", "made.sdf") == 0
assert medmol("score", "made.sdf") == 0
assert medmol("doctor", "made.sdf") == 0
assert medmol("validate", "qm9-chno", "--data", "made.sdf", "--skip", "--draws", "1") == 0
assert medmol("vary", "qm9-chno", "made.sdf", "-n", "1", "--steps", "2", "-o", "others.sdf") == 0
assert not {"nibabel", "monai"} & set(sys.modules)
for words in (("sample", "head-phantom", "-o", "heads"), ("doctor", "."), ("demo",)):
    print("ends", medmol(*words))
"""
    (tmp_path / "scan.nii.gz").touch()
    done = without(set(EXTRAS["mri"]) - set(TRAINING), code, tmp_path)
    assert done.stdout.count("ends 2") == 2, done.stdout
    assert "ends 0" in done.stdout  # the folder holds molecules
    assert done.stderr.count("medmol_diffusion.mri needs einops, monai, nibabel, pydicom: pip install") == 1
    assert "medmol demo needs einops, monai, nibabel, pydicom: pip install 'medmol_diffusion[all]'" in done.stderr


def test_the_verbs_of_scans_need_nothing_of_molecules(tmp_path: Path) -> None:
    code = """
import numpy as np
from medmol_diffusion.mri import Volume
for place in range(3):
    Volume(np.random.default_rng(place).random((8, 8, 8)), np.eye(4)).write(f"scans/sub-{place}_T1w.nii.gz")
assert medmol("doctor", "scans") == 0
assert medmol("sample", "head-phantom", "-n", "1", "--steps", "1", "-o", "made") == 0
assert medmol("split", "scans", "-o", "split.json", "--validation", "0.34", "--test", "0.34") == 0
assert medmol("score", "scans", "--reference", "scans") == 0
assert not {"rdkit", "e3nn"} & set(sys.modules)
for words in (("sample", "qm9-chno", "-o", "made.sdf"), ("score", "made.sdf"), ("demo",)):
    assert medmol(*words) == 2
"""
    (tmp_path / "made.sdf").write_text("no molecule\n")
    done = without(set(EXTRAS["molecules"]) - set(TRAINING), code, tmp_path)
    missing = "medmol_diffusion.molecules needs e3nn, posebusters, rdkit: pip install 'medmol_diffusion[molecules]'"
    assert done.stderr.count(missing) == 2, done.stderr
    assert "medmol demo needs e3nn, posebusters, rdkit: pip install 'medmol_diffusion[all]'" in done.stderr
