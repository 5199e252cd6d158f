"""What is released says one version, and holds what it should."""

import re
import tomllib
from pathlib import Path

import yaml
from setuptools import find_packages
from setuptools.command.build_py import build_py
from setuptools.dist import Distribution

import medmol_diffusion
from medmol_diffusion.pretrained import shipped

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_one_version_everywhere() -> None:
    version = PROJECT["project"]["version"]
    assert version == medmol_diffusion.__version__
    assert version == str(yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"])
    assert version in (ROOT / "CHANGELOG.md").read_text()


def test_every_file_of_the_package_goes_into_the_wheel() -> None:
    """By setuptools' own account of packages and data, which `make wheel` goes by."""
    setting = PROJECT["tool"]["setuptools"]
    packages = find_packages(str(ROOT), include=setting["packages"]["find"]["include"])
    known = {"packages": packages, "package_dir": {"": str(ROOT)}, "package_data": setting["package-data"]}
    command = build_py(Distribution({**known, "script_name": "setup.py"}))
    command.finalize_options()
    modules = {Path(file) for *_, file in command.find_all_modules()}
    data = {Path(folder) / name for _, folder, _, names in command.data_files for name in names}
    everything = (ROOT / "medmol_diffusion").rglob("*")
    there = {file for file in everything if file.is_file() and "__pycache__" not in file.parts}
    assert modules | data == there
    assert {file.name for file in data} == {"py.typed", "model.safetensors", "config.yaml", "card.md", "scores.json"}
    assert len(shipped()) == sum(file.name == "model.safetensors" for file in data)


def test_every_dependency_has_its_exact_version() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    exact = {line.partition("==")[0].lower() for line in lines if "==" in line}
    project = PROJECT["project"]
    asked = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    names = {re.split(r"[\[>=]", one)[0].lower() for one in asked} - {"medmol_diffusion"}
    assert names <= exact
    assert (ROOT / "LICENSE").is_file()
    assert PROJECT["project"]["license-files"] == ["LICENSE"]
