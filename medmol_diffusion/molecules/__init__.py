"""Molecules: E(3)-equivariant diffusion, from files to scores."""

from medmol_diffusion.molecules.data import EnumeratedData, MoleculeData
from medmol_diffusion.molecules.egnn import EGNN
from medmol_diffusion.molecules.formats.files import read_molecules
from medmol_diffusion.molecules.formats.sdf import write_sdf, write_xyz
from medmol_diffusion.molecules.model import MoleculeDiffusion
from medmol_diffusion.molecules.molecule import Molecule, MoleculeBatch
from medmol_diffusion.molecules.transformer import PairTransformer

__all__ = [
    "EGNN",
    "EnumeratedData",
    "Molecule",
    "MoleculeBatch",
    "MoleculeData",
    "MoleculeDiffusion",
    "PairTransformer",
    "read_molecules",
    "write_sdf",
    "write_xyz",
]
