"""`python -m medmol_diffusion.cli` is `medmol`."""

from medmol_diffusion.cli import main

if __name__ == "__main__":
    main()
