"""The methods by name. To add one: METHODS["name"] = Method(restore), with any stage of its own."""

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly.calibrate import OTSU
from medmol_diffusion.mri.anomaly.ensemble import Ensemble
from medmol_diffusion.mri.anomaly.method import Method
from medmol_diffusion.mri.anomaly.postprocess import UNCLEANED
from medmol_diffusion.mri.anomaly.residual import BoundMap, Gradient, Perceptual, Relative, bright, l1, l2, structure
from medmol_diffusion.mri.anomaly.restore.autoencoder import AutoencoderRestore
from medmol_diffusion.mri.anomaly.restore.black import Black
from medmol_diffusion.mri.anomaly.restore.counterfactual import Counterfactual
from medmol_diffusion.mri.anomaly.restore.harmonise import Harmonise
from medmol_diffusion.mri.anomaly.restore.healthy_mean import HealthyMean
from medmol_diffusion.mri.anomaly.restore.inpaint import Inpaint
from medmol_diffusion.mri.anomaly.restore.one_shot import OneShot
from medmol_diffusion.mri.anomaly.restore.partial import Partial
from medmol_diffusion.mri.anomaly.restore.patched import Patched
from medmol_diffusion.mri.anomaly.restore.pca import PCA
from medmol_diffusion.mri.anomaly.restore.smoothing import Smoothing
from medmol_diffusion.mri.anomaly.restore.translate import Translate
from medmol_diffusion.mri.anomaly.score import Bound, Curvature, Deviation, MultiStart
from medmol_diffusion.mri.anomaly.simplex import Simplex

STARTS = (-2.16, -0.09, 1.42, 2.46, 3.63, 5.70)
"""t = 100, 250, 400, 500, 600 and 750 of 1000."""

METHODS: dict[str, Method | Ensemble] = {
    "one_shot": Method(OneShot()),
    "relative": Method(OneShot(), Relative()),
    "relative_bright": Method(OneShot(), Relative(bright)),
    "structure": Method(OneShot(), structure),
    "gradient": Method(OneShot(), Gradient()),
    "perceptual": Method(OneShot(), Perceptual()),
    "one_shot_mean": Method(OneShot((-0.09, 2.46, 5.7))),
    "patched": Method(Patched()),
    "partial": Method(Partial(), l2),
    "partial_simplex": Method(Partial(noise=Simplex()), l2),
    "counterfactual": Method(Counterfactual(), l1, UNCLEANED),
    "counterfactual_otsu": Method(Counterfactual(), l1, UNCLEANED, calibrate=OTSU),
    "inpaint": Method(Inpaint(), l1, UNCLEANED),
    "harmonise": Method(Harmonise()),
    "translate": Method(Translate()),
    "elbo": Method(OneShot(), BoundMap(), score=Bound()),
    "ood": Method(OneShot(), score=MultiStart(tuple(Partial(gamma, 10, "plms", 1) for gamma in STARTS))),
    "curvature": Method(OneShot(), score=Deviation(Curvature())),
    "ensemble": Ensemble((Method(OneShot()), Method(Partial()), Method(OneShot(), BoundMap()))),
    "ensemble_mean": Ensemble((Method(OneShot()), Method(Partial())), "mean"),
    "ensemble_harmonic": Ensemble((Method(OneShot()), Method(Partial())), "harmonic"),
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
