"""Pictures of molecules: 2-D depictions as SVG, drawn by RDKit from the perceived bonds."""

from typing import Any

from medmol_diffusion.molecules.chemistry import bond_orders, largest_fragment_smiles, rule_one_mol, sanitised
from medmol_diffusion.molecules.molecule import Molecule


def legend(molecule: Molecule) -> str:
    """The SMILES of a molecule's largest fragment, hydrogens left out, or "not valid".

    By the stored bonds, or else by rule 1, which fills open valences with hydrogens.
    """
    from rdkit import Chem, rdBase

    if molecule.bonds is not None:
        graph = sanitised(molecule.to_rdkit())
    else:
        graph = rule_one_mol(molecule.atomic_numbers, bond_orders(molecule.atomic_numbers, molecule.positions))
    if graph is None:
        return "not valid"
    with rdBase.BlockLogs():
        mol = Chem.RemoveHs(Chem.MolFromSmiles(largest_fragment_smiles(graph)[0], sanitize=False))
    return str(Chem.MolToSmiles(mol))


def depictions(molecules: list[Molecule], columns: int = 5, size: int = 190) -> str:
    """A grid of 2-D depictions without hydrogens, the SMILES below each, as one SVG.

    Invalid graphs are drawn as they are.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDepictor
    from rdkit.Chem.Draw import rdMolDraw2D

    drawn = []
    for molecule in molecules:
        flat = molecule.to_rdkit()
        with rdBase.BlockLogs():  # lone hydrogens stay, and need no warning
            flat = Chem.RemoveHs(flat, sanitize=False)
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
    canvas.DrawMolecules(drawn, legends=[legend(molecule) for molecule in molecules])
    canvas.FinishDrawing()
    return str(canvas.GetDrawingText()).replace("<?xml version='1.0' encoding='iso-8859-1'?>", "")
