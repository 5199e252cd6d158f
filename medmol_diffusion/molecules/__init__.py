"""Molecules: E(3)-equivariant diffusion, from files to scores."""

from typing import Any

from medmol_diffusion.molecules.data import EnumeratedData, MoleculeData
from medmol_diffusion.molecules.formats.files import read_molecules
from medmol_diffusion.molecules.formats.sdf import write_sdf, write_xyz
from medmol_diffusion.molecules.model import MoleculeDiffusion
from medmol_diffusion.molecules.molecule import Molecule, MoleculeBatch
from medmol_diffusion.molecules.networks.egnn import EGNN
from medmol_diffusion.molecules.networks.transformer import PairTransformer

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


def __getattr__(name: str) -> Any:
    """TensorField, which alone needs e3nn, is loaded when somebody asks for it."""
    if name == "TensorField":
        from medmol_diffusion.molecules.networks.tensor_field import TensorField

        return TensorField
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
