"""How many cores a step of writing uses. Knows nothing of models.

Two threads wait for each other at each product. Alone on the machine that is nothing; beside another busy process the
one waits until the scheduler lets the other run, and a step of 1 ms took 90. Nothing tells beforehand which it will be,
so it is tried.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

MOST_PATIENCE = 1024  # steps
HARDLY = 1.25


def by_trial(cores: int) -> Generator[int, float, None]:
    """Yields how many threads the next step is to use (1 or all cores), then is sent the seconds that it took.

    All are used as long as one of two steps takes no longer, or hardly, than one thread alone just before (steps take
    longer the more there is to attend to). Once that is over, one thread does some steps, four times as many when the
    try had not lasted either.
    """
    patience = 4
    while cores > 1:
        alone = float("inf")
        for _ in range(patience):
            alone = min(alone, (yield 1))
        yield cores  # wakes the others, which takes a while
        lasted, took, before = 0, 0.0, 0.0
        while min(took, before) < HARDLY * alone:
            took, before, lasted = (yield cores), took, lasted + 1
        patience = 4 if lasted > patience else min(4 * patience, MOST_PATIENCE)
    while True:
        yield 1


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads inside for torch and for numpy's matrix products, as many as before after."""
    before, torchs = [library.get_num_threads() for library in _libraries()], torch.get_num_threads()
    for library in _libraries():
        library.set_num_threads(count)
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(torchs)
        for library, many in zip(_libraries(), before, strict=True):
            library.set_num_threads(many)


@cache
def _libraries() -> list[Any]:
    """What numpy multiplies with, as far as its threads can be set."""
    import numpy  # noqa: F401 (so that its library is loaded)
    from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

    return list(ThreadpoolController().select(user_api="blas").lib_controllers)
