"""Molecules from their SMILES, with bonds and hydrogens, embedded by RDKit and relaxed by MMFF94."""

from functools import cache

from medmol_diffusion.molecules.molecule import Molecule


@cache
def embedded(smiles: str, seed: int = 0) -> Molecule:
    from rdkit import Chem
    from rdkit.Chem import AllChem

    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=seed) == 0
    AllChem.MMFFOptimizeMolecule(mol, maxIters=2000)
    return Molecule.from_rdkit(mol)
