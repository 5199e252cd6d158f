"""The same work on many molecules, on one or several processes, with progress and an end at Ctrl-C."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any, Generic, TypeVar

from medmol_diffusion.judging.kept import NOTHING, Kept
from medmol_diffusion.molecules.molecule import Molecule

Result = TypeVar("Result")
_CHUNK = 16
PAYS = 128
"""Molecules from which on a second process is worth its start, about two seconds."""


def each(
    function: Callable[[Molecule], Result],
    molecules: Sequence[Molecule],
    workers: int = 1,
    progress: Callable[[int], None] = lambda done: None,
    kept: "Results[Result] | None" = None,
) -> list[Result]:
    """function of every molecule, in their order whatever the number of workers; what was kept is not done again.

    Several workers are processes that are started afresh (spawned), so that threads and accelerators of this one do not
    matter; a script that asks for them needs the usual ``if __name__ == "__main__":``. function must be found by its
    name in a module, or be a functools.partial of one.
    """
    kept = kept or Results()
    chunks = {start: molecules[start : start + _CHUNK] for start in range(0, len(molecules), _CHUNK)}
    results = {start: before for start in chunks if (before := kept.before(start)) is not None}
    left = {start: chunk for start, chunk in chunks.items() if start not in results}
    done = len(molecules) - sum(map(len, left.values()))
    if workers <= 1 or len(molecules) < PAYS:
        for start, chunk in left.items():
            results[start] = []
            for molecule in chunk:
                results[start].append(function(molecule))
                done += 1
                progress(done)
            kept.keep(start, results[start])
    elif left:
        with processes(workers) as pool:
            futures = {pool.submit(_work, function, chunk): start for start, chunk in left.items()}
            for future in as_completed(futures):
                start = futures[future]
                results[start] = kept.keep(start, future.result())
                done += len(results[start])
                progress(done)
    return [result for start in chunks for result in results[start]]


@dataclass(frozen=True)
class Results(Generic[Result]):
    """Where the results of ``each`` are kept.

    Attributes:
        kept: the results of a file. name: all that decides these, as a part of files' names.
        write, read: from a result to plain values, and back.
    """

    kept: Kept = NOTHING
    name: str = ""
    write: Callable[[Result], Any] = lambda result: result
    read: Callable[[Any], Result] = lambda plain: plain

    def before(self, start: int) -> list[Result] | None:
        """The results of the chunk that begins at a place, if they were kept."""
        found = self.kept.plain(f"{self.name}-{start:06d}")
        return None if found is None else [self.read(one) for one in found]

    def keep(self, start: int, found: list[Result]) -> list[Result]:
        """Keep them, and give them back."""
        self.kept.keep_plain(f"{self.name}-{start:06d}", [self.write(one) for one in found])
        return found


def _work(function: Callable[[Molecule], Result], molecules: Sequence[Molecule]) -> list[Result]:
    return [function(molecule) for molecule in molecules]


@contextmanager
def processes(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Spawned processes that end with the block. Where it ends by an exception, Ctrl-C above all, they are killed in
    the middle of their work; where this process is killed, they end by themselves."""
    pool = _Processes(workers, mp_context=get_context("spawn"), initializer=_end_with_parent)
    try:
        yield pool
    except BaseException:
        for process in list(pool._processes.values()):  # no public way before Python 3.14
            process.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


class _Processes(ProcessPoolExecutor):
    """Processes that never see the Ctrl-C of the terminal: it is for the one that started them.

    A process inherits what its parent holds back at its start; every process is started in ``submit``.
    """

    def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
        if sys.platform == "win32":
            return super().submit(*args, **kwargs)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(*args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent() -> None:
    def wait() -> None:
        if (parent := parent_process()) is not None:
            parent.join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()
