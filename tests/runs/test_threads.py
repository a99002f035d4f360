"""The number of threads that a trial found is part of a run."""

from collections.abc import Callable, Iterator

import pytest

from nanogpt import runs
from nanogpt.config import Config
from nanogpt.events import Event, Started
from nanogpt.runs.folder import run_config
from tests.two_cores import two_cores


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """A machine with two cores, on which one thread is faster; the pairs that were tried."""
    pairs: list[tuple[int, int]] = []

    def speed_ratio(first: int, second: int, *_: object) -> float:
        pairs.append((first, second))
        return 2.0

    with two_cores(monkeypatch, speed_ratio):
        yield pairs


def threads(events: Iterator[Event]) -> int:
    return next(event.threads for event in list(events) if isinstance(event, Started))


def test_a_resumed_run_has_the_threads_of_its_trial_unless_it_asks_for_another(
    small: Callable[..., Config], tried: list[tuple[int, int]]
) -> None:
    run = runs.new_folder("tried")
    assert threads(runs.start(small(threads=0, max_iters=4), run)) == 1
    assert run_config(run).system.threads == 1
    assert tried == [(2, 1)]
    assert threads(runs.resume(run, {"max_iters": 8})) == 1
    assert tried == [(2, 1)]
    assert threads(runs.resume(run, {"max_iters": 12, "threads": 0})) == 1
    assert tried == [(2, 1), (2, 1)]
