"""Canonical SMILES, by which a split may keep molecules together."""

from typing import TYPE_CHECKING

from medmol_diffusion.molecules.molecule import Molecule

if TYPE_CHECKING:
    from rdkit.Chem import Mol

FIELD = "smiles"
"""The field in which a source says what a molecule is."""


def canonical_smiles(molecule: Molecule) -> str:
    """RDKit's canonical SMILES without hydrogens and stereochemistry; "" where RDKit finds none.

    Of the molecule's own field smiles where it has one that can be read: all conformers share it, while distances may
    tell them apart. Else of the stored bonds, or else of those of rule 1. Stereoisomers are one.
    """
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        if (mol := _of_field(molecule)) is None:
            try:
                mol = Chem.RemoveHs(molecule.to_rdkit())
            except (ValueError, RuntimeError):  # what RDKit raises for a graph it cannot sanitise
                return ""
        return str(Chem.MolToSmiles(mol, isomericSmiles=False))


def _of_field(molecule: Molecule) -> "Mol | None":
    from rdkit import Chem

    text = molecule.properties.get(FIELD)
    return Chem.MolFromSmiles(text) if isinstance(text, str) and text else None
