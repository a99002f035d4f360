"""A random order of many items in constant memory."""

import numpy as np

ROUNDS = 8
_MASK_64 = (1 << 64) - 1


class RandomOrder:
    """A pseudo-random permutation of range(n) of which each item is computed when it is read, n >= 2.

    It is a Feistel network on the smallest even number of bits that holds n; a result outside the range goes through it
    again until one is inside, at most about four times on average (Black & Rogaway 2002, "Ciphers with arbitrary finite
    domains"). The function of a round is the last step of SplitMix64 (Steele et al. 2014).
    """

    def __init__(self, n: int, random: np.random.Generator) -> None:
        self._n = n
        self._half = ((n - 1).bit_length() + 1) // 2  # bits
        self._keys = random.integers(1 << 64, size=ROUNDS, dtype=np.uint64).tolist()

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, place: int) -> int:
        if not 0 <= place < self._n:
            raise IndexError(place)
        item = self._permute(place)
        while item >= self._n:
            item = self._permute(item)
        return item

    def _permute(self, item: int) -> int:
        """Return where a permutation of range(4**half) sends the item."""
        mask = (1 << self._half) - 1
        left, right = item >> self._half, item & mask
        for key in self._keys:
            mixed = (right ^ key) * 0xBF58476D1CE4E5B9 & _MASK_64
            mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & _MASK_64
            left, right = right, left ^ (mixed ^ mixed >> 31) & mask
        return left << self._half | right
