"""The set of hashes: the same answers as a set of Python's."""

import numpy as np

from nanogpt.data.corpus.duplicates import HashSet


def test_the_first_of_equal_hashes_is_new_however_they_are_divided_into_blocks() -> None:
    draw = np.random.default_rng(1)
    # The table grows several times. Some 300 different words, many with zeros at their end, let many want one slot.
    hashes = draw.integers(0, 64, (9000, 2), np.uint64) << draw.integers(0, 8, (9000, 1), np.uint64)
    hashes[:3] = 0  # marks an empty slot inside
    known: set[tuple[int, ...]] = set()
    found, expected = HashSet(), []
    for each in map(tuple, hashes.tolist()):
        zero_is_one = each if any(each) else (1, 1)
        expected.append(zero_is_one not in known)
        known.add(zero_is_one)
    new = [found.add(part) for part in np.split(hashes, [1, 10, 500, 5000])]
    assert np.concatenate(new).tolist() == expected
    assert len(found) == len(known) == sum(expected)
    again = HashSet()
    again.load(np.unique(hashes | (hashes == 0).all(1, keepdims=True), axis=0))
    assert len(again) == len(found)
    assert not again.add(hashes).any()
