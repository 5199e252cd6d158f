"""`medmol`, and `python -m medmol_diffusion`, for torchrun; where its libraries are missing it says what to install."""

import sys
from importlib import import_module

from medmol_diffusion.extras import MissingExtra


def main() -> None:
    """Entry point of `medmol`."""
    try:
        medmol = import_module("medmol_diffusion.cli").main
    except MissingExtra as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    medmol()


if __name__ == "__main__":
    main()
