"""Pictures of molecules: 2-D depictions as SVG, drawn by RDKit from the perceived bonds."""

from typing import Any

from medmol_diffusion.molecules.chemistry import largest_fragment_smiles
from medmol_diffusion.molecules.molecule import Molecule


def depictions(molecules: list[Molecule], columns: int = 5, size: int = 190) -> str:
    """A grid of 2-D depictions, hydrogens left out, the SMILES below each, as one SVG. Invalid graphs are drawn as
    they are."""
    from rdkit import Chem
    from rdkit.Chem import rdDepictor
    from rdkit.Chem.Draw import rdMolDraw2D

    drawn, legends = [], []
    for molecule in molecules:
        mol = molecule.to_rdkit()
        try:
            legends.append(largest_fragment_smiles(mol)[0])
            mol = Chem.RemoveHs(mol)
        except (Chem.MolSanitizeException, ValueError, RuntimeError):
            legends.append("not valid")
        flat = Chem.Mol(mol, confId=-1)
        flat.RemoveAllConformers()
        flat.UpdatePropertyCache(strict=False)
        Chem.FastFindRings(flat)
        rdDepictor.Compute2DCoords(flat)
        drawn.append(flat)
    rows = -(-len(drawn) // columns)
    canvas = rdMolDraw2D.MolDraw2DSVG(columns * size, rows * size, size, size)
    options: Any = canvas.drawOptions()
    options.prepareMolsBeforeDrawing = False
    options.legendFontSize = 13
    options.clearBackground = False
    canvas.DrawMolecules(drawn, legends=legends)
    canvas.FinishDrawing()
    return str(canvas.GetDrawingText()).replace("<?xml version='1.0' encoding='iso-8859-1'?>", "")
