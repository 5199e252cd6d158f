"""A cache on disk: FlatMolecules as npy files that are memory-mapped, so that a data set need not fit in memory."""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.fingerprint import fingerprint, stamp
from medmol_diffusion.molecules.flat import SHOWN, FlatMolecules
from medmol_diffusion.whole_file import whole_file

VERSION = 1
MANIFEST = "manifest.json"


def default_root() -> Path:
    """$XDG_CACHE_HOME/medmol_diffusion/molecules, or ~/.cache/..."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "medmol_diffusion" / "molecules"


def open_or_build(
    path: Path,
    files: list[Path],
    settings: dict[str, Any],
    chunks: Callable[[], Iterable[FlatMolecules]],
    root: Path,
    progress: Callable[[int], None] | None = None,
) -> FlatMolecules:
    """The cached molecules of a path: those of an earlier run if its files are the same, else built now.

    Args:
        path: of the source; files: all that is read for it (names, times and contents decide whether it has changed).
        settings: what else the molecules depend on.
        chunks: reads them, a few thousand at a time.
        root: the folder of all caches.
        progress: called with the number of molecules written.

    Raises:
        InputError: the folder cannot be written.
    """
    key = hashlib.sha256(json.dumps([str(path.resolve()), settings], sort_keys=True).encode()).hexdigest()[:12]
    folder = root / f"{path.name}-{key}"
    seen = stamp(files)
    manifest = _manifest(folder)
    if manifest and manifest["stamp"] == seen:
        return read(folder)
    content = fingerprint(files)
    if manifest and manifest["fingerprint"] == content:  # copied or touched
        return read(folder)
    try:
        write(folder, chunks(), {"source": str(path), "stamp": seen, "fingerprint": content}, progress)
    except OSError as error:
        raise InputError(f"The cache {folder} cannot be written ({error}): choose another cache_dir.") from error
    return read(folder)


def write(
    folder: Path,
    chunks: Iterable[FlatMolecules],
    facts: dict[str, Any],
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write chunks to a folder, which appears whole or not at all; no more than a chunk is in memory at a time.

    Bonds, and charges, are kept where all chunks with molecules have them. A column that begins late is NaN before.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        with _Arrays(temporary) as arrays:
            molecules = records = skipped = 0
            faults: list[str] = []
            absent: set[str] = set()
            names: list[str] = []
            for chunk in chunks:
                records, skipped = records + chunk.records, skipped + chunk.skipped
                faults = [*faults, *chunk.faults][:SHOWN]
                if not len(chunk):
                    continue
                arrays.append("atomic_numbers", chunk.atomic_numbers)
                arrays.append("positions", chunk.positions)
                arrays.append("index", chunk.index)
                arrays.append("group", chunk.group)
                arrays.append_offsets("offsets", chunk.offsets)
                if chunk.bonds is None or chunk.bond_offsets is None:
                    absent |= {"bonds", "bond_offsets"}
                else:
                    arrays.append("bonds", chunk.bonds)
                    arrays.append_offsets("bond_offsets", chunk.bond_offsets)
                if chunk.formal_charges is None:
                    absent.add("formal_charges")
                else:
                    arrays.append("formal_charges", chunk.formal_charges)
                for name in sorted(chunk.columns.keys() - set(names)):
                    arrays.append(f"column-{len(names)}", np.full(molecules, np.nan))
                    names.append(name)
                for place, name in enumerate(names):
                    arrays.append(f"column-{place}", chunk.column(name))
                molecules += len(chunk)
                if progress is not None:
                    progress(molecules)
        for name in absent:
            (temporary / f"{name}.npy").unlink(missing_ok=True)
        manifest = {"version": VERSION, **facts, "molecules": molecules, "records": records, "skipped": skipped}
        manifest |= {"faults": faults, "columns": names}
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1))
        there = _manifest(folder)
        if not there or there.get("fingerprint") != facts.get("fingerprint"):  # else another process was first
            shutil.rmtree(folder, ignore_errors=True)
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def add_columns(folder: Path, columns: dict[str, np.ndarray]) -> FlatMolecules:
    """The molecules of a folder with more columns (M,), which stay there."""
    manifest = _manifest(folder)
    for name, column in columns.items():
        np.save(folder / f"column-{len(manifest['columns'])}.npy", column.astype(np.float64))
        manifest["columns"].append(name)
    with whole_file(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1))
    return read(folder)


def read(folder: Path) -> FlatMolecules:
    """The molecules of a folder that write has left, memory-mapped: they cost address space, not memory."""
    manifest = _manifest(folder)

    def array(name: str) -> np.ndarray | None:
        file = folder / f"{name}.npy"
        if not file.exists():
            return None
        mode: Any = "r" if file.stat().st_size > len(_header(np.empty(0), 0)) else None  # a header alone has no map
        return np.asarray(np.load(file, mmap_mode=mode, allow_pickle=False))

    def needed(name: str, *shape: int) -> np.ndarray:
        found = array(name)
        return np.zeros(shape, dtype=np.int64) if found is None else found

    return FlatMolecules(
        needed("atomic_numbers", 0),
        needed("positions", 0, 3),
        needed("offsets", 1),
        needed("index", 0),
        needed("group", 0),
        array("bonds"),
        array("bond_offsets"),
        array("formal_charges"),
        {name: needed(f"column-{place}", 0) for place, name in enumerate(manifest["columns"])},
        manifest["records"],
        manifest["skipped"],
        tuple(manifest["faults"]),
        folder,
    )


def known_fingerprint(folder: Path) -> str:
    """The fingerprint of the files that the molecules of a folder were read from."""
    return str(_manifest(folder)["fingerprint"])


def _manifest(folder: Path) -> dict[str, Any]:
    """What a folder says of itself; empty where it is no cache of this version."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return {}
    return manifest if manifest.get("version") == VERSION else {}


class _Arrays:
    """npy files that grow by appending; their headers are written when all is known."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.open: dict[str, tuple[io.BufferedWriter, np.ndarray]] = {}
        self.rows: dict[str, int] = {}
        self.last: dict[str, int] = {}

    def append(self, name: str, array: np.ndarray) -> None:
        if name not in self.open:
            file = (self.folder / f"{name}.npy").open("wb")
            file.write(_header(array, 0))
            self.open[name], self.rows[name] = (file, array[:0]), 0
        file, first = self.open[name]
        file.write(np.ascontiguousarray(array, dtype=first.dtype).tobytes())
        self.rows[name] += len(array)

    def append_offsets(self, name: str, offsets: np.ndarray) -> None:
        last = self.last.get(name)
        self.append(name, offsets if last is None else offsets[1:] + last)
        self.last[name] = (last or 0) + int(offsets[-1])

    def __enter__(self) -> "_Arrays":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, (file, first) in self.open.items():
            file.seek(0)
            file.write(_header(first, self.rows[name]))
            file.close()


def _header(array: np.ndarray, rows: int) -> bytes:
    """The npy header of an array like this with so many rows; numpy leaves room in it for rows to grow."""
    stream = io.BytesIO()
    shape = (rows, *array.shape[1:])
    descr = np.lib.format.dtype_to_descr(array.dtype)
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()
