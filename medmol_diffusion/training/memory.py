"""Memory of a CPU process that is kept rather than given back to the system."""

import ctypes
import platform

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
