"""GEOM as it is published and passed on (Axelrod and Gomez-Bombarelli, Scientific Data 9, 185, 2022).

* drugs_crude.msgpack, qm9_crude.msgpack: a stream of maps {SMILES: {"conformers": [{"xyz": rows (Z, x, y, z),
  "totalenergy", "relativeenergy", "boltzmannweight", ...}, ...], ...}}; the energies in hartree and kcal/mol. The
  featurized files beside them, lists of features of atoms and bonds, are not read.
* EDM's arrays (Hoogeboom et al. 2022): geom_drugs_30.npy, rows (conformer, Z, x, y, z), the 30 conformers of lowest
  energy of each molecule; geom_drugs_n_30.npy, the number of atoms of each. Its list of SMILES, one a molecule, does
  not say which conformers are whose, and is not read.
* rdkit_folder, pickles of RDKit molecules: refused and never opened, because loading one runs whatever code it names.
"""

import re
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import chemistry
from medmol_diffusion.molecules.flat import SHOWN, FlatMolecules, centred, running
from medmol_diffusion.molecules.formats.record import Record
from medmol_diffusion.molecules.molecule import Molecule

ATOMS = 1 << 18
"""Rows of the array that are in memory at a time, or one conformer."""
ENERGIES = ("totalenergy", "relativeenergy", "boltzmannweight", "degeneracy")


def refuse_pickles(path: Path) -> None:
    """Raises InputError for the pickles of rdkit_folder."""
    pickled = path.suffix in (".pickle", ".pkl") or (path.is_dir() and next(path.glob("**/*.pickle"), None) is not None)
    if pickled or path.name.startswith("rdkit_folder"):
        raise InputError(
            f"{path} holds pickles, and loading a pickle runs any code it names: take drugs_crude.msgpack of the same "
            "data set, or write the molecules to SDF in an environment of your own."
        )


def msgpack_records(path: Path, conformers: int) -> Iterator[Record]:
    """The conformers of lowest energy of each molecule, at most so many of each, in ascending order of energy.

    Raises InputError without the package msgpack, and for a file of another layout.
    """
    try:
        import msgpack
    except ImportError as error:
        raise InputError(f"Reading {path} needs the package msgpack: pip install 'medmol_diffusion[geom]'.") from error
    with path.open("rb") as file:
        stream = msgpack.Unpacker(file, max_buffer_size=2**31 - 1)
        while True:
            try:
                molecules = stream.read_map_header()  # a thousand at a time; one of them is taken into memory
            except msgpack.OutOfData:
                return
            except (ValueError, TypeError) as error:
                raise _other_layout(path) from error
            for _ in range(molecules):
                try:
                    smiles, entry = stream.unpack(), stream.unpack()
                    if not isinstance(smiles, str):
                        raise _other_layout(path)
                    found = sorted(entry["conformers"], key=lambda conformer: conformer.get("totalenergy", 0.0))
                except msgpack.OutOfData as error:
                    raise InputError(f"{path} ends in the middle of a molecule: fetch it again.") from error
                except (ValueError, TypeError, KeyError, AttributeError) as error:
                    raise _other_layout(path) from error
                for conformer in found[:conformers]:
                    yield Record(smiles, partial(_conformer, smiles, conformer, entry.get("charge")), smiles)


def _other_layout(path: Path) -> InputError:
    return InputError(f"{path} is not laid out as GEOM's crude msgpack: maps of SMILES to their conformers.")


def _conformer(smiles: str, conformer: dict[str, Any], charge: Any) -> Molecule:
    try:
        rows = np.array(conformer["xyz"], dtype=np.float64).reshape(-1, 4)
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(
            f"A conformer of {smiles} has no rows of Z, x, y and z: take the crude msgpack, not the featurized one."
        ) from error
    values = {key: conformer.get(key) for key in ENERGIES} | {"charge": charge}
    properties: dict[str, float | str] = {k: v for k, v in values.items() if isinstance(v, (int, float))}
    return Molecule(rows[:, 0].astype(np.int64), rows[:, 1:], name=smiles, properties={"smiles": smiles, **properties})


def array_chunks(path: Path) -> Iterator[FlatMolecules]:
    """The conformers of EDM's array, read through a memory map. Neighbours with the same elements in the same order are
    conformers of one molecule: they form one group.

    Raises InputError when the array is none of that layout, or its n file does not agree with it.
    """
    rows = _open(path)
    ends = _ends(path, rows)
    start = first = 0
    previous, group = np.empty(0), 0
    while first < len(ends):
        last = max(int(np.searchsorted(ends, start + ATOMS, side="right")), first + 1)
        block = np.asarray(rows[start : ends[last - 1]], dtype=np.float64)
        offsets = running(np.diff(ends[first:last], prepend=start))
        numbers = block[:, 1]
        known = (numbers == np.round(numbers)) & (numbers >= 1) & (numbers < len(chemistry.SYMBOLS))
        good = np.logical_and.reduceat(known & np.isfinite(block).all(axis=1), offsets[:-1])
        groups = np.empty(len(good), dtype=np.int64)
        for place, (a, b) in enumerate(pairwise(offsets)):
            if not np.array_equal(numbers[a:b], previous):
                previous, group = numbers[a:b], first + place
            groups[place] = group
        keep = np.repeat(good, np.diff(offsets))
        kept = running(np.diff(offsets)[good])
        yield FlatMolecules(
            numbers[keep].astype(np.uint8),
            centred(block[keep, 2:], kept),
            kept,
            first + np.flatnonzero(good),
            groups[good],
            records=len(good),
            skipped=int((~good).sum()),
            faults=tuple(f"conformer {first + place}" for place in np.flatnonzero(~good)[:SHOWN]),
        )
        first, start = last, int(ends[last - 1])


def array_records(path: Path) -> Iterator[Record]:
    """The same conformers one by one."""
    rows = _open(path)
    start = 0
    for place, end in enumerate(_ends(path, rows).tolist()):
        yield Record(str(place), partial(_rows, rows, start, end, str(place)))
        start = end


def _rows(rows: np.ndarray, start: int, end: int, name: str) -> Molecule:
    block = np.asarray(rows[start:end], dtype=np.float64)
    if not np.isfinite(block).all():
        raise InputError("A row of the conformer is not five finite numbers.")
    return Molecule(block[:, 1].astype(np.int64), block[:, 2:], name=name)


def _open(path: Path) -> np.ndarray:
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy lets through what the parser of its headers raises on damaged bytes
        raise InputError(f"{path} cannot be read as an array of numbers: save it with numpy.save.") from error
    if not isinstance(rows, np.ndarray) or rows.dtype.kind not in "iuf":
        raise InputError(f"{path} does not hold one array of numbers: save it with numpy.save.")
    if rows.ndim != 2 or rows.shape[1] != 5 or not len(rows):
        raise InputError(f"{path} needs rows of conformer, Z, x, y and z; its shape is {rows.shape}.")
    return rows


def _ends(path: Path, rows: np.ndarray) -> np.ndarray:
    """(conformers,) int64: where each ends, by the conformer's number; checked against the n file, if any."""
    places = [
        start + 1 + np.flatnonzero(np.diff(rows[start : start + ATOMS + 1, 0])) for start in range(0, len(rows), ATOMS)
    ]
    ends = np.concatenate([*places, [len(rows)]]).astype(np.int64)
    beside = path.with_name(re.sub(r"(?i)^(geom_drugs_)", r"\1n_", path.name))
    if beside != path and beside.is_file():
        try:
            count = np.load(beside, allow_pickle=False).astype(np.int64)
        except Exception as error:  # as above
            raise InputError(f"{beside} cannot be read as an array: save it with numpy.save.") from error
        if not np.array_equal(np.cumsum(count), ends):
            raise InputError(f"{beside} does not say how many atoms the conformers of {path.name} have: they differ.")
    return ends
