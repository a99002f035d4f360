"""How tokenizers cut a text: one sentence in pieces, statistics on a text, the curve of vocabulary sizes.

The command `nanogpt tokenizer` and the app use these functions:

- `cut(tokenizer, sentence)`: the ids and the bytes of its tokens;
- `measure_tokenizer(tokenizer, texts)`: bytes per token, speed, unused, rare, longest and odd entries;
- `vocabulary_curve(tokenizer, text)`: bytes per token at every size up to the tokenizer's. The merges of a smaller size
  are the first ones of a larger size, so one training to the largest size gives the whole curve.

A tokenizer is trained with `tokenizers.build(spec, texts)`, whose events are `TokenizerTraining`.
"""

import time
import unicodedata
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from nanogpt.errors import UserError
from nanogpt.events import Encoding, TokenCount, TokenizerMeasured, VocabularyPoint
from nanogpt.formatting import token_text
from nanogpt.tokenizers import Tokenizer
from nanogpt.tokenizers.base import safe_chunks

CHUNK_CHARACTERS = 1 << 20  # that are encoded at a time
LISTED = 20  # entries of each kind
LONGEST_SHOWN = 80  # characters of an entry
REPORT_INTERVAL_S = 0.05
SIZES_PER_DOUBLING = 2  # points of the curve
ODD = {"Cc", "Cf", "Cn", "Co", "Cs"}  # control, invisible, unassigned, private and half characters


@dataclass(frozen=True, slots=True)
class Cut:
    """A text cut into tokens: their ids and bytes, and the size of the text and of the vocabulary.

    `problem`: a character is not in the vocabulary, and was replaced.
    """

    ids: tuple[int, ...]
    pieces: tuple[bytes, ...]
    characters: int
    utf8_bytes: int
    vocab_size: int
    problem: str = ""


def cut(tokenizer: Tokenizer, text: str) -> Cut:
    """Return `text` cut by a tokenizer."""
    problem = ""
    try:
        ids = tokenizer.encode(text)
    except UserError as error:
        problem, ids = str(error), tokenizer.encode(text, errors="replace")
    pieces = tuple(map(tokenizer.token_bytes, ids))
    return Cut(tuple(ids), pieces, len(text), len(text.encode("utf-8", "replace")), tokenizer.vocab_size, problem)


def measure_tokenizer(
    tokenizer: Tokenizer, texts: Iterable[str], total_bytes: int = 0
) -> Generator[Encoding | TokenizerMeasured, None, None]:
    """Yield the progress and finally the `TokenizerMeasured` of a text, whose consecutive parts are `texts`.

    `total_bytes` is the size of the text, 0 if it is not known. Characters that the vocabulary lacks are replaced.
    Raise `UserError` if the text is empty.
    """
    import numpy as np

    counts = np.zeros(tokenizer.vocab_size, np.int64)
    characters = text_bytes = 0
    elapsed_s, reported = 0.0, 0.0
    for chunk in safe_chunks(texts, tokenizer.safe_cut, CHUNK_CHARACTERS):
        began = time.perf_counter()
        ids = tokenizer.encode_to_array(chunk, errors="replace")
        elapsed_s += time.perf_counter() - began
        counts += np.bincount(ids, minlength=len(counts))
        characters += len(chunk)
        text_bytes += len(chunk) if chunk.isascii() else len(chunk.encode())
        if time.monotonic() - reported > REPORT_INTERVAL_S:
            reported = time.monotonic()
            total = max(total_bytes, text_bytes)
            yield Encoding(phase="encode", done_bytes=text_bytes, total_bytes=total, tokens=int(counts.sum()))
    if not characters:
        raise UserError("the text is empty: give some text to measure the tokenizer on")
    entries = [(id, tokenizer.token_bytes(id)) for id in range(tokenizer.vocab_size) if id not in tokenizer.special_ids]
    by_length = sorted(entries, key=lambda entry: (-len(entry[1]), entry[0]))

    def listed(found: Iterator[tuple[int, bytes]]) -> tuple[TokenCount, ...]:
        return tuple(
            TokenCount(id, token_text(token, LONGEST_SHOWN), int(counts[id])) for id, token in islice(found, LISTED)
        )

    yield TokenizerMeasured(
        vocab_size=tokenizer.vocab_size,
        text_bytes=text_bytes,
        characters=characters,
        tokens=int(counts.sum()),
        mb_per_second=text_bytes / 1e6 / max(elapsed_s, 1e-9),
        unused=sum(not counts[id] for id, _ in entries),
        common=listed(entry for entry in sorted(entries, key=lambda entry: -counts[entry[0]]) if counts[entry[0]]),
        rare=listed(entry for entry in by_length if counts[entry[0]] <= 1 and len(entry[1]) > 1),
        longest=listed(iter(by_length)),
        odd=listed(entry for entry in by_length if is_odd(entry[1])),
    )


def is_odd(token: bytes) -> bool:
    """Return whether a token has characters that are not seen, or its bytes are no text without others."""
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return len(token) > 1
    return any(unicodedata.category(character) in ODD and character not in "\n\r\t" for character in text)


def vocabulary_curve(
    tokenizer: Tokenizer, text: str, sizes: Iterable[int] | None = None
) -> Generator[VocabularyPoint, None, None]:
    """Yield the points of the curve of vocabulary size against bytes per token on a text, the smallest size first.

    sizes: by default two for each doubling, from 256 entries to all. Nothing is yielded for a kind that is not trained
    entry by entry, for sizes below 256 entries and above the tokenizer's own. Raise `UserError` if the text is empty.
    """
    if not text:
        raise UserError("the text is empty: give some text to measure the tokenizer on")
    for size in sorted(set(curve_sizes(tokenizer.vocab_size) if sizes is None else sizes)):
        smaller = tokenizer.truncated(size) if size <= tokenizer.vocab_size else None
        if smaller is not None:
            tokens = sum(
                len(smaller.encode_to_array(chunk)) for chunk in safe_chunks([text], smaller.safe_cut, CHUNK_CHARACTERS)
            )
            text_bytes = len(text.encode("utf-8", "replace"))
            yield VocabularyPoint(vocab_size=size, bytes_per_token=text_bytes / tokens)


def curve_sizes(vocab_size: int) -> list[int]:
    """Return the sizes of the curve of a vocabulary."""
    doublings = range(1, 8 * SIZES_PER_DOUBLING * 8)
    sizes = [257, *(round(256 * 2 ** (each / SIZES_PER_DOUBLING)) for each in doublings)]
    return [*(size for size in sizes if size < vocab_size), vocab_size]
