"""A byte pair encoding (Sennrich et al. 2016), trained in a second: merge the most frequent pair, again and again.

The tokenizers of data sets (`nanogpt.tokenizers`) are trained by a library on any amount of text. This one needs no
library, shows each merge, and is for a lesson's text.
"""

import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

# Words with the space before them, numbers, punctuation, space: no token crosses their borders, as in GPT-2.
_WORD = re.compile(r" ?[^\W\d_]+| ?\d+| ?(?:[^\w\s]|_)+|\s+")
Pair = tuple[int, int]


class BytePairs:
    """The tokens found so far: 256 bytes, then one for each merge, in the order of the merges."""

    def __init__(self) -> None:
        self.tokens = [bytes([byte]) for byte in range(256)]
        self.merges: dict[Pair, int] = {}  # the id of the token that a pair becomes

    def train(self, text: str, merges: int) -> Iterator[bytes]:
        """Do at most `merges` merges on a text, and yield each new token. Stop early if no pair occurs twice."""
        words = Counter(_WORD.findall(text))
        parts = [(list(word.encode("utf-8", "replace")), count) for word, count in words.items()]
        for _ in range(merges):
            pairs = Counter[Pair]()
            for ids, count in parts:
                for pair in pairwise(ids):
                    pairs[pair] += count
            if not pairs:
                return
            best, count = min(pairs.items(), key=lambda item: (-item[1], item[0]))
            if count < 2:
                return
            token = self.merges[best] = len(self.tokens)
            self.tokens.append(self.tokens[best[0]] + self.tokens[best[1]])
            parts = [(_merged(ids, best, token), count) for ids, count in parts]
            yield self.tokens[token]

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text: in each word the merges in the order in which they were found."""
        encoded: list[int] = []
        for word in _WORD.findall(text):
            ids = list(word.encode("utf-8", "replace"))
            while known := [pair for pair in pairwise(ids) if pair in self.merges]:
                first = min(known, key=self.merges.__getitem__)
                ids = _merged(ids, first, self.merges[first])
            encoded += ids
        return encoded


def _merged(ids: list[int], pair: Pair, token: int) -> list[int]:
    """Return the ids with each occurrence of a pair replaced by a token."""
    if pair[0] not in ids:
        return ids
    merged, place = list[int](), 0
    while place < len(ids):
        if tuple(ids[place : place + 2]) == pair:
            merged.append(token)
            place += 2
        else:
            merged.append(ids[place])
            place += 1
    return merged
