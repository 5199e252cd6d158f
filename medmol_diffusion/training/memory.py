"""Memory of a CPU process: kept rather than given back to the system, measured, and kept within what there is."""

import ctypes
import platform
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
GIB = 2**30


def keep_freed_memory() -> bool:
    """Let glibc's malloc keep what is freed, in steps of 128 MiB; whether it was done.

    By default glibc hands large tensors back to the system when they are freed, and the system clears and maps every
    page anew when the next one of the same size is asked for. The process then holds its peak to its end, which is why
    `medmol` asks for it and the library does not. Nothing is done, and False returned, where there is no glibc.

    Source: mallopt(3).
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    wanted = ((M_MMAP_THRESHOLD, GIB), (M_TRIM_THRESHOLD, 2 * GIB - 1), (M_TOP_PAD, GIB // 8))
    return all([mallopt(name, value) == 1 for name, value in wanted])


def available() -> int | None:
    """Bytes that this process can still have, by the system and by its control group; None where nobody says."""
    free = _field("/proc/meminfo", "MemAvailable")
    try:
        group = Path("/sys/fs/cgroup")
        left = int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no control group, or one without a limit
        return free
    return left if free is None else min(free, left)


def give_back() -> None:
    """Hand freed memory back to the system, where there is a glibc: what is held from now on is in use.

    Source: malloc_trim(3).
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def restart_peak() -> None:
    """Let ``peak`` count from now on, where the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak() -> int:
    """The most bytes this process has held at a time since ``restart_peak``, or ever."""
    return _field("/proc/self/status", "VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def at_most(more: int | None) -> Iterator[None]:
    """Inside, asking for more than so many further bytes raises, where the system would end the process without a word.

    Torch raises RuntimeError, NumPy MemoryError. Nothing is limited with None, or where the system does not say what
    is held.
    """
    held = _field("/proc/self/status", "VmSize")
    if more is None or held is None:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (held + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _field(file: str, name: str) -> int | None:
    """Bytes in a line such as "VmHWM:  123 kB" of a file of the kernel."""
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", Path(file).read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
