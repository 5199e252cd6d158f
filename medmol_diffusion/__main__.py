"""`python -m medmol_diffusion` is `medmol`."""

from medmol_diffusion.cli import main

if __name__ == "__main__":
    main()
