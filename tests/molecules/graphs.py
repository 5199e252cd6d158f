"""Molecules by their graphs, at positions that say nothing: what the bonds protocol judges."""

import numpy as np
from rdkit import Chem

from medmol_diffusion.molecules.chemistry import atomic_number
from medmol_diffusion.molecules.molecule import AROMATIC, Molecule


def molecule_of(symbols: str, bonds: list, charges: list | None = None) -> Molecule:
    """Atoms a hundred angstrom apart, with these bonds (i, j, order) and charges."""
    numbers = [atomic_number(one) for one in symbols.split()]
    positions = 100.0 * np.arange(len(numbers))[:, None] * np.ones(3)
    return Molecule(numbers, positions, np.array(bonds, dtype=np.int64).reshape(-1, 3), charges)


def written(smiles: str, aromatic: bool = False) -> Molecule:
    """The molecule of a SMILES with all its hydrogens, with aromatic bonds or in RDKit's Kekule form."""
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    if not aromatic:
        Chem.Kekulize(mol, clearAromaticFlags=True)
    bonds = [
        [*sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())),
         AROMATIC if bond.GetIsAromatic() else int(bond.GetBondTypeAsDouble())]
        for bond in mol.GetBonds()
    ]  # fmt: skip
    symbols = " ".join(atom.GetSymbol() for atom in mol.GetAtoms())
    return molecule_of(symbols, bonds, [atom.GetFormalCharge() for atom in mol.GetAtoms()])
