"""Reading of text files, and of the documents in files of other formats, in constant memory.

A file that is not text is refused, and so is a file that changes between the two passes. Line ends are not changed.
"""

import codecs
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nanogpt.data import formats
from nanogpt.data.decoding import BLOCK_BYTES, decode_blocks
from nanogpt.data.encodings import UncertainEncoding
from nanogpt.data.formats import Format
from nanogpt.data.streams import Stream, Unreadable, open_stream
from nanogpt.errors import SettingError, UserError
from nanogpt.extras import MissingPackage

SEPARATOR = "\n"  # between two files, and between two documents
UNREADABLE = "cannot be read"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFile:
    """A file that has been read and has text.

    `format` is that of its documents, and `text_column` and `encoding` are what was asked for it, None if nothing was.
    `codec` is that of the text; `detected`: it was found by its bytes. `mark_bytes` is the length of its byte order
    mark, and `excerpt` the text around its first characters outside ASCII. `stamp` is the file's size in bytes and its
    time of change in ns, `text_bytes` and `characters` the size of its text. `skipped` counts by reason the documents
    that were left out.
    """

    path: Path
    format: Format
    text_column: str | None
    encoding: str | None
    codec: str
    detected: bool
    mark_bytes: int
    excerpt: str
    stamp: tuple[int, int]
    characters: int
    text_bytes: int
    skipped: Mapping[str, int]


class Alphabet:
    """The distinct characters of a text that is added in parts."""

    def __init__(self) -> None:
        self._seen = np.zeros(0x110000, np.bool_)  # by code point
        self._ascii = b""  # the ASCII characters among them

    def add(self, text: bytes) -> None:
        """Add the characters of `text`, which is UTF-8."""
        if new := text.translate(None, self._ascii):  # deletes the known characters: 4 GB/s
            self._seen[np.frombuffer(new.decode().encode("utf-32-le"), "<u4")] = True
            self._ascii = bytes(np.flatnonzero(self._seen[:128]).tolist())

    def characters(self) -> str:
        """Return the distinct characters, sorted."""
        return "".join(map(chr, np.flatnonzero(self._seen).tolist()))


def scan(
    path: Path,
    alphabet: Alphabet,
    take: Callable[[bytes], object],
    block_bytes: int | None = None,
    encoding: str | None = None,
    text_column: str | None = None,
) -> Generator[int, None, TextFile]:
    """Read a whole file, add its characters to `alphabet`, and call `take` with the bytes of its text, in blocks.

    Yield the number of bytes of the file that each block needed, and return the `TextFile`. encoding: None: detect it.
    text_column: of a table. Raise `UserError` for a file that is missing, unreadable, damaged or not text.
    """
    found, skipped = formats.find(path), Counter[str]()
    with open_stream(path) as stream:
        stamp = stream.stamp
        position = text_bytes = characters = 0
        for raw, text, length in _text_blocks(
            stream, found, block_bytes or BLOCK_BYTES, encoding, text_column, skipped
        ):
            take(raw)
            alphabet.add(text)
            text_bytes += len(raw)
            characters += length
            before, position = position, max(position, stream.stored.tell())
            yield position - before
        if stream.stamp != stamp:
            raise UserError(_changed_message(path))
        if not characters and skipped:
            raise UserError(f"{path} has no document with text ({list_counts(skipped)}); give another file")
        decoder = stream.decoder
    return TextFile(
        path=path,
        format=found,
        text_column=text_column,
        encoding=encoding,
        codec=decoder.codec if decoder else "utf-8",
        detected=bool(decoder and decoder.detected),
        mark_bytes=decoder.mark_bytes if decoder else 0,
        excerpt=decoder.excerpt if decoder else "",
        stamp=stamp,
        characters=characters,
        text_bytes=text_bytes,
        skipped=dict(skipped),
    )


def _text_blocks(
    stream: Stream,
    found: Format,
    block_bytes: int,
    encoding: str | None,
    text_column: str | None,
    skipped: Counter[str],
) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield the bytes that are hashed, the text in UTF-8, and the number of its characters, in blocks."""
    if found.is_text:
        yield from decode_blocks(stream, encoding, block_bytes)
        return
    for text in _joined(found.documents(stream, text_column=text_column, encoding=encoding, skipped=skipped)):
        raw = text.encode()
        yield raw, raw, len(text)


def _joined(documents: Iterator[str]) -> Iterator[str]:
    """Yield the documents with `SEPARATOR` between them, in blocks of about `BLOCK_BYTES` characters."""
    parts: list[str] = []
    characters = 0
    for number, document in enumerate(documents):
        if number:
            parts.append(SEPARATOR)
        parts.append(document)
        characters += len(document) + len(SEPARATOR)
        if characters >= BLOCK_BYTES:
            yield "".join(parts)
            parts, characters = [], 0
    if parts:
        yield "".join(parts)


def list_counts(counts: Mapping[str, int]) -> str:
    """Return the counts by reason in words, the largest first, such as `12 not JSON, 1 without text`."""
    return ", ".join(f"{count:,} {reason}" for reason, count in sorted(counts.items(), key=lambda each: -each[1]))


def exclusion_reason(path: Path, encoding: str | None = None, text_column: str | None = None) -> str:
    """Return in a few words why a file cannot be used as text, judged by its first block; empty if it can."""
    try:
        return "" if next(scan(path, Alphabet(), len, 1 << 16, encoding, text_column), 0) else "empty"
    except Unreadable:
        return UNREADABLE
    except MissingPackage as error:
        return error.advice
    except SettingError as error:
        return "no text column" if error.setting == "text_column" else "not text"
    except UncertainEncoding:
        return "encoding not certain"
    except UserError:
        return "not text"


def read(files: list[TextFile]) -> Iterator[str]:
    """Yield the text of the files in order, in blocks. Raise `UserError` if a file has changed since it was scanned."""
    for number, text_file in enumerate(files):
        if number:
            yield SEPARATOR
        left = text_file.characters
        with open_stream(text_file.path) as stream:
            if stream.stamp != text_file.stamp:
                raise UserError(_changed_message(text_file.path))
            for text in _blocks(text_file, stream):
                left -= len(text)
                if left < 0:
                    break
                if text:
                    yield text
            if left or stream.stamp != text_file.stamp:
                raise UserError(_changed_message(text_file.path))


def first_characters(texts: Iterable[str], characters: int) -> Iterator[str]:
    """Yield the first characters of a text that is given in parts."""
    for text in texts:
        yield text[:characters]
        characters -= len(text)
        if characters <= 0:
            return


def _blocks(file: TextFile, stream: Stream) -> Iterator[str]:
    """Yield the text of an open file that was scanned, in blocks."""
    if not file.format.is_text:
        yield from _joined(
            file.format.documents(stream, text_column=file.text_column, encoding=file.encoding, skipped=Counter())
        )
        return
    stream.content.read(file.mark_bytes)
    decoder = codecs.getincrementaldecoder(file.codec)()
    block = b"more"
    while block:
        block = stream.content.read(BLOCK_BYTES)
        try:
            yield decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise UserError(_changed_message(file.path)) from error


def _changed_message(path: Path) -> str:
    return f"{path} changed while it was being read; try again when no program writes to it, or prepare a copy"
