"""How the C library hands out memory, where it is glibc; elsewhere nothing happens. Knows nothing of what it is for.

By default each large tensor is mapped anew when it is made, and unmapped when it goes: the kernel then clears every
page of it again. A training step that makes and drops a gigabyte of them spends a tenth of its time on that.
"""

import ctypes
import sys
from functools import cache
from typing import Any

# names of <malloc.h>
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
NEVER, TRIM_DEFAULT, MMAP_DEFAULT = 2**31 - 1, 128 * 1024, 65536


def share_heap() -> None:
    """Lets all threads allocate from one heap, the only one that `keep_memory` can keep; for before they begin."""
    if libc := _glibc():
        libc.mallopt(M_ARENA_MAX, 1)


def keep_memory() -> None:
    """From now on what is freed stays with the process, to be used again."""
    if libc := _glibc():
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, NEVER)


def give_memory_back() -> None:
    """Ends what `keep_memory` began, and returns what is free to the system."""
    if libc := _glibc():
        libc.mallopt(M_MMAP_MAX, MMAP_DEFAULT)
        libc.mallopt(M_TRIM_THRESHOLD, TRIM_DEFAULT)
        libc.malloc_trim(0)


@cache
def _glibc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
