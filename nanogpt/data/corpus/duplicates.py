"""The set of the 128-bit hashes of all documents so far.

An open-addressing hash table with double hashing in one array: 16 bytes a slot, at most two thirds full, so 24 to 48 MB
for a million documents (and half as much again while it grows). The hashes of a block are probed at once, so the time
depends on the longest probe sequence, which is three times as long with linear probing. Two different texts have the
same hash with a probability of 10^-23 in a million million pairs.
"""

import numpy as np
from numpy.typing import NDArray

FULLEST = 2 / 3
Hashes = NDArray[np.uint64]


class HashSet:
    """A set of hashes, (2,) uint64 each."""

    def __init__(self) -> None:
        self._table = np.zeros((1 << 12, 2), np.uint64)  # a slot of zeros is empty
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Add hashes (n, 2). Return (n,) which of them were not in the set, nor before in `hashes`."""
        hashes = hashes | (hashes == 0).all(1, keepdims=True)  # zeros mark an empty slot
        while self._count + len(hashes) > len(self._table) * FULLEST:
            self._grow()
        # The first of equal hashes is the new one: `return_index` gives the first place of each.
        _, first = np.unique(hashes.view([("high", np.uint64), ("low", np.uint64)])[:, 0], return_index=True)
        new = np.zeros(len(hashes), np.bool_)
        new[first] = self._insert(hashes[first])
        self._count += int(new.sum())
        return new

    def load(self, distinct: Hashes) -> None:
        """Add hashes (n, 2) that are distinct and not in the set."""
        while self._count + len(distinct) > len(self._table) * FULLEST:
            self._grow()
        self._insert(distinct)
        self._count += len(distinct)

    def _insert(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Insert distinct hashes; return which were not in the table."""
        table, last = self._table, np.uint64(len(self._table) - 1)
        is_new = np.zeros(len(hashes), np.bool_)
        waiting = np.arange(len(hashes))
        slots, steps = hashes[:, 0] & last, hashes[:, 1] | np.uint64(1)  # an odd step reaches each of the 2^k slots
        while len(waiting):
            wanted, found = hashes[waiting], table[slots]
            empty = (found == 0).all(1)
            table[slots[empty]] = wanted[empty]  # of several that want one slot the last one gets it
            stored = (table[slots] == wanted).all(1)
            is_new[waiting[stored & empty]] = True
            left = ~stored
            waiting, slots, steps = waiting[left], (slots[left] + steps[left]) & last, steps[left]
        return is_new

    def _grow(self) -> None:
        old = self._table
        self._table = np.zeros((2 * len(old), 2), np.uint64)
        for start in range(0, len(old), 1 << 20):
            part = old[start : start + (1 << 20)]
            self._insert(part[(part != 0).any(1)])
