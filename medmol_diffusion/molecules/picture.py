"""Pictures of molecules: 2-D depictions as SVG, drawn by RDKit from the perceived bonds."""

from typing import TYPE_CHECKING, Any

from medmol_diffusion.molecules.chemistry import bond_orders, largest_fragment_smiles, rule_one_mol, sanitised
from medmol_diffusion.molecules.molecule import Molecule

if TYPE_CHECKING:
    from rdkit.Chem import Mol


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
    return _drawing(molecules, columns, size, [legend(molecule) for molecule in molecules])


def depiction(molecule: Molecule, size: int = 150) -> str:
    """One of them, without its SMILES."""
    return _drawing([molecule], 1, size, [""])


def _drawing(molecules: list[Molecule], columns: int, size: int, legends: list[str]) -> str:
    from rdkit.Chem.Draw import rdMolDraw2D

    rows = -(-len(molecules) // columns)
    canvas = rdMolDraw2D.MolDraw2DSVG(columns * size, rows * size, size, size)
    options: Any = canvas.drawOptions()
    options.prepareMolsBeforeDrawing = False
    options.legendFontSize = 13
    options.clearBackground = False
    canvas.DrawMolecules(list(map(_flat, molecules)), legends=legends)
    canvas.FinishDrawing()
    return str(canvas.GetDrawingText()).replace("<?xml version='1.0' encoding='iso-8859-1'?>", "")


def _flat(molecule: Molecule) -> "Mol":
    """The graph on paper, without hydrogens."""
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDepictor

    flat = molecule.to_rdkit()
    with rdBase.BlockLogs():  # lone hydrogens stay, and need no warning
        flat = Chem.RemoveHs(flat, sanitize=False)
    flat.RemoveAllConformers()
    flat.UpdatePropertyCache(strict=False)
    Chem.FastFindRings(flat)
    rdDepictor.Compute2DCoords(flat)
    return flat
