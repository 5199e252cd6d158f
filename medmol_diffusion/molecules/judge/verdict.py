"""What the judge finds in each molecule: six whole numbers, which is all that any score needs.

Two protocols, whose figures never stand in one table:

- "distances": bonds come from the distances by rule 1 (chemistry.py), so that anyone's coordinates are judged alike;
  bonds and charges stored in a file are not used. The graph has no charges, and RDKit fills open valences with
  hydrogens, as published (EDM, Hoogeboom et al. 2022).
- "bonds": the stored bonds and formal charges are judged as they stand by the corrected rule (valence.py), with no
  hydrogens added. Molecules written with aromatic bonds are looked up in Kekule form where there is one, so that a
  benzene is the same however it is written, and otherwise with their aromatic bonds counted apart.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import chemistry
from medmol_diffusion.molecules.judge import valence
from medmol_diffusion.molecules.judge.pool import processes
from medmol_diffusion.molecules.molecule import AROMATIC, Molecule

if TYPE_CHECKING:
    from rdkit.Chem import Mol

Protocol = Literal["distances", "bonds"]
COLUMNS = ("atoms", "stable_atoms", "unknown_atoms", "valid", "connected", "identity")
"""The numbers of a molecule: its atoms, how many are stable, how many are of an element that the rule has no entry for
(and so not stable), whether RDKit sanitises its graph, whether that is in one piece too, and the 64-bit identity of its
SMILES, 0 where it is not valid."""

_CHUNK = 1024
Found = tuple[np.ndarray, list[str | None]]


def check_protocol(protocol: str) -> None:
    """Raises InputError for a protocol that is none."""
    if protocol not in get_args(Protocol):
        raise InputError(f"protocol = {protocol!r} is unknown: choose one of {', '.join(get_args(Protocol))}.")


def identity(smiles: str) -> int:
    """A signed 64-bit hash of a SMILES, the same on every machine. Among a million, two agree with chance 3e-8."""
    return int.from_bytes(blake2b(smiles.encode(), digest_size=8).digest(), "little", signed=True)


def verdicts(molecules: Iterable[Molecule], protocol: Protocol = "distances", workers: int = 1) -> Iterator[Found]:
    """Judge a stream of molecules, a chunk of at most 1024 at a time.

    Yields for each chunk, in order, its numbers (m, 6) int64, one for each of COLUMNS, and the SMILES of its valid
    molecules, None for the others. Memory is flat: no molecule is kept. More than one worker judges chunks in processes
    of their own. Each imports RDKit again, which takes half a second, so they are for large sets on idle cores,
    and a script that asks for them needs the usual `if __name__ == "__main__":`.

    Raises InputError for an unknown protocol, and for molecules without bonds under "bonds".
    """
    check_protocol(protocol)
    stream = iter(molecules)
    chunks = iter(lambda: list(islice(stream, _CHUNK)), [])
    if workers <= 1:
        yield from (judge(chunk, protocol) for chunk in chunks)
        return
    with processes(workers) as pool:
        waiting: deque[Future[Found]] = deque()
        for chunk in chunks:
            waiting.append(pool.submit(judge, chunk, protocol))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def judge(molecules: list[Molecule], protocol: Protocol) -> Found:
    """The numbers (m, 6) of some molecules and the SMILES of the valid ones, in one go: see verdicts."""
    return _by_distances(molecules) if protocol == "distances" else _by_bonds(molecules)


def _by_distances(molecules: list[Molecule]) -> Found:
    table = np.zeros((len(molecules), len(COLUMNS)), dtype=np.int64)
    smiles: list[str | None] = [None] * len(molecules)
    sizes = np.array([molecule.num_atoms for molecule in molecules])
    # Batches of about one size: little is padded, whatever the sizes.
    for places in np.array_split(np.argsort(sizes, kind="stable"), -(-len(molecules) // 256)):
        numbers = np.zeros((len(places), sizes[places].max()), dtype=np.int64)
        positions = np.zeros((*numbers.shape, 3))
        for row, place in enumerate(places):
            numbers[row, : sizes[place]] = molecules[place].atomic_numbers
            positions[row, : sizes[place]] = molecules[place].positions
        orders = chemistry.bond_orders_batch(numbers, positions)
        known = chemistry.known_elements()[numbers] | (numbers == 0)
        stable = chemistry.stability(numbers, orders)
        table[places, :3] = np.stack([sizes[places], stable.sum(axis=1), (~known).sum(axis=1)], axis=1)
        owner, i, j = np.nonzero(np.triu(orders))
        bonds = np.stack([i, j, orders[owner, i, j]], axis=1)
        starts = np.searchsorted(owner, np.arange(1, len(places)))
        for place, own in zip(places, np.split(bonds, starts), strict=True):
            graph = chemistry.graph(molecules[place].atomic_numbers, own, None, implicit_hydrogens=True)
            smiles[place] = _enter(table[place], graph)
    return table, smiles


def _by_bonds(molecules: list[Molecule]) -> Found:
    table = np.zeros((len(molecules), len(COLUMNS)), dtype=np.int64)
    smiles: list[str | None] = []
    for row, molecule in zip(table, molecules, strict=True):
        numbers, bonds, charges = molecule.atomic_numbers, molecule.bonds, molecule.formal_charges
        if bonds is None:
            name = f"Molecule {molecule.name!r}" if molecule.name else "A molecule"
            raise InputError(f"{name} has no bonds to judge: choose the protocol 'distances', or give it bonds.")
        charges = np.zeros_like(numbers) if charges is None else charges
        graph = chemistry.graph(numbers, bonds, charges, implicit_hydrogens=False)
        pairs = valence.valence_pairs(len(numbers), bonds)
        if (bonds[:, 2] == AROMATIC).any() and (kekule := chemistry.kekulised_bonds(graph)) is not None:
            pairs = valence.valence_pairs(len(numbers), kekule)
        known = valence.known_elements()[numbers]
        row[:3] = len(numbers), valence.pair_stability(numbers, charges, pairs).sum(), (~known).sum()
        smiles.append(_enter(row, graph))
    return table, smiles


def _enter(row: np.ndarray, graph: "Mol") -> str | None:
    """Put validity, connectivity and identity into the row of a molecule, and give its SMILES."""
    if chemistry.sanitised(graph) is None:
        return None
    smiles, connected = chemistry.largest_fragment_smiles(graph)
    row[3:] = True, connected, identity(smiles)
    return smiles
