"""Freed memory is kept: a second tensor of the same size costs no new pages."""

import platform
import subprocess
import sys

import pytest

from medmol_diffusion.training import memory

PROGRAM = """
import resource, torch
from medmol_diffusion.training.memory import keep_freed_memory

def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.zeros(9 * 2**20)  # 36 MiB, above what glibc ever keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before, done = pages(), keep_freed_memory()
for _ in range(4):
    pages()
print(before, done, pages())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_used_again() -> None:
    # in a process of its own: the setting is for good
    said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout.split()
    before, after = int(said[0]), int(said[2])
    assert said[1] == "True"
    assert after < before / 100


def test_without_glibc_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: pytest.fail("the C library was touched"))
    assert memory.keep_freed_memory() is False
