"""The embedded molecules: every sensible small molecule of C, N, O, F and hydrogen, built from valence rules.

Heavy-atom graphs grow from single atoms by single bonds, then bonds are raised and rings closed, as long as valences
allow; hydrogens fill what is left. RDKit sanitises, a short list of patterns drops what chemistry would not keep, ETKDG
(Riniker and Landrum 2015) embeds in 3-D and the MMFF94 force field relaxes.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medmol_diffusion import __version__
from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.formats.npz import read_npz
from medmol_diffusion.molecules.molecule import Molecule, pad
from medmol_diffusion.whole_file import whole_file

if TYPE_CHECKING:
    from rdkit.Chem import Mol

VALENCE = {6: 4, 7: 3, 8: 2, 9: 1}
VIBRATION = 0.01
"""Angstrom: each conformer is displaced by so much at random, so that no two are the same point."""
UNWANTED = (
    "[#7,#8,#9]~[#7,#8,#9]~[#7,#8,#9]",  # chains of three heteroatoms
    "[F][#7,#8,#9]",  # fluorine on a heteroatom
    "[F][CX4][#7,#8;!H0]",  # loses hydrogen fluoride at once
    "O=O",  # dioxygen is a triplet
    "*=*=*=*",  # long cumulenes
    "C#C[#7,#8;!H0]",  # turns into a ketene or a nitrile
    "[R](=*)=*",  # an allene carbon in a ring
    "*#@*",  # a triple bond in a ring
    "[r3;x3,x4]",  # three-rings that share an atom with another ring
    "[#7,#8]1*=,:*1",  # oxirenes and 1H-azirines: antiaromatic
    "[#6]1=,:[#7]*1",  # 2H-azirines: too strained for the force field
    "[#7,#8;r3]1~[#6;r3](=*)~*1",  # lactones and the like on three-rings
    "[#8]1[#8]*1",  # dioxiranes
    "[r3](=*)@[r3]=*",  # two double bonds on one three-ring
    "*1=**=*1",  # cyclobutadienes: antiaromatic
    "[a;r4]",  # four-rings that only a count of electrons calls aromatic
    "[r4]=[r4]-[#7,#8;r4]",  # dihydroazete and oxete, which open
)

Graph = tuple[tuple[int, ...], tuple[tuple[int, int, int], ...]]
"""Atomic numbers, and bonds (i, j, order) with i < j in ascending order."""


def enumerate_molecules(max_heavy_atoms: int = 4, conformers: int = 3, seed: int = 0) -> list[Molecule]:
    """Every molecule of at most max_heavy_atoms heavy atoms in that many conformers, those of one molecule in a row.

    Each is named by its canonical SMILES and lies at an MMFF94 minimum, displaced by VIBRATION. The result is cached in
    $XDG_CACHE_HOME/medmol_diffusion (or ~/.cache); where that cannot be written it is built anew each time.
    """
    if max_heavy_atoms < 1 or conformers < 1:
        raise InputError(f"max_heavy_atoms {max_heavy_atoms} and conformers {conformers} must be at least 1.")
    file = cache_file(max_heavy_atoms, conformers, seed)
    if (cached := _load(file)) is not None:
        return cached
    molecules = [one for smiles in enumerate_smiles(max_heavy_atoms) for one in embed(smiles, conformers, seed)]
    with contextlib.suppress(OSError):  # a cache that cannot be written costs time, not the result
        _store(molecules, file)
    return molecules


def enumerate_smiles(max_heavy_atoms: int) -> list[str]:
    """The canonical SMILES of every sensible molecule of 1 to max_heavy_atoms heavy atoms, smallest first."""
    from rdkit import Chem, rdBase

    unwanted = [Chem.MolFromSmarts(pattern) for pattern in UNWANTED]
    kept: list[str] = []
    trees: dict[str, Graph] = {}
    with rdBase.BlockLogs():
        for size in range(1, max_heavy_atoms + 1):
            grown = (((number,), ()) for number in VALENCE) if size == 1 else _grow(trees.values())
            trees = _distinct(grown)
            found = dict(trees)
            fresh = trees
            while fresh:
                fresh = {key: graph for key, graph in _distinct(_raise(fresh.values())).items() if key not in found}
                found.update(fresh)
            mols = {smiles: Chem.MolFromSmiles(smiles) for smiles in sorted(found)}
            kept += [
                smiles
                for smiles, mol in mols.items()
                if mol is not None and not any(mol.HasSubstructMatch(pattern) for pattern in unwanted)
            ]
    return kept


def embed(smiles: str, conformers: int, seed: int = 0) -> list[Molecule]:
    """Conformers of a molecule at MMFF94 minima, displaced by VIBRATION; none where MMFF94 or ETKDG knows no way."""
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

    with rdBase.BlockLogs():
        mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
        if not rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
            return []
        # RDKit takes a negative seed for none; random starting points reach linear molecules too.
        embedded = rdDistGeom.EmbedMultipleConfs(mol, conformers, randomSeed=seed + 1, useRandomCoords=True)
        if not len(embedded):
            return []
        relaxed = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(mol, maxIters=2000)
    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()])
    displace = np.random.default_rng((seed, *smiles.encode()))
    minima = [c.GetPositions() for c, (status, _) in zip(mol.GetConformers(), relaxed, strict=True) if status == 0]
    return [Molecule(numbers, x + VIBRATION * displace.standard_normal(x.shape), name=smiles) for x in minima]


def cache_file(max_heavy_atoms: int, conformers: int, seed: int) -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "medmol_diffusion"
    return folder / f"molecules-{__version__}-{max_heavy_atoms}-{conformers}-{seed}.npz"


def _free_valences(graph: Graph) -> list[int]:
    free = [VALENCE[number] for number in graph[0]]
    for i, j, order in graph[1]:
        free[i] -= order
        free[j] -= order
    return free


def _grow(graphs: Iterable[Graph]) -> Iterator[Graph]:
    """One more atom, on a single bond, in every way."""
    for graph in graphs:
        for place, free in enumerate(_free_valences(graph)):
            if free:
                bond = (place, len(graph[0]), 1)
                yield from (((*graph[0], number), (*graph[1], bond)) for number in VALENCE)


def _raise(graphs: Iterable[Graph]) -> Iterator[Graph]:
    """One bond more between two atoms, up to triple: a ring closed where there was none."""
    for numbers, bonds in graphs:
        free = _free_valences((numbers, bonds))
        orders = {(i, j): order for i, j, order in bonds}
        for j in range(len(numbers)):
            for i in range(j):
                if free[i] and free[j] and orders.get((i, j), 0) < 3:
                    raised = {**orders, (i, j): orders.get((i, j), 0) + 1}
                    yield numbers, tuple((a, b, order) for (a, b), order in sorted(raised.items()))


def _distinct(graphs: Iterable[Graph]) -> dict[str, Graph]:
    """The graphs RDKit accepts, one for each canonical SMILES."""
    from rdkit import Chem

    found: dict[str, Graph] = {}
    for graph in graphs:
        mol = _to_mol(graph)
        if Chem.SanitizeMol(mol, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE:
            found.setdefault(Chem.MolToSmiles(mol), graph)
    return found


def _to_mol(graph: Graph) -> "Mol":
    from rdkit import Chem

    mol = Chem.RWMol()
    for number in graph[0]:
        mol.AddAtom(Chem.Atom(number))
    for i, j, order in graph[1]:
        mol.AddBond(i, j, (Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE)[order - 1])
    return mol.GetMol()


def _store(molecules: list[Molecule], file: Path) -> None:
    numbers, positions, count = pad(molecules)
    names = np.array([molecule.name for molecule in molecules])
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as temporary, temporary.open("wb") as stream:  # a path would be given another ending
        np.savez_compressed(stream, atomic_numbers=numbers, positions=positions, num_atoms=count, name=names)


def _load(file: Path) -> list[Molecule] | None:
    try:
        arrays = read_npz(file)
    except InputError:  # absent or damaged
        return None
    rows = zip(*(arrays[key] for key in ("atomic_numbers", "positions", "num_atoms", "name")), strict=True)
    return [Molecule(numbers[:size], x[:size], name=str(name)) for numbers, x, size, name in rows]
