"""Which reader a path wants: any file, folder or archive of molecules, as records or as flat arrays."""

import csv
import gzip
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import islice, zip_longest
from pathlib import Path

from medmol_diffusion.errors import InputError
from medmol_diffusion.molecules.flat import SHOWN, FlatMolecules
from medmol_diffusion.molecules.formats import geom, npz, qm9, sdf, xyz
from medmol_diffusion.molecules.formats.record import BadRecord, Record, build, number_or_text
from medmol_diffusion.molecules.molecule import Molecule
from medmol_diffusion.molecules.scaffold import scaffold
from medmol_diffusion.molecules.smiles import canonical_smiles

TEXT = {".sdf": sdf.records, ".xyz": xyz.records, ".extxyz": xyz.records}
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2")
SUFFIXES = (".sdf", ".sdf.gz", ".xyz", ".xyz.gz", ".extxyz", ".extxyz.gz", ".npz", ".npy", ".msgpack", *ARCHIVES)
CONFORMERS = 30
"""Of each molecule, where the layout says which conformers are of one molecule: EDM's choice for GEOM-Drugs."""
CHUNK = 2048


def read_molecules(path: str | Path) -> tuple[list[Molecule], list[BadRecord]]:
    """The molecules of a file, folder or archive, and the records that were skipped; docs/guides/own-molecules.md.

    Raises InputError for a missing or empty path, and for any other suffix. Reading SDF needs RDKit.
    """
    molecules: list[Molecule] = []
    bad: list[BadRecord] = []
    for _, _, found in build(records(check_path(path))):
        if isinstance(found, BadRecord):
            bad.append(found)
        else:
            molecules.append(found)
    if not molecules and not bad:
        raise InputError(f"{path} holds no molecules.")
    return molecules, bad


def check_path(path: str | Path) -> Path:
    """The path, if it is a file or folder that can hold molecules; raises InputError otherwise."""
    path = Path(path)
    geom.refuse_pickles(path)
    if path.is_dir():
        if not inputs(path):
            raise InputError(f"{path} holds no file that ends in {', '.join(SUFFIXES)}.")
        return path
    if suffix(path) not in SUFFIXES:
        raise InputError(f"{path} is not a molecule file: its name must end in {', '.join(SUFFIXES)}.")
    if not path.is_file():
        raise InputError(f"There is no file {path}: check the path.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty: the program that was to write it may have failed, so write it again.")
    return path


def suffix(path: Path) -> str:
    packed = path.suffix.lower() in (".gz", ".bz2")
    return "".join(path.suffixes[-2:]).lower() if packed else path.suffix.lower()


def inputs(path: Path) -> list[Path]:
    """Every file that is read for a path: itself with the csv beside it, or those of a folder, in order of name."""
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if suffix(file) in SUFFIXES and file.is_file())
        return [one for file in files for one in inputs(file)]
    beside = _csv_beside(path)
    return [path, beside] if beside.is_file() else [path]


def records(path: Path, conformers: int = CONFORMERS) -> Iterator[Record]:
    """Every record of a path, in order; a folder is the sum of its files.

    gdb9.sdf loses its bonds and charges (qm9.bonds_are_artefacts). A csv of the same name with .csv appended, one row
    for each record, adds its columns.
    """
    if path.is_dir():
        for file in inputs(path):
            if suffix(file) in SUFFIXES:
                for record in records(check_path(file), conformers):
                    yield record if record.name else replace(record, name=_printable(file.name))
        return
    match suffix(path):
        case ".npz":
            found = npz.records(path)
        case ".npy":
            found = geom.array_records(path)
        case ".msgpack":
            found = geom.msgpack_records(path, conformers)
        case packed if packed in ARCHIVES:
            found = _archive(path)
        case text:
            found = TEXT[text.removesuffix(".gz")](_lines(path))
    if qm9.bonds_are_artefacts(path):
        found = (replace(record, build=partial(_without_bonds, record)) for record in found)
    beside = _csv_beside(path)
    yield from _with_columns(found, path, beside) if beside.is_file() else found


def chunks(path: Path, group_by: str | None = None, conformers: int = CONFORMERS) -> Iterator[FlatMolecules]:
    """Every usable molecule of a path as flat arrays, a few thousand at a time: memory stays flat.

    group_by keeps together in a split what is equal in it: a column or field, "name", "smiles" (canonical, see
    smiles.py) or "scaffold" (Bemis-Murcko); by default what the layout calls one molecule. Raises InputError when no
    record has it.
    """
    if group_by is None and suffix(path) == ".npz" and path.is_file():
        yield from npz.chunks(path)
        return
    if group_by is None and suffix(path) == ".npy" and path.is_file():
        yield from geom.array_chunks(path)
        return
    built = build(records(path, conformers))
    first: dict[str, int] = {}
    grouped = group_by is None
    while batch := list(islice(built, CHUNK)):
        molecules, index, group, faults = [], [], [], []
        for place, record, found in batch:
            if isinstance(found, BadRecord):
                faults.append(str(found))
                continue
            key = record.group if group_by is None else _key(found, group_by)
            grouped = grouped or bool(key)
            molecules.append(found)
            index.append(place)
            group.append(first.setdefault(key, place) if key else place)
        flat = FlatMolecules.of(molecules, index, group)
        yield replace(flat, records=len(batch), skipped=len(faults), faults=tuple(faults[:SHOWN]))
    if not grouped:
        raise InputError(
            f"No record of {path} has {group_by!r}: group_by names a field, 'name', 'smiles' or 'scaffold'."
        )


def _key(molecule: Molecule, group_by: str) -> str:
    match group_by:
        case "name":
            return molecule.name
        case "smiles":
            return canonical_smiles(molecule)
        case "scaffold":
            return scaffold(molecule)
    return str(molecule.properties.get(group_by, ""))


def _lines(path: Path) -> Iterator[str]:
    packed = path.suffix.lower() == ".gz"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            yield from _text(file)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path} is not a whole gzip file ({error}).") from error


def _text(file: Iterable[bytes]) -> Iterator[str]:
    for line in file:
        yield line.decode("utf-8", errors="replace").rstrip("\r\n")


def _archive(path: Path) -> Iterator[Record]:
    try:
        with tarfile.open(path, "r|*") as archive:
            for member in archive:
                kind = suffix(Path(member.name))
                file = archive.extractfile(member) if kind in TEXT else None
                if file is None:
                    continue
                for record in TEXT[kind](_text(file)):
                    yield record if record.name else replace(record, name=_printable(Path(member.name).name))
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(f"{path} is not a whole tar archive ({error}).") from error


def _printable(name: str) -> str:
    """A file's name, whose bytes need not be UTF-8, as text that can be written."""
    return name.encode(errors="backslashreplace").decode()


def _csv_beside(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(".gz") + ".csv")


def _without_bonds(record: Record) -> Molecule:
    return replace(record.build(), bonds=None, formal_charges=None)


def _with_columns(found: Iterable[Record], path: Path, beside: Path) -> Iterator[Record]:
    with beside.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = csv.DictReader(file)
        for record, row in zip_longest(found, rows):
            if record is None or row is None:
                has = "fewer" if row is None else "more"
                raise InputError(f"{beside} must have one row for each record of {path.name}: it has {has}.")
            yield replace(record, build=partial(_merge, record, row))


def _merge(record: Record, row: dict[str, str]) -> Molecule:
    molecule = record.build()
    key = next(iter(row))
    if key in ("mol_id", "name") and record.name and row[key] != record.name:
        raise InputError(f"The csv beside it has {row[key]} at its place.")
    molecule.properties.update({name: number_or_text(text) for name, text in row.items() if name != key and text})
    return molecule
