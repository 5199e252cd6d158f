"""Molecules: E(3)-equivariant diffusion, from files to scores."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from medmol_diffusion.extras import need

# Models are trained from npz without rdkit; what needs more says so where it is asked for.
need("training", "medmol_diffusion.molecules", "pip install 'medmol_diffusion[molecules]'")

from medmol_diffusion.molecules.formats.files import read_molecules
from medmol_diffusion.molecules.formats.sdf import write_sdf, write_xyz
from medmol_diffusion.molecules.molecule import Molecule

if TYPE_CHECKING:
    from medmol_diffusion.molecules.batch import MoleculeBatch
    from medmol_diffusion.molecules.data import EnumeratedData, MoleculeData
    from medmol_diffusion.molecules.model import MoleculeDiffusion
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


_LATER = {
    "EGNN": "networks.egnn",
    "EnumeratedData": "data",
    "MoleculeBatch": "batch",
    "MoleculeData": "data",
    "MoleculeDiffusion": "model",
    "PairTransformer": "networks.transformer",
    "TensorField": "networks.tensor_field",
}
"""What is loaded when somebody asks for it, and where it lies: files are read and judged without torch, models are used
without Lightning, and e3nn is for a TensorField alone."""


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
