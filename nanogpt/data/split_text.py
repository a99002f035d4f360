"""The text of a prepared data set, decoded from its tokens."""

import codecs
from collections.abc import Iterator

from nanogpt.data.store import Dataset

BLOCK_TOKENS = 1 << 18


def split_text(dataset: Dataset, split: str) -> Iterator[str]:
    """Yield the text of a split in blocks; bytes that are not UTF-8 become U+FFFD. Raise `UserError` if it cannot be
    read."""
    ids, tokenizer = dataset.split(split), dataset.tokenizer
    pieces = [tokenizer.token_bytes(id) for id in range(dataset.meta.vocab_size)]
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for start in range(0, len(ids), BLOCK_TOKENS):
        block = ids[start : start + BLOCK_TOKENS].tolist()
        yield decoder.decode(b"".join(map(pieces.__getitem__, block)))
    if rest := decoder.decode(b"", final=True):
        yield rest
