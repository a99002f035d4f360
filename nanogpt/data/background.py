"""Work in other threads, in order and never far ahead, so memory stays constant. Knows nothing of what the work is.

It gains where the work lets other threads run meanwhile: reading, writing, hashing, encoding, numpy on large arrays.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def run_in_background(ahead: int = 4) -> Generator[Callable[..., None], None, None]:
    """Yields a function that runs calls one after the other in a thread of their own, while at most `ahead` wait.

    All have ended when the block is left. What a call raises is raised by a later one, or at the end.
    """
    waiting: deque[Future[Any]] = deque()

    def run(work: Callable[..., object], *arguments: Any) -> None:
        if len(waiting) >= ahead:
            waiting.popleft().result()
        waiting.append(pool.submit(work, *arguments))

    with ThreadPoolExecutor(1, thread_name_prefix="beside") as pool:
        yield run
        while waiting:
            waiting.popleft().result()


def map_in_threads(work: Callable[[T], R], items: Iterable[T]) -> Iterator[tuple[T, R]]:
    """Each item with what `work` makes of it, in their order, one thread a core and one item more under way."""
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    waiting: deque[tuple[T, Future[R]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="encode")
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) > workers:
                item, result = waiting.popleft()
                yield item, result.result()
        while waiting:
            item, result = waiting.popleft()
            yield item, result.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
