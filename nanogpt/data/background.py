"""Work in other threads, in order and with bounded queues, so that memory stays constant.

It is faster for work that releases the interpreter lock: reading, writing, hashing, encoding, numpy on large arrays.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def run_in_background(ahead: int = 4) -> Generator[Callable[..., None], None, None]:
    """Yield a function that queues a call for one background thread, which runs the calls in order.

    The function blocks while `ahead` calls wait. All calls have ended when the block is left. An exception in a call is
    raised by a later call of the function, or at the end of the block.
    """
    waiting: deque[Future[Any]] = deque()

    def run(work: Callable[..., object], *arguments: Any) -> None:
        if len(waiting) >= ahead:
            waiting.popleft().result()
        waiting.append(pool.submit(work, *arguments))

    with ThreadPoolExecutor(1, thread_name_prefix="background") as pool:
        yield run
        while waiting:
            waiting.popleft().result()


def available_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_threads(
    work: Callable[[T], R],
    items: Iterable[T],
    workers: int | None = None,
    ahead: float | None = None,
    size: Callable[[T], float] = lambda item: 1,
) -> Generator[tuple[T, R], None, None]:
    """Yield each item and the result of `work` for it, in order.

    There are `workers` threads, by default one for each CPU core, and `ahead` items, by default as many, are in work or
    waiting when one more is read. An item counts as `size` items.
    """
    workers = workers or available_cores()
    ahead = ahead or workers
    waiting: deque[tuple[T, Future[R]]] = deque()
    total = 0.0
    pool = ThreadPoolExecutor(workers, thread_name_prefix="encode")
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            total += size(item)
            while total > ahead and waiting:
                item, result = waiting.popleft()
                total -= size(item)
                yield item, result.result()
        while waiting:
            item, result = waiting.popleft()
            yield item, result.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
