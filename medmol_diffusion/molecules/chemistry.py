"""Every chemical rule: elements, bonds from distances, valences, and the RDKit molecule that follows from them.

Rule 1 is the stability rule of EDM (Hoogeboom et al. 2022), which everyone reports: a pair of atoms closer than a
typical single bond + 10 pm is bonded, inside that closer than a double bond + 5 pm double, inside that closer than a
triple bond + 3 pm triple; an atom is stable when its orders sum to an allowed valence exactly.
"""

import re
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from medmol_diffusion.errors import InputError, one_line

if TYPE_CHECKING:
    from rdkit.Chem import Atom, Mol

    from medmol_diffusion.molecules.molecule import Molecule

_TABLE = (
    "X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb "
    "Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au "
    "Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv "
    "Ts Og"
)
SYMBOLS = tuple(_TABLE.split())
"""Element symbols by atomic number; place 0 is no atom."""

# Rule 1: typical bond lengths in pm, and the margins added to them.
SINGLE = {
    "H": "H 74 C 109 N 101 O 96 F 92 B 119 Si 148 P 144 As 152 S 134 Cl 127 Br 141 I 161",
    "C": "C 154 N 147 O 143 F 135 Si 185 P 184 S 182 Cl 177 Br 194 I 214",
    "N": "N 145 O 140 F 136 Cl 175 Br 214 S 168 I 222 P 177",
    "O": "O 148 F 142 Br 172 S 151 P 163 Si 163 Cl 164 I 194",
    "F": "F 142 S 158 Si 160 Cl 166 Br 178 P 156 I 187",
    "B": "Cl 175",
    "Si": "Si 233 S 200 Cl 202 Br 215 I 243",
    "Cl": "Cl 199 P 203 S 207 Br 214",
    "S": "S 204 Br 225 P 210 I 234",
    "Br": "Br 228 P 222",
    "P": "P 221",
    "I": "I 266",
}
DOUBLE = {"C": "C 134 N 129 O 120 S 160", "N": "N 125 O 121", "O": "O 121 P 150", "P": "S 186"}
TRIPLE = {"C": "C 120 N 116 O 113", "N": "N 110"}
MARGINS = (10, 5, 3)
VALENCES: dict[str, tuple[int, ...]] = {
    "H": (1,), "C": (4,), "N": (3,), "O": (2,), "F": (1,), "B": (3,), "Al": (3,), "Si": (4,), "P": (3, 5), "S": (4,),
    "Cl": (1,), "As": (3,), "Br": (1,), "I": (1,), "Hg": (1, 2), "Bi": (3, 5),
}  # fmt: skip
CHARGED = {("N", 4): 1, ("O", 3): 1, ("O", 1): -1, ("B", 4): -1}
"""The formal charge that makes a common valence a closed shell: ammonium, oxonium, alkoxide, borate."""

_V2000_SYMBOL = re.compile(r"(?m)^(?: *-?\d+\.\d{4}){3} ([A-Za-z]{1,3}) ")


def atomic_number(symbol: str) -> int:
    """The atomic number of an element symbol in any case; raises InputError for an unknown one."""
    try:
        return SYMBOLS.index(symbol.capitalize(), 1)
    except ValueError:
        raise InputError(f"{symbol!r} is not an element symbol.") from None


@cache
def _thresholds() -> np.ndarray:
    """(3, 119, 119) angstrom: closer than [k, a, b] is a bond of order k + 1 at least; 0 where there is none."""
    table = np.zeros((3, len(SYMBOLS), len(SYMBOLS)))
    for order, (lengths, margin) in enumerate(zip((SINGLE, DOUBLE, TRIPLE), MARGINS, strict=True)):
        for first, row in lengths.items():
            cells = row.split()
            for second, length in zip(cells[::2], cells[1::2], strict=True):
                a, b = atomic_number(first), atomic_number(second)
                table[order, a, b] = table[order, b, a] = (int(length) + margin) / 100
    return table


@cache
def _allowed() -> np.ndarray:
    """(119, 64) bool: [a, v] when element a may have the valence v."""
    table = np.zeros((len(SYMBOLS), 64), dtype=bool)
    for symbol, valences in VALENCES.items():
        table[atomic_number(symbol), list(valences)] = True
    return table


def bond_orders_batch(atomic_numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Rule 1 on padded molecules: (M, N) with 0 at padding and (M, N, 3) angstrom -> (M, N, N) int8 orders 0..3."""
    numbers = np.asarray(atomic_numbers, dtype=np.intp)
    positions = np.asarray(positions, dtype=np.float64)
    orders = np.zeros((*numbers.shape, numbers.shape[1]), dtype=np.int8)
    limits = _thresholds().reshape(3, -1)
    # Most pairs are far apart: squares leave the few that may be bonded, with a margin, and these are told exactly.
    squares = limits[0] ** 2 * (1 + 1e-9)
    # Chunks that stay in cache.
    step = max(1, 2**16 // max(numbers.shape[1] ** 2, 1))
    for start in range(0, len(numbers), step):
        number, position = numbers[start : start + step], positions[start : start + step]
        pair = number[:, :, None] * len(SYMBOLS) + number[:, None, :]
        square = np.zeros(pair.shape)
        for axis in position.transpose(2, 0, 1):
            difference = axis[:, :, None] - axis[:, None, :]
            square += difference * difference
        near = np.flatnonzero(square < squares[pair])
        distance, kind = np.sqrt(square.ravel()[near]), pair.ravel()[near]
        single = distance < limits[0][kind]
        double = single & (distance < limits[1][kind])
        triple = double & (distance < limits[2][kind])
        orders[start : start + step].reshape(-1)[near] = single.astype(np.int8) + double + triple
    diagonal = np.arange(numbers.shape[1])
    orders[:, diagonal, diagonal] = 0
    return orders


def bond_orders(atomic_numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Rule 1 on one molecule: (N,) and (N, 3) angstrom -> (N, N) int8 orders 0..3, symmetric."""
    return bond_orders_batch(np.asarray(atomic_numbers)[None], np.asarray(positions)[None])[0]


def rule_one_bonds(atomic_numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Rule 1 on one molecule: (N,) and (N, 3) angstrom -> (M, 3) int64 rows (i, j, order), i < j."""
    return bonds_from_orders(bond_orders(atomic_numbers, positions))


def stability(atomic_numbers: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Which atoms have an allowed valence: (..., N) and (..., N, N) -> (..., N) bool; False at padding.

    A molecule is stable when all its atoms are.
    """
    valence = np.minimum(orders.sum(axis=-1, dtype=np.intp), 63)
    return _allowed()[np.asarray(atomic_numbers, dtype=np.intp), valence]


@cache
def known_elements() -> np.ndarray:
    """(119,) bool: the elements that rule 1 gives a valence. An atom of another is never stable."""
    return np.any(_allowed(), axis=1)


def formal_charges(atomic_numbers: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """(N,) int64: the charge that CHARGED gives to each atom's element and valence, else 0."""
    valence = orders.sum(axis=-1, dtype=np.intp)
    pairs = zip(atomic_numbers, valence, strict=True)
    return np.array([CHARGED.get((SYMBOLS[number], int(v)), 0) for number, v in pairs], dtype=np.int64)


def bonds_from_orders(orders: np.ndarray) -> np.ndarray:
    """(N, N) -> (M, 3) rows (i, j, order), i < j."""
    i, j = np.nonzero(np.triu(orders, k=1))
    return np.stack([i, j, orders[i, j]], axis=1).astype(np.int64)


def to_rdkit(molecule: "Molecule") -> "Mol":
    """An RDKit Mol with a conformer and no implicit hydrogens.

    Bonds and charges are the stored ones; where there are none, bonds come from the distances by rule 1, and charges
    from CHARGED. A molecule that RDKit cannot sanitise is returned unsanitised, with its bonds as they stand.
    """
    from rdkit import Chem, rdBase

    bonds, charges = molecule.bonds, molecule.formal_charges
    if bonds is None:
        orders = bond_orders(molecule.atomic_numbers, molecule.positions)
        bonds = bonds_from_orders(orders)
        charges = formal_charges(molecule.atomic_numbers, orders) if charges is None else charges
    mol = graph(molecule.atomic_numbers, bonds, charges, implicit_hydrogens=False)
    conformer = Chem.Conformer(molecule.num_atoms)
    conformer.SetPositions(np.ascontiguousarray(molecule.positions))
    conformer.Set3D(True)
    mol.AddConformer(conformer)
    mol.SetProp("_Name", " ".join(molecule.name.split()))
    if (whole := sanitised(Chem.Mol(mol))) is not None:
        return whole
    with rdBase.BlockLogs():
        mol.UpdatePropertyCache(strict=False)
    return mol


def to_mol_block(molecule: "Molecule") -> str:
    """The mol block of to_rdkit: V2000, or V3000 beyond 999 atoms; aromatic bonds are written in Kekule form if any."""
    from rdkit import Chem, rdBase

    mol = to_rdkit(molecule)
    with rdBase.BlockLogs():
        try:
            return Chem.MolToMolBlock(mol, includeStereo=False)
        except (Chem.KekulizeException, ValueError, RuntimeError):
            pass
        try:
            return Chem.MolToMolBlock(mol, includeStereo=False, kekulize=False)
        except RuntimeError as error:  # of H with a charge of 2, for example
            raise InputError(
                f"RDKit cannot write molecule {molecule.name!r} ({one_line(error)}): write it as xyz, or leave it out"
            ) from error


def from_mol_block(block: str) -> "Mol":
    """The RDKit Mol of a mol block, hydrogens kept, not sanitised; raises InputError when RDKit cannot parse it."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        mol = Chem.MolFromMolBlock(block, sanitize=False, removeHs=False)
    if mol is None:
        for symbol in _V2000_SYMBOL.findall(block):
            atomic_number(symbol)  # the one fault that can be named
        raise InputError("RDKit cannot parse the record: its counts, atom or bond lines are malformed.")
    return mol


def rule_one_mol(atomic_numbers: np.ndarray, orders: np.ndarray) -> "Mol | None":
    """The graph of rule 1 as published: no charges, open valences filled with implicit hydrogens; None if not valid."""
    return sanitised(graph(atomic_numbers, bonds_from_orders(orders), None, implicit_hydrogens=True))


def sanitised(mol: "Mol") -> "Mol | None":
    """The same Mol, sanitised in place, or None when RDKit cannot: what every protocol calls valid."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        valid = Chem.SanitizeMol(mol, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE
    return mol if valid else None


def largest_fragment_smiles(mol: "Mol") -> tuple[str, bool]:
    """The canonical SMILES of the largest fragment, hydrogens explicit, and whether it is the whole molecule.

    Of fragments of one size it is the SMILES that sorts first, so that the order of the atoms says nothing.
    """
    from rdkit import Chem

    if len(fragments := Chem.GetMolFrags(mol)) == 1:
        return Chem.MolToSmiles(mol), True
    largest = max(len(fragment) for fragment in fragments)
    pieces = (piece for piece in Chem.GetMolFrags(mol, asMols=True) if piece.GetNumAtoms() == largest)
    return min(Chem.MolToSmiles(piece) for piece in pieces), False


def kekulised_bonds(mol: "Mol") -> np.ndarray | None:
    """(M, 3) rows (i, j, order) of an unsanitised Mol with its aromatic bonds single or double; None if that fails."""
    from rdkit import Chem, rdBase

    kekule = Chem.Mol(mol)
    kekule.UpdatePropertyCache(strict=False)
    with rdBase.BlockLogs():
        try:
            Chem.Kekulize(kekule, clearAromaticFlags=True)
        except (Chem.KekulizeException, Chem.AtomKekulizeException, ValueError, RuntimeError):
            return None
    rows = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), int(bond.GetBondType())) for bond in kekule.GetBonds()]
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


@cache
def _atom(number: int, charge: int, implicit_hydrogens: bool) -> "Atom":
    from rdkit import Chem

    atom = Chem.Atom(number)
    atom.SetNoImplicit(not implicit_hydrogens)
    atom.SetFormalCharge(charge)
    return atom


def graph(atomic_numbers: np.ndarray, bonds: np.ndarray, charges: np.ndarray | None, implicit_hydrogens: bool) -> "Mol":
    """The unsanitised RDKit Mol of atoms (N,), bonds (M, 3) and charges (N,), or none, without a conformer."""
    from rdkit import Chem

    types = (Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE, Chem.BondType.AROMATIC)
    mol = Chem.RWMol()
    numbers = atomic_numbers.tolist()
    for number, charge in zip(numbers, [0] * len(numbers) if charges is None else charges.tolist(), strict=True):
        mol.AddAtom(_atom(number, charge, implicit_hydrogens))  # RDKit copies it
    for i, j, order in bonds.tolist():
        mol.AddBond(i, j, types[order - 1])
        if order == len(types):
            mol.GetBondBetweenAtoms(i, j).SetIsAromatic(True)
            mol.GetAtomWithIdx(i).SetIsAromatic(True)
            mol.GetAtomWithIdx(j).SetIsAromatic(True)
    return mol.GetMol()
