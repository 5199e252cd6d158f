"""Bemis-Murcko scaffolds, by which a split may keep molecules together (Bemis and Murcko 1996)."""

from medmol_diffusion.molecules.molecule import Molecule


def scaffold(molecule: Molecule) -> str:
    """SMILES of the rings and what links them; without rings the molecule's own SMILES; "" where RDKit finds none."""
    from rdkit import Chem, rdBase
    from rdkit.Chem.Scaffolds import MurckoScaffold

    with rdBase.BlockLogs():
        try:
            mol = Chem.RemoveHs(molecule.to_rdkit())
            return MurckoScaffold.MurckoScaffoldSmiles(mol=mol) or Chem.MolToSmiles(mol)
        except (ValueError, RuntimeError):  # what RDKit raises for a graph it cannot sanitise
            return ""
