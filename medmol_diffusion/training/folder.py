"""Where a model lies: a run folder, an exported folder, or one that ships with the package. Found without torch."""

from pathlib import Path

from medmol_diffusion.errors import InputError
from medmol_diffusion.pretrained import shipped

CONFIG = "config.yaml"
"""What every folder of a model holds."""


def find_model(source: str | Path) -> Path:
    """The folder of a run, of an exported model, or of a model that ships with the package, by its name.

    Raises:
        InputError: there is none.
    """
    folder, own = Path(source), shipped()
    if (folder / CONFIG).is_file():
        return folder
    if str(source) in own:
        return own[str(source)]
    names = f", or one of {', '.join(own)}" if own else ""
    raise InputError(f"{source} is no model: give a run folder, an exported folder (one that holds {CONFIG}){names}")
