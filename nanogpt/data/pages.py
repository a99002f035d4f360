"""The documents of a prepared data set, or of the files of a recipe, one page after another, in constant memory.

A page is one document, or a part of a long one, or of a text that has no documents.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from nanogpt.data import formats
from nanogpt.data.decoding import decode_text
from nanogpt.data.store import Dataset
from nanogpt.data.streams import open_stream

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


PAGE_TOKENS = 4096
PAGE_CHARACTERS = 16_384
COUNTED = 1 << 28  # tokens of a split whose documents are counted: a second of reading
BLOCK = 1 << 20  # tokens that are searched for the end of a document at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A text of the tokens `start` to before `end` of a split, or of so many characters of a file.

    `tokens` has the bytes of each token, None for a text that is not prepared. `ends_document`: the document ends with
    the page; never true in tokens without end-of-text tokens. `origin` is the file, "" for a data set.
    """

    text: str
    start: int
    end: int
    ends_document: bool
    tokens: tuple[bytes, ...] | None = None
    origin: str = ""


def dataset_pages(dataset: Dataset, split: str, start: int = 0) -> Iterator[Page]:
    """Yield the pages of a split from the token `start` on. Raise `UserError` if it is damaged."""
    ids, tokenizer = dataset.split(split), dataset.tokenizer
    separator = tokenizer.end_of_text
    while start < len(ids):
        page = ids[start : start + PAGE_TOKENS]
        marks = np.flatnonzero(page == separator) if separator is not None else np.empty(0, np.intp)
        if len(marks) and marks[0] == 0:  # before a document, as llm.c writes it
            start += 1
            continue
        length = int(marks[0]) if len(marks) else len(page)
        ends = bool(len(marks)) or (separator is not None and start + length == len(ids))
        pieces = tuple(tokenizer.token_bytes(int(token)) for token in page[:length])
        text = b"".join(pieces).decode("utf-8", "replace")
        yield Page(text=text, start=start, end=start + length, ends_document=ends, tokens=pieces)
        start += length


def start_before(dataset: Dataset, split: str, start: int) -> int:
    """Return the first token of the page before the one that begins at the token `start`."""
    ids, separator = dataset.split(split), dataset.tokenizer.end_of_text
    first = max(0, start - PAGE_TOKENS)
    if separator is None:
        return first
    last = start
    while last > first and ids[last - 1] == separator:
        last -= 1
    marks = np.flatnonzero(ids[first:last] == separator)
    return first + int(marks[-1]) + 1 if len(marks) else first


def document_start(dataset: Dataset, split: str, share: float, before: int | None = None) -> int:
    """Return the first token of a document near a place, from 0 to 1, of a split: of the next one within 1M tokens.

    At 1 it is that of the last page. before: the next one is to begin before this token; else it is the place itself.
    """
    ids, separator = dataset.split(split), dataset.tokenizer.end_of_text
    if share >= 1:
        return start_before(dataset, split, len(ids))
    place = min(int(len(ids) * share), max(0, len(ids) - PAGE_TOKENS))
    marks = np.flatnonzero(ids[place : place + BLOCK] == separator) if separator is not None and place else np.empty(0)
    end = len(ids) if before is None else before
    return place + int(marks[0]) + 1 if len(marks) and place + int(marks[0]) + 1 < end else place


def count_documents(dataset: Dataset, split: str) -> int | None:
    """Return the documents of a split, as recorded or by its end-of-text tokens.

    None if the tokenizer has no such token, or counting them would take long.
    """
    recorded = dataset.meta.source.get("documents")
    if isinstance(recorded, dict) and isinstance(recorded.get(split), int):
        return int(recorded[split])
    ids, separator = dataset.split(split), dataset.tokenizer.end_of_text
    if separator is None or len(ids) > COUNTED:
        return None
    return sum(int(np.count_nonzero(ids[at : at + BLOCK] == separator)) for at in range(0, len(ids), BLOCK))


def file_pages(files: "Sequence[Path]", encoding: str | None, text_column: str | None = None) -> Iterator[Page]:
    """Yield the pages of the documents of files; a file of plain text is one document. Raise `UserError`."""
    for path in files:
        found = formats.find(path)
        with open_stream(path) as stream:
            if found.is_text:
                yield from _pages_of(decode_text(stream, encoding), path.name)
                continue
            skipped = Counter[str]()
            for text in found.documents(stream, text_column=text_column, encoding=encoding, skipped=skipped):
                yield from _pages_of([text], path.name)


def _pages_of(texts: Iterable[str], origin: str) -> Iterator[Page]:
    """Yield the pages of one document that is given in parts."""
    place, carry = 0, ""
    for part in chain(texts, [""]):
        is_last = part == ""
        carry += part
        while carry and (is_last or len(carry) > PAGE_CHARACTERS):
            text, carry = carry[:PAGE_CHARACTERS], carry[PAGE_CHARACTERS:]
            ends = is_last and not carry
            yield Page(text=text, start=place, end=place + len(text), ends_document=ends, origin=origin)
            place += len(text)
