"""The documents between two commits: which are kept, in which order, and in which split.

Everything here depends only on the settings and on the documents and their order, not on how these are divided into
blocks, so it is the same for any number of workers and after any number of kills.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from nanogpt.data.corpus.blocks import TokenBlock
from nanogpt.data.document_settings import DocumentSettings
from nanogpt.data.store import SPLITS

CHUNK_TOKENS = 1 << 20  # written at a time
MAX_DOCUMENTS = 1 << 18  # read for a window: bounds its memory if they are tiny, its time if most are duplicates
_GOLDEN, _MIX_1, _MIX_2 = (np.uint64(each) for each in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))

Numbers = NDArray[np.int64]
Ids = NDArray[np.unsignedinteger]


def split_numbers(
    first: int, new: NDArray[np.bool_], kept: int, seed: int, val_ratio: float, test_ratio: float
) -> NDArray[np.uint8]:
    """Return the splits, as places in `SPLITS` (n,), of the documents from number `first` of the corpus on.

    new (n,): those that are no duplicates; kept: how many before them were none. A number is random by the seed
    (SplitMix64), so that each document falls into a split by itself. The first document that is kept is for validation
    and, if there is a test split, the second for it: none of them is empty.
    """
    numbers = np.arange(first, first + len(new), dtype=np.uint64)
    with np.errstate(over="ignore"):
        bits = (numbers + np.uint64(1)) * _GOLDEN + np.uint64(seed) * _MIX_2
        bits = (bits ^ (bits >> np.uint64(30))) * _MIX_1
        bits = (bits ^ (bits >> np.uint64(27))) * _MIX_2
    share = ((bits ^ (bits >> np.uint64(31))) >> np.uint64(11)) / 2.0**53  # (n,) from 0 to below 1
    held_out = share < val_ratio + test_ratio
    splits = np.where(held_out, np.where(share < val_ratio, 1, 2), 0).astype(np.uint8)
    place = kept + np.cumsum(new)
    splits[new & (place == 1)] = 1
    if test_ratio:
        splits[new & (place == 2)] = 2
    return splits


@dataclass(frozen=True, slots=True)
class Output:
    """Documents of a split, in the order in which they are written."""

    split: str
    chunks: Iterator[Ids]
    documents: int
    characters: int
    bytes: int


def new_window(settings: DocumentSettings) -> "Window":
    """Return an empty window. It does not take more than the data set may have: less is read for a small one."""
    full = min(settings.shuffle_tokens, settings.max_tokens or settings.shuffle_tokens)
    return Window(full, min(MAX_DOCUMENTS, settings.max_docs or MAX_DOCUMENTS))


@dataclass(slots=True)
class Window:
    """Documents that are written and committed together, once they have `full` tokens or `most` were read.

    `read` counts the documents with those that were dropped. The lists have one entry for each block.
    """

    full: int
    most: int
    read: int = 0
    tokens: int = 0
    blocks: list[TokenBlock] = field(default_factory=list)
    splits: list[NDArray[np.uint8]] = field(default_factory=list)

    @property
    def is_full(self) -> bool:
        """Whether the documents are to be written."""
        return self.tokens >= self.full or self.read >= self.most

    def add(self, block: TokenBlock, new: NDArray[np.bool_], splits: NDArray[np.uint8]) -> int:
        """Add documents of a block, up to the one with which the window is full. Return how many were taken.

        new (n,): those that are no duplicates; splits (n,): of all of them.
        """
        sizes = np.where(new, block.tokens, 0)
        taken = min(
            len(sizes),
            int(np.searchsorted(np.cumsum(sizes), self.full - self.tokens)) + 1,
            self.most - self.read,
        )
        new, documents = new[:taken], block.documents
        self.blocks.append(
            TokenBlock(
                # copied: a view would keep the duplicates in memory
                ids=np.concatenate([block.ids[:0], *(documents[place] for place in np.flatnonzero(new).tolist())]),
                tokens=block.tokens[:taken][new],
                characters=block.characters[:taken][new],
                utf8_bytes=block.utf8_bytes[:taken][new],
                hashes=block.hashes[:taken][new],
                position=block.position,
            )
        )
        self.splits.append(splits[:taken][new])
        self.read += taken
        self.tokens += int(sizes[:taken].sum())
        return taken

    def outputs(
        self, separator: Ids, order: Numbers, text_size: Callable[[Ids], tuple[int, int]], max_tokens: int | None
    ) -> Iterator[Output]:
        """Yield what is written for each split: the documents at the places of `order`, each after the separator.

        max_tokens: of all of it, None for no bound. The last document is cut off where it is reached; `text_size`
        returns the characters and bytes of what is left of it.
        """
        documents = [document for block in self.blocks for document in block.documents]
        tokens = np.concatenate([block.tokens for block in self.blocks])
        characters = np.concatenate([block.characters for block in self.blocks])
        sizes = np.concatenate([block.utf8_bytes for block in self.blocks])
        last, excess = -1, 0
        if max_tokens is not None:
            ends = np.cumsum(tokens[order] + len(separator))
            order = order[: int(np.searchsorted(ends, max_tokens)) + 1]
            if len(order) and (excess := max(0, int(ends[len(order) - 1]) - max_tokens)):
                last = int(order[-1])
                documents[last] = documents[last][: max(0, int(tokens[last]) - excess)]
                characters[last], sizes[last] = text_size(documents[last])
        of_order = np.concatenate(self.splits)[order]
        for number, split in enumerate(SPLITS):
            chosen = order[of_order == number]
            if len(chosen):
                parts = [part for place in chosen.tolist() for part in (separator, documents[place])]
                if chosen[-1] == last:  # a part of the separator too, if the document has less than the excess
                    parts[-2] = separator[: len(separator) - max(0, excess - int(tokens[last]))]
                chunks = _chunks(parts)
                yield Output(split, chunks, len(chosen), int(characters[chosen].sum()), int(sizes[chosen].sum()))

    def hashes(self) -> NDArray[np.uint64]:
        """Return the hashes of all documents, (n, 2)."""
        return np.concatenate([block.hashes for block in self.blocks])

    def __len__(self) -> int:
        return sum(map(len, self.splits))


def _chunks(parts: list[Ids]) -> Iterator[Ids]:
    """Yield the parts one after another, in arrays of `CHUNK_TOKENS` ids or a little more."""
    ends = np.cumsum([len(part) for part in parts])
    borders = np.flatnonzero(np.diff(ends // CHUNK_TOKENS)) + 2  # after the part that ends in the next chunk
    for start, end in pairwise([0, *borders.tolist(), len(parts)]):
        yield np.concatenate([parts[0][:0], *parts[start:end]])
