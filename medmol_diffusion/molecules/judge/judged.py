"""A file of molecules judged in a stream: some numbers are kept of every molecule, and no molecule."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from medmol_diffusion.errors import InputError
from medmol_diffusion.judging.kept import Kept
from medmol_diffusion.molecules.formats.files import check_path, inputs, records
from medmol_diffusion.molecules.formats.record import BadRecord, Record, build
from medmol_diffusion.molecules.hydrogens import lacks_hydrogens, said_of_hydrogens
from medmol_diffusion.molecules.judge.pool import processes
from medmol_diffusion.molecules.judge.verdict import COLUMNS, Protocol, judge
from medmol_diffusion.molecules.molecule import Molecule
from medmol_diffusion.plural import counted

CHUNK = 1024
"""Records that are read, judged and kept at a time."""
ALONE = 4
"""Chunks that are judged before other processes are started: that costs half a second of each."""
SHOWN = 10
"""Records that cannot be read, which are told in words; the others are counted."""
Chunk = dict[str, np.ndarray]


@dataclass(frozen=True)
class Judged:
    """What is known of a file's molecules.

    Attributes:
        path: of the file or folder.
        tables: by protocol, (M, 6), see verdict.COLUMNS; that of bonds is only there where all molecules have some.
        good: (R,) bool, which of the records are molecules.
        faults: of the first that are not.
        unbonded: the place of the first molecule without bonds of its own; None where all have some.
        carbon, lacking: how many molecules have carbon, and how many of these no hydrogen where there should be.
        kept: results that belong to the file.
    """

    path: Path
    tables: dict[Protocol, np.ndarray]
    good: np.ndarray
    faults: tuple[str, ...]
    unbonded: int | None
    carbon: int
    lacking: int
    kept: Kept

    @classmethod
    def of(
        cls,
        path: Path,
        protocols: Sequence[Protocol],
        workers: int = 1,
        cache: Path | None = None,
        progress: Callable[[int], None] = lambda done: None,
    ) -> "Judged":
        """Judge all molecules of a path.

        Args:
            protocols: one or both; "bonds" ends at the first molecule without.
            workers: processes.
            cache: a folder to keep results in, see Kept.
            progress: told how many records are done.

        Raises:
            InputError: nothing there can be read.
        """
        kept = Kept.of(cache, inputs(check_path(path)))
        stream = records(path)
        chunks = iter(lambda: list(islice(stream, CHUNK)), [])
        tables: dict[Protocol, list[np.ndarray]] = {protocol: [] for protocol in protocols}
        good, faults, unbonded = [np.zeros(0, dtype=bool)], list[str](), None
        carbon = lacking = read = molecules = 0
        for found in _judged(chunks, tuple(protocols), kept, workers):
            for fault in found["faults"].tolist()[: SHOWN - len(faults)]:
                faults.append(fault)
            if unbonded is None and (first := int(found["unbonded"])) >= 0:
                unbonded = molecules + first
            for protocol, parts in tables.items():
                if protocol in found:
                    parts.append(found[protocol])
            good.append(found["good"])
            carbon, lacking = carbon + int(found["carbon"]), lacking + int(found["lacking"])
            molecules, read = molecules + int(found["good"].sum()), read + len(found["good"])
            progress(read)
        if not read:
            raise InputError(f"{path} holds no molecules.")
        if not molecules:
            raise InputError(f"{path}: none of its {counted(read, 'record')} can be read; the first: {_reason(faults)}")
        whole = {protocol: np.concatenate(parts) for protocol, parts in tables.items() if parts}
        whole = {protocol: table for protocol, table in whole.items() if len(table) == molecules}
        return cls(path, whole, np.concatenate(good), tuple(faults), unbonded, carbon, lacking, kept)

    def __len__(self) -> int:
        return int(self.good.sum())

    @property
    def bad(self) -> int:
        """Records that are no molecules."""
        return len(self.good) - len(self)

    def identities(self, protocol: Protocol) -> np.ndarray:
        """(K,) the distinct identities of the valid molecules: what novelty is measured against."""
        *_, valid, _, identity = self.tables[protocol].T
        return np.unique(identity[valid.astype(bool)])

    def missing_hydrogens(self) -> str | None:
        """As hydrogens.missing_hydrogens says it."""
        return said_of_hydrogens(self.carbon, self.lacking)

    def draw(self, limit: int, seed: int) -> list[Molecule]:
        """At most ``limit`` of the molecules, drawn at random, in their order: the file is read again for these."""
        count = len(self)
        if count <= limit:
            return self.read(range(count))
        return self.read(np.random.default_rng(seed).choice(count, limit, replace=False).tolist())

    def read(self, places: Iterable[int]) -> list[Molecule]:
        """The molecules at these places, in their order."""
        wanted = np.zeros(len(self), dtype=bool)
        wanted[list(places)] = True
        chosen = np.zeros_like(self.good)
        chosen[self.good] = wanted
        found = [record.build() for record, take in zip(records(self.path), chosen, strict=False) if take]
        return found


def judge_records(chunk: list[Record], start: int, protocols: tuple[Protocol, ...]) -> Chunk:
    """What is kept of some records, the first of them at place ``start``, as arrays."""
    molecules, faults, good = [], [], []
    for index, _, found in build(iter(chunk)):
        if isinstance(found, BadRecord):
            faults.append(str(BadRecord(start + index, found.name, found.reason)))
        else:
            molecules.append(found)
        good.append(not isinstance(found, BadRecord))
    without = [place for place, molecule in enumerate(molecules) if molecule.bonds is None]
    carbon = [molecule for molecule in molecules if (molecule.atomic_numbers == 6).any()]
    tables: Chunk = {
        protocol: judge(molecules, protocol)[0] if molecules else np.zeros((0, len(COLUMNS)), dtype=np.int64)
        for protocol in protocols
        if protocol == "distances" or not without
    }
    return {
        **tables,
        "good": np.array(good),
        "faults": np.array(faults[:SHOWN], dtype=np.str_),
        "unbonded": np.array(without[0] if without else -1),
        "carbon": np.array(len(carbon)),
        "lacking": np.array(sum(map(lacks_hydrogens, carbon))),
    }


def _judged(
    chunks: Iterator[list[Record]], protocols: tuple[Protocol, ...], kept: Kept, workers: int
) -> Iterator[Chunk]:
    """Each chunk in its turn: as it was kept, or judged here, or, of a long file, by other processes."""
    waiting: deque[tuple[str, Chunk | Future[Chunk]]] = deque()

    def first() -> Chunk:
        name, found = waiting.popleft()
        return kept.keep_arrays(name, found.result()) if isinstance(found, Future) else found

    with ExitStack() as stack:
        pool: ProcessPoolExecutor | None = None
        for number, chunk in enumerate(chunks):
            name = f"{'+'.join(protocols)}-{number:06d}"
            arguments = chunk, number * CHUNK, protocols
            if (before := kept.arrays(name)) is not None:
                waiting.append((name, before))
            elif number < ALONE or workers <= 1:
                waiting.append((name, kept.keep_arrays(name, judge_records(*arguments))))
            else:
                pool = pool or stack.enter_context(processes(workers))
                waiting.append((name, pool.submit(judge_records, *arguments)))
            while waiting and (len(waiting) > 2 * workers or not isinstance(waiting[0][1], Future)):
                yield first()
        while waiting:
            yield first()


def _reason(faults: list[str]) -> str:
    return faults[0].partition(": ")[2]
