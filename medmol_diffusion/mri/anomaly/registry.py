"""The methods by name. To add one: METHODS["name"] = Method(restore), with any stage of its own."""

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly.ensemble import Ensemble
from medmol_diffusion.mri.anomaly.method import Method
from medmol_diffusion.mri.anomaly.residual import BoundMap
from medmol_diffusion.mri.anomaly.restore.autoencoder import AutoencoderRestore
from medmol_diffusion.mri.anomaly.restore.black import Black
from medmol_diffusion.mri.anomaly.restore.healthy_mean import HealthyMean
from medmol_diffusion.mri.anomaly.restore.one_shot import OneShot
from medmol_diffusion.mri.anomaly.restore.partial import Partial
from medmol_diffusion.mri.anomaly.restore.pca import PCA
from medmol_diffusion.mri.anomaly.restore.smoothing import Smoothing
from medmol_diffusion.mri.anomaly.score import Bound, Curvature, Deviation, MultiStart

STARTS = (-2.16, -0.09, 1.42, 2.46, 3.63, 5.70)
"""t = 100, 250, 400, 500, 600 and 750 of 1000."""

METHODS: dict[str, Method | Ensemble] = {
    "one_shot": Method(OneShot()),
    "partial": Method(Partial()),
    "elbo": Method(OneShot(), BoundMap(), score=Bound()),
    "ood": Method(OneShot(), score=MultiStart(tuple(Partial(gamma, 10, "plms", 1) for gamma in STARTS))),
    "curvature": Method(OneShot(), score=Deviation(Curvature())),
    "ensemble": Ensemble((Method(OneShot()), Method(Partial()), Method(OneShot(), BoundMap()))),
    "intensity": Method(Black()),
    "smoothing": Method(Smoothing()),
    "zscore": Method(HealthyMean()),
    "pca": Method(PCA()),
    "autoencoder": Method(AutoencoderRestore()),
}


def method_named(name: str) -> Method | Ensemble:
    """Raises InputError for a name that is not there."""
    if name not in METHODS:
        raise InputError(f"unknown method '{name}': choose one of {', '.join(METHODS)}")
    return METHODS[name]
