"""Work beside: in order, never far ahead, and nothing of it is lost or goes on when the block is left."""

import threading
from collections.abc import Iterator

import pytest

from nanogpt.data.background import map_in_threads, run_in_background


def test_calls_run_in_order_and_are_done_at_the_end() -> None:
    done: list[int] = []
    with run_in_background(ahead=2) as run:
        for number in range(50):
            run(done.append, number)
    assert done == list(range(50))


def test_no_more_calls_wait_than_agreed() -> None:
    gate, begun = threading.Event(), threading.Event()
    with run_in_background(ahead=1) as run:
        run(gate.wait)

        def go_on() -> None:
            run(len, "")
            begun.set()

        adder = threading.Thread(target=go_on)
        adder.start()
        assert not begun.wait(0.1)
        gate.set()
        assert begun.wait(30)
        adder.join()


def test_what_a_call_raises_ends_the_work() -> None:
    with pytest.raises(ZeroDivisionError), run_in_background() as run:
        run(divmod, 1, 0)
    after: list[int] = []
    with pytest.raises(ZeroDivisionError):
        fail_again_and_again(after)
    assert after == [0]


def fail_again_and_again(after: list[int]) -> None:
    with run_in_background(ahead=1) as run:
        for number in range(10):
            run(divmod, 1, 0)
            after.append(number)


def test_results_come_in_the_order_of_the_items_and_only_a_few_are_under_way() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = map_in_threads(lambda number: number * number, items())
    assert next(results) == (0, 0)
    assert len(taken) < 100
    assert [square for _, square in results] == [number * number for number in range(1, 100)]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("encode")]


def test_large_items_count_as_several_of_those_that_are_ahead() -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for number in range(6):
            read.append(number)
            yield number

    ahead = []
    for number, result in map_in_threads(str, items(), workers=1, ahead=4, size=lambda number: 3 if number >= 2 else 1):
        assert result == str(number)
        ahead.append(read[-1] - number)
    # 0, 1 and 2 are 5 together, so 0 comes out; 1, 2 and 3 are 7, so 1 and 2 do; from then on 3 + 3 is too much
    assert ahead == [2, 2, 1, 1, 1, 0]
