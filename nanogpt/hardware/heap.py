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
    """Lets all threads allocate from one heap, the only one that `kept_memory` can keep; for before they begin."""
    if libc := _glibc():
        libc.mallopt(M_ARENA_MAX, 1)


@contextmanager
def kept_memory() -> Iterator[None]:
    """What is freed inside stays with the process, to be used again; after the last of several that ask for this, what
    is free goes back to the system."""
    global _keepers
    with _counting:
        _keepers += 1
        if _keepers == 1 and (libc := _glibc()):
            libc.mallopt(M_MMAP_MAX, 0)
            libc.mallopt(M_TRIM_THRESHOLD, NEVER)
    try:
        yield
    finally:
        with _counting:
            _keepers -= 1
            if _keepers == 0 and (libc := _glibc()):
                libc.mallopt(M_MMAP_MAX, MMAP_DEFAULT)
                libc.mallopt(M_TRIM_THRESHOLD, TRIM_DEFAULT)
                libc.malloc_trim(0)


@cache
def _glibc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
