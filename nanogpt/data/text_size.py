"""The size of the text of a split in tokens, characters and bytes: as recorded, or counted from its tokens.

Earlier versions did not record it. The bytes of a token are known, and a character has one byte that is not a
continuation byte (0b10xxxxxx), so the tokens do not have to be decoded to text. Special tokens are no text.
"""

from collections.abc import Generator
from typing import TYPE_CHECKING

from nanogpt.data.store import Dataset
from nanogpt.events import Encoding
from nanogpt.loss_units import TextSize
from nanogpt.tokenizers import Tokenizer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

IDS_AT_ONCE = 1 << 22


def text_size(dataset: Dataset, split: str) -> Generator[Encoding, None, TextSize]:
    """Return the size of the text of a split. If it is not recorded, count it and yield the progress.

    Raise `UserError` if the data set does not have the split.
    """
    meta = dataset.meta
    if split in meta.split_bytes and split in meta.split_characters:
        return TextSize(meta.tokens[split], meta.split_characters[split], meta.split_bytes[split])
    import numpy as np

    dataset.check_ids(split)
    ids, tokenizer = dataset.split(split), dataset.tokenizer
    counts = np.zeros(tokenizer.vocab_size, np.int64)
    for first in range(0, len(ids), IDS_AT_ONCE):
        block = ids[first : first + IDS_AT_ONCE]
        counts += np.bincount(block, minlength=len(counts))
        done = first + len(block)
        item_bytes = meta.item_bytes
        yield Encoding(phase="scan", done_bytes=done * item_bytes, total_bytes=len(ids) * item_bytes, tokens=0)
    return counted_text_size(tokenizer, counts)


def counted_text_size(tokenizer: Tokenizer, counts: "NDArray[np.int64]") -> TextSize:
    """Return the size of a text in which each id of a tokenizer occurs as often as `counts` (V,) says."""
    import numpy as np

    special = tokenizer.special_ids
    pieces = [tokenizer.token_bytes(id) if counts[id] and id not in special else b"" for id in range(len(counts))]
    characters = np.array([sum(byte & 0xC0 != 0x80 for byte in piece) for piece in pieces])
    return TextSize(int(counts.sum()), int(counts @ characters), int(counts @ np.array(list(map(len, pieces)))))


def known_text_size(dataset: Dataset, split: str) -> TextSize:
    """Return the same as `text_size`, without progress. For small splits."""
    counting = text_size(dataset, split)
    while True:
        try:
            next(counting)
        except StopIteration as end:
            size: TextSize = end.value
            return size
