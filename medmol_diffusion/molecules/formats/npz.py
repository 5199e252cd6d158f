"""npz: atomic_numbers [M, N] zero-padded, positions [M, N, 3] angstrom, num_atoms [M], and any columns [M].

Optional beside them: formal_charges [M, N] and bonds [M, N, N], symmetric orders with 4 for aromatic.
"""

import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules import chemistry
from medmol_diffusion.molecules.flat import SHOWN, FlatMolecules, centred, running
from medmol_diffusion.molecules.formats.record import Record
from medmol_diffusion.molecules.molecule import Molecule

ROWS = 4096
"""Molecules that are in memory at a time while a file is streamed."""
KINDS = {"atomic_numbers": "iu", "positions": "iuf", "num_atoms": "iu", "formal_charges": "iuf", "bonds": "iuf"}
"""The kinds of numpy's types that the arrays may have."""
NAMED = {"iu": "whole numbers", "iuf": "numbers"}
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Every array of an npz data set, once each, with num_atoms filled in where absent.

    Raises InputError when it is no npz, an array is missing or the shapes do not agree.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except Exception as error:  # numpy, zipfile and zlib each raise their own kinds on damaged bytes
        raise _no_npz(path) from error
    _check(path, {key: array.shape for key, array in arrays.items()}, {k: v.dtype for k, v in arrays.items()})
    arrays.setdefault("num_atoms", (arrays["atomic_numbers"] != 0).sum(axis=1))
    return arrays


def stream(path: str | Path) -> Iterator[dict[str, np.ndarray]]:
    """The same arrays ROWS molecules at a time, without ever holding more; columns of another length are left out."""
    try:
        with zipfile.ZipFile(path) as archive:
            files = {name.removesuffix(".npy"): archive.open(name) for name in archive.namelist()}
            headers = {}
            for key, file in files.items():
                headers[key] = _HEADERS[np.lib.format.read_magic(file)](file)
            if any(dtype.hasobject for _, _, dtype in headers.values()):
                raise ValueError("pickled objects")
            _check(path, {key: shape for key, (shape, _, _) in headers.items()}, {k: v[2] for k, v in headers.items()})
            count = headers["atomic_numbers"][0][0]
            kept = {key: header for key, header in headers.items() if header[0][:1] == (count,)}
            if any(order and len(shape) > 1 for shape, order, _ in kept.values()):
                raise InputError(f"{path} holds an array in Fortran order: save it with numpy.ascontiguousarray.")
            for start in range(0, count, ROWS):
                rows = min(ROWS, count - start)
                chunk = {}
                for key, (shape, _, dtype) in kept.items():
                    size = rows * int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
                    if len(data := files[key].read(size)) < size:
                        raise EOFError(key)
                    chunk[key] = np.frombuffer(data, dtype).reshape(rows, *shape[1:])
                chunk.setdefault("num_atoms", (chunk["atomic_numbers"] != 0).sum(axis=1))
                yield chunk
    except InputError:
        raise
    except Exception as error:  # as above
        raise _no_npz(path) from error


def chunks(path: str | Path) -> Iterator[FlatMolecules]:
    """The usable molecules of a file as flat arrays, without making a Molecule of each."""
    start = 0
    for arrays in stream(path):
        numbers, positions, count = arrays["atomic_numbers"], arrays["positions"], arrays["num_atoms"]
        good = usable_rows(numbers, positions, count)
        bad = np.flatnonzero(~good)
        real = np.arange(numbers.shape[1]) < np.where(good, count, 0)[:, None]
        offsets = running(count[good].astype(np.int64))
        index = start + np.flatnonzero(good)
        bonds = bond_offsets = None
        if "bonds" in arrays:
            row, i, j = np.nonzero(np.triu(arrays["bonds"][good], k=1))
            bonds = np.stack([i, j, arrays["bonds"][good][row, i, j]], axis=1).astype(np.int32)
            bond_offsets = running(np.bincount(row, minlength=int(good.sum())))
        columns = {
            key: value[good].astype(np.float64)
            for key, value in arrays.items()
            if value.ndim == 1 and value.dtype.kind in "iuf" and key not in ("num_atoms", "index")
        }
        yield FlatMolecules(
            numbers[real].astype(np.uint8),
            centred(positions[real], offsets),
            offsets,
            index,
            index,
            bonds,
            bond_offsets,
            arrays["formal_charges"][real].astype(np.int8) if "formal_charges" in arrays else None,
            columns,
            records=len(count),
            skipped=len(bad),
            faults=tuple(f"row {start + row}" for row in bad[:SHOWN]),
        )
        start += len(count)


def usable_rows(atomic_numbers: np.ndarray, positions: np.ndarray, num_atoms: np.ndarray) -> np.ndarray:
    """(M,) bool: rows of an npz data set with num_atoms real elements first, zeros after, and finite positions."""
    real = np.arange(atomic_numbers.shape[1]) < num_atoms[:, None]
    known = (atomic_numbers >= 1) & (atomic_numbers < len(chemistry.SYMBOLS))
    finite = np.isfinite(positions).all(axis=-1)
    return (
        np.where(real, known & finite, atomic_numbers == 0).all(axis=1) & (real.sum(axis=1) == num_atoms) & real[:, 0]
    )


def records(path: Path) -> Iterator[Record]:
    """One record for each row, named by the column index or name, with the other columns as properties."""
    start = 0
    for arrays in stream(path):
        columns = {key: value.tolist() for key, value in arrays.items() if value.ndim == 1 and key != "num_atoms"}
        names = columns.pop("index", None) or columns.pop("name", None)
        for row in range(len(arrays["num_atoms"])):
            properties = {key: values[row] for key, values in columns.items()}
            name = str(names[row]) if names else ""
            yield Record(name, partial(_molecule, arrays, row, start + row, name, properties))
        start += len(arrays["num_atoms"])


def _molecule(
    arrays: dict[str, np.ndarray], row: int, place: int, name: str, properties: dict[str, float | str]
) -> Molecule:
    numbers, size = arrays["atomic_numbers"][row], int(arrays["num_atoms"][row])
    if size > len(numbers) or (numbers[size:] != 0).any():
        raise InputError(f"Row {place} has num_atoms {size}, which is not how many atomic numbers it holds.")
    bonds = chemistry.bonds_from_orders(arrays["bonds"][row, :size, :size]) if "bonds" in arrays else None
    charges = arrays["formal_charges"][row, :size] if "formal_charges" in arrays else None
    return Molecule(numbers[:size], arrays["positions"][row, :size], bonds, charges, name, properties)


def _no_npz(path: str | Path) -> InputError:
    return InputError(f"{path} cannot be read as an npz archive of plain arrays: save it with numpy.savez.")


def _check(path: str | Path, shapes: dict[str, tuple[int, ...]], types: dict[str, np.dtype]) -> None:
    for key, dimensions in (("atomic_numbers", 2), ("positions", 3)):
        if key not in shapes or len(shapes[key]) != dimensions:
            raise InputError(f"{path} needs an array {key!r} of {dimensions} dimensions.")
    for key in KINDS.keys() & types.keys():
        if types[key].kind not in KINDS[key]:
            raise InputError(f"{path} has {key} of type {types[key]}: save them as {NAMED[KINDS[key]]}.")
    count, size = shapes["atomic_numbers"]
    wanted = {"positions": (count, size, 3), "num_atoms": (count,), "formal_charges": (count, size)}
    if any(shapes.get(key, shape) != shape for key, shape in {**wanted, "bonds": (count, size, size)}.items()):
        raise InputError(
            f"{path}: atomic_numbers [M, N], positions [M, N, 3] and num_atoms [M], and formal_charges [M, N] and "
            "bonds [M, N, N] where there are any, do not agree in shape."
        )
