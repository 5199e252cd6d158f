"""The same work on many molecules, on one or several processes, with progress and an end at Ctrl-C."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import TypeVar

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
    executor = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        futures = {executor.submit(_work, function, molecules[start : start + _CHUNK]): start for start in starts}
        done = 0
        for future in as_completed(futures):
            results[futures[future]] = future.result()
            done += len(results[futures[future]])
            progress(done)
    finally:
        executor.shutdown(cancel_futures=True)
    return [result for start in starts for result in results[start]]


def _work(function: Callable[[Molecule], Result], molecules: Sequence[Molecule]) -> list[Result]:
    return [function(molecule) for molecule in molecules]
