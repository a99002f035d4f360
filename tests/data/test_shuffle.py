"""The random order in constant memory."""

import itertools
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nanogpt.data.shuffle import RandomOrder


def order(n: int, seed: int) -> list[int]:
    random_order = RandomOrder(n, np.random.default_rng(seed))
    return [random_order[place] for place in range(len(random_order))]


@given(n=st.integers(2, 3000), seed=st.integers(0, 2**32))
def test_every_item_comes_once(n: int, seed: int) -> None:
    assert sorted(order(n, seed)) == list(range(n))


def test_the_order_follows_from_the_random_numbers_alone() -> None:
    first, same, other = (order(100, seed) for seed in (1, 1, 2))
    assert first == same != other


def test_all_orders_of_a_few_items_are_about_equally_frequent() -> None:
    counts = Counter(tuple(order(4, seed)) for seed in range(4800))
    assert set(counts) == set(itertools.permutations(range(4)))
    assert max(counts.values()) < 2 * min(counts.values())  # 200 of each on average, with a deviation of 14


def test_neighbours_are_not_neighbours_in_the_order() -> None:
    """The differences of a random order of n items are about n / 3 on average, here within 1 % of that."""
    n = 100_000
    items = np.array(order(n, 0))
    assert abs(np.abs(np.diff(items)).mean() / (n / 3) - 1) < 0.01
    assert abs(np.corrcoef(items, np.arange(n))[0, 1]) < 0.02  # its deviation is 1 / √n = 0.003
