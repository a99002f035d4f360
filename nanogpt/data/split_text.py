"""The text of a split of a prepared data set, decoded from its tokens."""

import codecs
from collections.abc import Iterator

from nanogpt.data.store import Dataset

BLOCK_TOKENS = 1 << 18


def split_text(dataset: Dataset, split: str) -> Iterator[str]:
    """Yield the text of a split in blocks; a line feed stands for each special token, such as the end of a document.

    Bytes that are not UTF-8 become U+FFFD. Raise `UserError` if the data set does not have the split, or is damaged.
    """
    dataset.check_ids(split)
    ids, tokenizer = dataset.split(split), dataset.tokenizer
    special = tokenizer.special_ids
    pieces = [b"\n" if id in special else tokenizer.token_bytes(id) for id in range(tokenizer.vocab_size)]
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for start in range(0, len(ids), BLOCK_TOKENS):
        block = ids[start : start + BLOCK_TOKENS].tolist()
        yield decoder.decode(b"".join(map(pieces.__getitem__, block)))
    if rest := decoder.decode(b"", final=True):
        yield rest
