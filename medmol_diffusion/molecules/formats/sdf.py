"""SDF: V2000 and V3000 records, with bonds, formal charges and data fields."""

import re
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from gzip import GzipFile
from pathlib import Path

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import chemistry
from medmol_diffusion.molecules.formats.record import Record, number_or_text
from medmol_diffusion.molecules.molecule import Molecule
from medmol_diffusion.whole_file import whole_file

_HEADER = re.compile(r">.*<([^>_][^>]*)>")
"""Of a data field; one whose name begins with "_" is RDKit's own note of where a molecule came from."""


def records(lines: Iterable[str]) -> Iterator[Record]:
    """The records of an SDF file, given its lines without their ends. Building them needs RDKit."""
    record: list[str] = []
    for line in lines:
        if not line.startswith("$$$$"):
            record.append(line)
            continue
        if any(text.strip() for text in record):
            yield Record(record[0].strip(), partial(_molecule, record))
        record = []
    if any(text.strip() for text in record):
        yield Record(record[0].strip(), partial(_molecule, record))


def _molecule(record: list[str]) -> Molecule:
    mol = chemistry.from_mol_block("\n".join(record))
    # RDKit takes a flat record without a flag for a drawing, but water and benzene are flat: it must say so
    if mol.GetNumConformers() and record[1][20:22] != "2D":
        mol.GetConformer().Set3D(True)
    molecule = Molecule.from_rdkit(mol)
    if molecule.num_atoms > 1 and not np.ptp(molecule.positions, axis=0).any():
        raise InputError("The record puts all atoms at one point: embed the molecule in 3-D.")
    for place, line in enumerate(record[:-1]):
        if line.startswith(">") and (header := _HEADER.match(line)):
            molecule.properties[header[1]] = number_or_text(record[place + 1].strip())
    return molecule


def write_sdf(molecules: Iterable[Molecule], path: str | Path) -> None:
    """Write all molecules to one SDF file, which appears whole or not at all; packed, if it ends in .gz.

    Bonds and formal charges are those a molecule has. One without bonds, as models of positions and elements make, gets
    bonds by rule 1 from its distances, and where it has no charges either those that chemistry.CHARGED gives to an
    element of so many bonds: N of 4 and O of 3 are +1, O of 1 and B of 4 are -1, all others 0. These charges are
    a reading of the geometry, nothing that the model said; they need not add up to the charge of a real molecule.
    """
    write_texts((molecule.to_sdf() for molecule in molecules), path)


def write_xyz(molecules: Iterable[Molecule], path: str | Path) -> None:
    """Write all molecules to one xyz file, a frame each, which appears whole or not at all; packed for .gz."""
    write_texts((molecule.to_xyz() for molecule in molecules), path)


def write_texts(texts: Iterable[str], path: str | Path) -> None:
    """Write the records of molecules, one after the other, to a file that appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary, temporary.open("wb") as file:
        # of a gzip file no name and no time: the same molecules are the same bytes
        packed = GzipFile("", "wb", fileobj=file, mtime=0) if path.suffix.lower() == ".gz" else nullcontext(file)
        with packed as lines:
            for text in texts:
                lines.write(text.encode(errors="backslashreplace"))  # names of files need not be UTF-8
