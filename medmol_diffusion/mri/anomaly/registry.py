"""The methods by name. To add one: METHODS["name"] = Method(restore), with any stage of its own."""

from medmol_diffusion.errors import InputError
from medmol_diffusion.mri.anomaly.method import Method
from medmol_diffusion.mri.anomaly.restore.one_shot import OneShot
from medmol_diffusion.mri.anomaly.restore.partial import Partial
from medmol_diffusion.mri.anomaly.restore.smoothing import Smoothing

METHODS: dict[str, Method] = {
    "one_shot": Method(OneShot()),
    "partial": Method(Partial()),
    "smoothing": Method(Smoothing()),
}


def method_named(name: str) -> Method:
    """Raises InputError for a name that is not there."""
    if name not in METHODS:
        raise InputError(f"unknown method '{name}': choose one of {', '.join(METHODS)}")
    return METHODS[name]
