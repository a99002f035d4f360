"""The number of CPU threads of a decode step, found by trial.

Threads wait for each other after each matrix product. On an idle machine this costs nothing. With other busy processes
a thread waits until the scheduler runs the other one: a step of 1 ms took 90 ms. This cannot be known in advance.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

MAX_SINGLE_STEPS = 1024  # with one thread between two trials
TOLERANCE = 1.25  # a step with all threads may take this factor longer than one with a single thread


def trial_thread_counts(cores: int) -> Generator[int, float, None]:
    """Yield the number of threads for the next step (1 or `cores`), and receive the seconds that it took.

    The two numbers alternate. The first 4 steps use one thread; the fastest of them is the reference. Then a trial uses
    all cores, and ends when two steps in a row take longer than `TOLERANCE` times the reference. After a trial that was
    longer than the series of steps with one thread before it, the next series has 4 steps, else four times as many as
    before. It gives a new reference, because steps become slower as the text grows.
    """
    n_single = 4
    while cores > 1:
        single_s = float("inf")
        for _ in range(n_single):
            single_s = min(single_s, (yield 1))
        yield cores  # wakes the other threads, which takes a while
        trial_steps, took_s, previous_s = 0, 0.0, 0.0
        while min(took_s, previous_s) < TOLERANCE * single_s:
            took_s, previous_s, trial_steps = (yield cores), took_s, trial_steps + 1
        n_single = 4 if trial_steps > n_single else min(4 * n_single, MAX_SINGLE_STEPS)
    while True:
        yield 1


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Set the number of threads of torch and of numpy's matrix products inside this context."""
    before, torch_before = [library.get_num_threads() for library in _blas_libraries()], torch.get_num_threads()
    for library in _blas_libraries():
        library.set_num_threads(count)
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(torch_before)
        for library, number in zip(_blas_libraries(), before, strict=True):
            library.set_num_threads(number)


@cache
def _blas_libraries() -> list[Any]:
    """Return the BLAS libraries of numpy whose number of threads can be set."""
    import numpy  # noqa: F401 (loads its library)
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return list(ThreadpoolController().select(user_api="blas").lib_controllers)
