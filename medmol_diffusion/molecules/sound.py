"""Soundness: whether a molecule is one that could be."""

from typing import TYPE_CHECKING

from medmol_diffusion.molecules import chemistry
from medmol_diffusion.molecules.molecule import Molecule

if TYPE_CHECKING:
    from rdkit.Chem import Mol


def sound(molecule: Molecule) -> "Mol | None":
    """The sanitised graph of a molecule that is valid, in one piece and without radicals; None of any other.

    Bonds are the molecule's own, or else those of rule 1.
    """
    from rdkit import Chem

    if (mol := chemistry.sanitised(molecule.to_rdkit())) is None:
        return None
    whole = len(Chem.GetMolFrags(mol)) == 1 and not any(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())
    return mol if whole else None
