"""The same work on many molecules, on one or several processes, with progress and an end at Ctrl-C."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any, TypeVar

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
) -> list[Result]:
    """function of every molecule, in their order whatever the number of workers.

    Several workers are processes that are started afresh (spawned), so that threads and accelerators of this one do not
    matter; a script that asks for them needs the usual ``if __name__ == "__main__":``. function must be found by its
    name in a module, or be a functools.partial of one.
    """
    if workers <= 1 or len(molecules) < PAYS:
        found = []
        for done, molecule in enumerate(molecules):
            found.append(function(molecule))
            progress(done + 1)
        return found
    starts = range(0, len(molecules), _CHUNK)
    results: dict[int, list[Result]] = {}
    with processes(workers) as pool:
        futures = {pool.submit(_work, function, molecules[start : start + _CHUNK]): start for start in starts}
        done = 0
        for future in as_completed(futures):
            results[futures[future]] = future.result()
            done += len(results[futures[future]])
            progress(done)
    return [result for start in starts for result in results[start]]


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
