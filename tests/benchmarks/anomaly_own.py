"""Models of their own, for methods that the model under test cannot serve: --own METHOD=MODEL.

An autoencoder restores for the method `autoencoder` beside the model; for any other method MODEL takes the model's
place: one of Translation for `translate`, one of covariates for `counterfactual`, asked for --own-covariate.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri import METHODS, VolumeDiffusion
from medmol_diffusion.mri.anomaly import Setting
from medmol_diffusion.mri.anomaly.evaluation import Evaluation, Evaluator
from medmol_diffusion.mri.anomaly.evaluation.evaluator import Seen
from medmol_diffusion.mri.autoencoder import Autoencoder
from medmol_diffusion.training.saved import load_model


def add_own(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--own", nargs="+", default=[], metavar="METHOD=MODEL", help="a model of a method's own")
    parser.add_argument("--own-covariate", nargs="+", default=[], metavar="NAME=VALUE", help="what those are asked for")


def models_of(texts: list[str]) -> dict[str, str]:
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


def run_own(
    own: dict[str, str], by: Evaluator, setting_of: Callable[[VolumeDiffusion], Setting], device: str, seen: Seen
) -> list[Evaluation]:
    """Every method of ``own`` by its model, on the scans of ``by``."""
    found = []
    for name, path in own.items():
        model = load_model(path).to(device).eval()
        if isinstance(model, Autoencoder):
            setting = replace(by.setting, autoencoder=model)
        elif isinstance(model, VolumeDiffusion):
            setting = setting_of(model)
        else:
            raise InputError(f"--own {name}={path} is no model of scans")
        other = Evaluator(setting, by.healthy, by.test, by.quantile, by.overlap, by.draws, by.seed)
        found.append(other.evaluate(name, seen=seen))
    return found
