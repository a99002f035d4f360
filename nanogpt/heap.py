"""Settings of the memory allocator of glibc; with other C libraries these functions do nothing.

By default glibc maps each large tensor when it is allocated and unmaps it when it is freed, and the kernel clears every
page again. A training step that allocates a gigabyte of tensors spends a tenth of its time on that.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

# from <malloc.h>
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
NEVER, TRIM_DEFAULT, MMAP_DEFAULT = 2**31 - 1, 128 * 1024, 65536

_lock, _users = Lock(), 0  # a training and a generation can run at the same time


def share_heap() -> None:
    """Let all threads allocate from one heap, the only one whose memory `retain_freed_memory` retains.

    Call it before threads start.
    """
    if libc := _glibc():
        libc.mallopt(M_ARENA_MAX, 1)


@contextmanager
def retain_freed_memory() -> Iterator[None]:
    """Keep freed memory in the process inside this context, for reuse. At the end of the last one, return it."""
    global _users
    with _lock:
        _users += 1
        if _users == 1 and (libc := _glibc()):
            libc.mallopt(M_MMAP_MAX, 0)
            libc.mallopt(M_TRIM_THRESHOLD, NEVER)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0 and (libc := _glibc()):
                libc.mallopt(M_MMAP_MAX, MMAP_DEFAULT)
                libc.mallopt(M_TRIM_THRESHOLD, TRIM_DEFAULT)
                libc.malloc_trim(0)


def trim_heap() -> None:
    """Return the freed memory of the heap to the system, also while it is retained: what is allocated next differs."""
    if libc := _glibc():
        libc.malloc_trim(0)


@contextmanager
def outside_heap() -> Iterator[None]:
    """Map each large tensor that is allocated inside this context apart, unless the heap's free memory has room for it.

    For tensors that stay: among those that come and go they leave gaps too small for others.
    """
    _map_while_retaining(MMAP_DEFAULT)
    try:
        yield
    finally:
        _map_while_retaining(0)


def _map_while_retaining(most: int) -> None:
    with _lock:
        if _users and (libc := _glibc()):
            libc.mallopt(M_MMAP_MAX, most)


@cache
def _glibc() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
