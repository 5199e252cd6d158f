"""What is installed: the core needs torch alone, everything else an extra of the package (pyproject.toml)."""

from collections.abc import Iterator
from importlib.util import find_spec

TRAINING = (
    *("jsonargparse", "matplotlib", "numpy", "pytorch_lightning", "rich"),
    *("safetensors", "scipy", "shtab", "tensorboard", "torchmetrics", "yaml"),
)
EXTRAS = {
    "training": TRAINING,
    "molecules": (*TRAINING, "e3nn", "posebusters", "rdkit"),
    "mri": (*TRAINING, "einops", "monai", "nibabel", "pydicom"),
}
"""Extra -> what it brings, by the names that are imported. Training and the command line come with either domain."""
SHOWN = 4
"""Of what is missing, so many are named."""
EXTRAS["all"] = (*EXTRAS["molecules"], *EXTRAS["mri"][len(TRAINING) :])


class MissingExtra(ImportError):
    """Something was asked for whose extra is not installed; one sentence says how to get it."""


def installed(extra: str) -> bool:
    """Whether all that an extra brings is there."""
    return not any(_missing(extra))


def need(extra: str, asked: str, cure: str = "") -> None:
    """Nothing where the extra is there.

    Args:
        extra: one of EXTRAS.
        asked: what needs it.
        cure: what to install, where that is not simply the extra.

    Raises:
        MissingExtra: it is not.
    """
    if missing := list(_missing(extra)):
        names = ", ".join(missing[:SHOWN]) + (f" and {len(missing) - SHOWN} more" if missing[SHOWN:] else "")
        cure = cure or f"pip install 'medmol_diffusion[{extra}]'"
        raise MissingExtra(f"{asked} needs {names}: {cure}")


def explained(error: ModuleNotFoundError) -> MissingExtra:
    """What an import has missed, as the extra that brings it.

    Raises:
        ModuleNotFoundError: no extra does.
    """
    module = (error.name or "").partition(".")[0]
    for extra in ("training", "molecules", "mri"):
        if module in EXTRAS[extra]:
            return MissingExtra(f"this needs {module}: pip install 'medmol_diffusion[{extra}]'")
    raise error


def _missing(extra: str) -> Iterator[str]:
    """What is not there, found without importing anything."""
    for name in EXTRAS[extra]:
        try:
            if find_spec(name) is None:
                yield name
        except ModuleNotFoundError:
            yield name
        except ImportError:  # it is there, and its own import says best why it does not load
            continue
