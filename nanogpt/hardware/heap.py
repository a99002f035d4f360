"""How the C library hands out memory, where it is glibc; elsewhere nothing happens. Knows nothing of what it is for.

By default each large tensor is mapped anew when it is made, and unmapped when it goes: the kernel then clears every
page of it again. A training step that makes and drops a gigabyte of them spends a tenth of its time on that.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

# names of <malloc.h>
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
NEVER, TRIM_DEFAULT, MMAP_DEFAULT = 2**31 - 1, 128 * 1024, 65536

_counting, _keepers = Lock(), 0  # a training and a text beside it


def share_heap() -> None:
    """Lets all threads allocate from one heap, the only one that `keep_memory` can keep; for before they begin."""
    if libc := _glibc():
        libc.mallopt(M_ARENA_MAX, 1)


def keep_memory() -> None:
    """From now on what is freed stays with the process, to be used again."""
    global _keepers
    with _counting:
        _keepers += 1
        if _keepers == 1 and (libc := _glibc()):
            libc.mallopt(M_MMAP_MAX, 0)
            libc.mallopt(M_TRIM_THRESHOLD, NEVER)


def give_memory_back() -> None:
    """Ends what `keep_memory` began, and after the last of several returns what is free to the system."""
    global _keepers
    with _counting:
        _keepers = max(0, _keepers - 1)
        if not _keepers and (libc := _glibc()):
            libc.mallopt(M_MMAP_MAX, MMAP_DEFAULT)
            libc.mallopt(M_TRIM_THRESHOLD, TRIM_DEFAULT)
            libc.malloc_trim(0)


@contextmanager
def kept_memory() -> Iterator[None]:
    """Both, around what is done inside."""
    keep_memory()
    try:
        yield
    finally:
        give_memory_back()


@cache
def _glibc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
