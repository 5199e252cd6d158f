"""Models of their own, for methods that the model under test cannot serve: --own METHOD=MODEL.

An autoencoder restores for the method `autoencoder` beside the model; for any other method MODEL takes the model's
place: one of Translation for `translate`, one of covariates for `counterfactual`, asked for --own-covariate. In the
place of MODEL, tests.benchmarks.anomaly_folds takes a config that ends in .yaml, and trains by it in every fold.
"""

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from medmol_diffusion.cli.sampling import asked_covariates
from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import METHODS, VolumeDiffusion
from medmol_diffusion.mri.anomaly import Setting
from medmol_diffusion.mri.autoencoder import Autoencoder
from medmol_diffusion.training.folder import CONFIG, find_model
from medmol_diffusion.training.saved import load_model


def add_own(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--own", nargs="+", default=[], metavar="METHOD=MODEL", help="a model of a method's own")
    parser.add_argument("--own-covariate", nargs="+", default=[], metavar="NAME=VALUE", help="what those are asked for")


def models_of(texts: Iterable[str]) -> dict[str, str]:
    """Method -> model.

    Raises:
        InputError: it is written otherwise, or there is no such method.
    """
    out = {}
    for text in texts:
        method, _, model = text.partition("=")
        if method not in METHODS or not model:
            raise InputError(f"--own {text}: write METHOD=MODEL, METHOD one of {', '.join(METHODS)}")
        out[method] = model
    return out


def own_setting(setting: Setting, path: str | Path, covariates: Iterable[str]) -> Setting:
    """The setting with a model of a method's own.

    Raises:
        InputError: it is no model of scans.
    """
    model = load_model(path).to(setting.model.device).eval()
    if isinstance(model, Autoencoder):
        return replace(setting, autoencoder=model)
    if not isinstance(model, VolumeDiffusion):
        raise InputError(f"--own {path} is no model of scans")
    return replace(setting, model=model, healthy=asked_covariates(covariates if model.covariates is not None else ()))


def own_config(config: Path, run: Path, file: Path, images: Mapping[str, str]) -> Path:
    """Write to FILE a config that trains a model of a method's own on what a run was trained on: the data, the shape
    and the spacing are the run's. Where the config's data have images, data.images are ``images``."""
    own, theirs = yaml.safe_load(config.read_text()), yaml.safe_load((run / CONFIG).read_text())
    beside = (own.get("data", {}).get("init_args") or {}).get("images")
    data = dict(theirs["data"]["init_args"]) | ({"images": dict(images)} if beside else {})
    own["data"] = {"class_path": theirs["data"]["class_path"], "init_args": data}
    arguments = theirs["model"]["model"]["init_args"]
    own["model"]["model"]["init_args"] |= {name: arguments.get(name) for name in ("shape", "spacing")}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(own))
    return file


def stamp(model: str | Path) -> dict[str, Any]:
    """What tells whether a model is still the same: where it lies, and when its weights were written."""
    folder = find_model(model)
    weights = [*folder.glob("*.safetensors"), *folder.glob("checkpoints/last.ckpt")]
    return {"model": folder.resolve(), "written": max((file.stat().st_mtime_ns for file in weights), default=0)}
