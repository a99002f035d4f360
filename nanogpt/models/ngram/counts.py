"""Counts of n-grams: sorted packed keys, each with its count, as numpy arrays.

An n-gram w_1 … w_n is one number with the digits w_{n-1}, …, w_1, w_n in base V, over as many int64 words as it
needs. Sorted in this order, the n-grams that end with the same context are neighbours, for each length of the context.

In the shapes: N n-grams as they occur, M distinct ones, K words of a key, V = vocab_size.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def digits_per_word(vocab_size: int) -> int:
    """Return how many digits in base `vocab_size` fit into a positive int64."""
    digits = 1
    while vocab_size ** (digits + 1) < 2**63 and digits < 63:
        digits += 1
    return digits


@dataclass(frozen=True, slots=True)
class Counts:
    """Distinct n-grams, sorted: keys (K, M) and counts (M)."""

    keys: Ints
    counts: Ints

    def __len__(self) -> int:
        return len(self.counts)


def count_ngrams(tokens: NDArray[np.integer], order: int, vocab_size: int) -> Counts:
    """Count the n-grams of `order` tokens in `tokens` (N + order - 1)."""
    n_grams = max(0, len(tokens) - order + 1)
    per_word = digits_per_word(vocab_size)
    keys = np.zeros((-(-order // per_word), n_grams), np.int64)  # (K, N)
    for place, start in enumerate([*range(order - 2, -1, -1), order - 1]):
        word = keys[place // per_word]
        word *= vocab_size
        word += tokens[start : start + n_grams]
    return add_up(Counts(keys, np.ones(n_grams, np.int64)))


def merge(first: Counts, second: Counts) -> Counts:
    """Return the counts of two texts together."""
    return add_up(Counts(np.concatenate((first.keys, second.keys), 1), np.concatenate((first.counts, second.counts))))


def add_up(counts: Counts) -> Counts:
    """Sort the keys, and add the counts of equal ones."""
    numbers = one_word(counts.keys)
    order = np.argsort(numbers)
    firsts = np.flatnonzero(is_first(numbers[order]))
    keys = counts.keys.take(order[firsts], axis=1)
    return Counts(keys, np.add.reduceat(counts.counts[order], firsts) if len(firsts) else counts.counts)


def one_word(keys: Ints) -> Ints:
    """Return numbers (M) in the same order as the keys (K, M); sorting them is faster than `np.lexsort`."""
    numbers: Ints = keys[0]
    for word in keys[1:] if numbers.size else []:
        if word.max() >= 2**63 // len(word):
            word = ranks(word)
        numbers = ranks(numbers) * (int(word.max()) + 1) + word
    return numbers


def ranks(numbers: Ints) -> Ints:
    """Return how many distinct smaller numbers each has."""
    order = np.argsort(numbers)
    ranked = np.empty_like(numbers)
    ranked[order] = np.cumsum(is_first(numbers[order])) - 1
    return ranked


def is_first(numbers: Ints) -> NDArray[np.bool_]:
    """Return which of the sorted numbers (M) differ from the one before."""
    first = np.ones(len(numbers), np.bool_)
    first[1:] = numbers[1:] != numbers[:-1]
    return first


def digits(keys: Ints, order: int, vocab_size: int) -> Iterator[Ints]:
    """Yield the digits (M) of each key: w_{n-1}, …, w_1, w_n."""
    per_word = digits_per_word(vocab_size)
    for place in range(order):
        later = min(per_word * (place // per_word + 1), order) - place - 1  # digits after it in its word
        yield keys[place // per_word] // vocab_size**later % vocab_size


class Counter:
    """Adds up the counts of many parts of a text.

    It keeps sorted runs, each more than twice as long as the next, as a log-structured merge tree does: each n-gram is
    merged a logarithmic number of times, not once for each part.
    """

    def __init__(self, counts: Counts) -> None:
        self._runs = [counts]

    def add(self, counts: Counts) -> None:
        """Add the counts of one more part."""
        self._runs.append(counts)
        while len(self._runs) > 1 and len(self._runs[-2]) <= 2 * len(self._runs[-1]):
            self._merge_last()

    def total(self) -> Counts:
        """Return the counts of all parts."""
        while len(self._runs) > 1:
            self._merge_last()
        return self._runs[0]

    def _merge_last(self) -> None:
        last = self._runs.pop()
        self._runs.append(merge(self._runs.pop(), last))
