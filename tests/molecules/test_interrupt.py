"""Ctrl-C while worker processes score: an end at once, and nobody left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from medmol_diffusion.molecules import write_sdf
from medmol_diffusion.molecules.judge.pool import PAYS
from tests.conftest import random_molecules

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")


def children(parent: int) -> list[int]:
    """The live processes that one has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, ppid = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it has ended since
            continue
        if int(ppid) == parent and state != "Z":
            found.append(int(stat.parent.name))
    return found


def wait_for(true: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return true()


def running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def heed_interrupts() -> None:
    """Where the tests run in the background, a shell has made them, and all they start, deaf to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def scoring(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`medmol score --full` in a session of its own, its two workers on their way."""
    write_sdf(random_molecules(4 * PAYS), tmp_path / "many.sdf")
    command = [sys.executable, "-m", "medmol_diffusion", "score", str(tmp_path / "many.sdf"), "--full"]
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    ) as run:
        try:
            assert wait_for(lambda: len(children(run.pid)) >= 3, 60)  # and the tracker of their locks
            yield run
        finally:
            run.kill()


@pytest.mark.parametrize(
    ("send", "work"), [(os.killpg, 0.0), (os.kill, 1.0)], ids=["terminal_at_the_start", "parent_alone_at_work"]
)
def test_an_interrupted_score_leaves_nothing_running(
    scoring: subprocess.Popen[str], send: Callable[[int, int], None], work: float
) -> None:
    time.sleep(work)
    workers = children(scoring.pid)
    send(scoring.pid, signal.SIGINT)
    _, said = scoring.communicate(timeout=60)  # one that hangs raises
    assert scoring.returncode == 130
    assert said.split() == ["interrupted"]
    assert wait_for(lambda: not any(map(running, workers)), 30)


def test_workers_end_when_their_parent_is_killed(scoring: subprocess.Popen[str]) -> None:
    workers = children(scoring.pid)
    scoring.kill()
    assert wait_for(lambda: not any(map(running, workers)), 30)
