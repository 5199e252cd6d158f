"""Properties that can be computed from a molecule: to steer sampling by, and to compare sets of molecules.

Those of the graph (QED, logP, ...) are RDKit's, of the molecule without its hydrogens, on the stored bonds or else on
those that rule 1 reads off the distances. They are those of one molecule: where RDKit cannot sanitise the graph, or the
graph is in several pieces, they are NaN. Composition and size need no bonds, and are always known.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import chemistry
from medmol_diffusion.molecules.chemistry import atomic_number
from medmol_diffusion.molecules.molecule import Molecule

if TYPE_CHECKING:
    from rdkit.Chem import Mol

ELEMENTS = ("H", "B", "C", "N", "O", "F", "Si", "P", "S", "Cl", "Br", "I")
"""Those that can be counted by name: num_H, num_B, ..."""


@dataclass(frozen=True)
class Property:
    """One number of a molecule.

    Attributes:
        name: what it is asked for by.
        unit: of the number; "" for one that has none.
        meaning: one sentence.
        function: of the graph, a sanitised RDKit Mol in one piece without hydrogens; or of the atomic numbers (N,)
            when needs_bonds is False.
        needs_bonds: which of the two.
    """

    name: str
    unit: str
    meaning: str
    function: Callable[..., float]
    needs_bonds: bool = True


def compute(molecule: Molecule, names: Sequence[str] | None = None) -> dict[str, float]:
    """The named properties of a molecule, by default all; NaN for one that cannot be computed.

    Raises InputError for a name that PROPERTIES does not have.
    """
    wanted = [known(name) for name in (PROPERTIES if names is None else names)]
    graph = _graph(molecule) if any(one.needs_bonds for one in wanted) else None

    def value(one: Property) -> float:
        if not one.needs_bonds:
            return float(one.function(molecule.atomic_numbers))
        return math.nan if graph is None else float(one.function(graph))

    return {one.name: value(one) for one in wanted}


def compute_columns(molecules: Sequence[Molecule], names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """The same of many molecules: a column (M,) float64 for each name."""
    rows = [compute(molecule, names) for molecule in molecules]
    wanted = [known(name).name for name in (PROPERTIES if names is None else names)]
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in wanted}


def known(name: str) -> Property:
    """The property of that name; raises InputError, with the names there are, for any other."""
    if name not in PROPERTIES:
        raise InputError(f"There is no property {name!r}: ask for one of {', '.join(PROPERTIES)}.")
    return PROPERTIES[name]


def _graph(molecule: Molecule) -> "Mol | None":
    """The sanitised graph without hydrogens; None when there is none, or it is in pieces."""
    from rdkit import Chem, rdBase

    mol = chemistry.sanitised(molecule.to_rdkit())
    if mol is None or len(Chem.GetMolFrags(mol)) != 1:
        return None
    with rdBase.BlockLogs():
        return Chem.RemoveHs(mol)


def _qed(mol: "Mol") -> float:
    from rdkit.Chem import QED

    return float(QED.qed(mol))


def _accessibility(mol: "Mol") -> float:
    return float(_sascorer().calculateScore(mol))


@cache
def _sascorer() -> ModuleType:
    """RDKit's own implementation, which travels in its wheel beside the library, with its table of fragments."""
    from importlib.util import module_from_spec, spec_from_file_location
    from pathlib import Path

    from rdkit import RDConfig

    file = Path(RDConfig.RDContribDir) / "SA_Score" / "sascorer.py"
    spec = spec_from_file_location("medmol_diffusion_sascorer", file) if file.is_file() else None
    if spec is None or spec.loader is None:
        raise InputError(f"This RDKit has no {file}, which the property sa needs: install RDKit from its wheel.")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _descriptor(name: str, mol: "Mol") -> float:
    from rdkit.Chem import Crippen, rdMolDescriptors

    return float(getattr(Crippen if name == "MolLogP" else rdMolDescriptors, name)(mol))


def _molecular_weight(numbers: np.ndarray) -> float:
    from rdkit.Chem import GetPeriodicTable

    table = GetPeriodicTable()
    return sum(table.GetAtomicWeight(int(number)) for number in numbers)


def _heavy_atoms(numbers: np.ndarray) -> float:
    return float((numbers > 1).sum())


def _count(number: int, numbers: np.ndarray) -> float:
    return float((numbers == number).sum())


_ALL = (
    Property("qed", "", "drug-likeness from 0 to 1 (Bickerton et al. 2012, mean weights)", _qed),
    Property("sa", "", "how hard it is to make, 1 easy to 10 hard (Ertl and Schuffenhauer 2009)", _accessibility),
    Property("logp", "", "octanol-water partition, log10 (Wildman and Crippen 1999)", partial(_descriptor, "MolLogP")),
    Property("tpsa", "angstrom^2", "polar surface of N and O (Ertl et al. 2000)", partial(_descriptor, "CalcTPSA")),
    Property("rings", "", "rings in the smallest set", partial(_descriptor, "CalcNumRings")),
    Property("aromatic_rings", "", "of them aromatic", partial(_descriptor, "CalcNumAromaticRings")),
    Property("rotatable_bonds", "", "single bonds that turn", partial(_descriptor, "CalcNumRotatableBonds")),
    Property("hbond_donors", "", "N and O that give a hydrogen bond", partial(_descriptor, "CalcNumHBD")),
    Property("hbond_acceptors", "", "atoms that take a hydrogen bond", partial(_descriptor, "CalcNumHBA")),
    Property("fraction_csp3", "", "share of carbons that are sp3", partial(_descriptor, "CalcFractionCSP3")),
    Property("molecular_weight", "g/mol", "mean atomic weights, summed", _molecular_weight, needs_bonds=False),
    Property("heavy_atoms", "", "atoms that are no hydrogen", _heavy_atoms, needs_bonds=False),
    Property("num_atoms", "", "atoms with hydrogens", len, needs_bonds=False),
    *(
        Property(f"num_{symbol}", "", f"atoms of {symbol}", partial(_count, atomic_number(symbol)), needs_bonds=False)
        for symbol in ELEMENTS
    ),
)
PROPERTIES: dict[str, Property] = {one.name: one for one in _ALL}
"""Every ready property by its name."""
