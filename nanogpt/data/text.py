"""Reading of text files in constant memory.

A file that is not text is refused with the offset of the first binary byte; so is a file that changes between the two
passes. Line ends are not changed.
"""

import codecs
import os
import stat
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nanogpt.data.binaries import (
    HEAD_BYTES,
    MAX_CONTROL_SHARE,
    binary_error,
    count_controls,
    find_binary,
    identify_binary,
)
from nanogpt.data.encodings import Decoder
from nanogpt.errors import UserError
from nanogpt.files import reason

BLOCK_BYTES = 1 << 20
SEPARATOR = "\n"  # between two files
UNREADABLE = "cannot be read"


class Unreadable(UserError):
    """A path that the system cannot read, or that is not a regular file."""


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file that has been read and is text.

    `asked`: the codec was given, not detected. `mark_bytes` is the length of its byte order mark, `stamp` its size in
    bytes and its time of change in ns, and `excerpt` the text around its first characters outside ASCII.
    """

    path: Path
    codec: str
    asked: bool
    mark_bytes: int
    characters: int
    stamp: tuple[int, int]
    excerpt: str


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
) -> Generator[int, None, TextFile]:
    """Read a whole file, add its characters to `alphabet`, and call `take` with its bytes, block by block.

    Yield the number of bytes of each block, and return the `TextFile`. encoding: None: detect it. Raise `UserError` for
    a file that is missing, unreadable or not text, with the offset in bytes.
    """
    with _open(path) as file:
        stamp, start = _stamp(file), file.read(HEAD_BYTES)
        if what := identify_binary(path, start):
            raise UserError(what)
        decoder = Decoder(path, start, encoding)
        file.seek(0)
        take(file.read(decoder.mark_bytes))
        characters, unusual, final = 0, 0, False
        while not final:
            block = file.read(block_bytes or BLOCK_BYTES)
            final = not block
            take(block)
            offset = decoder.offset
            text, length = decoder.decode(block, final)
            characters += length
            unusual += count_controls(text)
            if b"\0" in text or unusual > MAX_CONTROL_SHARE * characters:
                before = text[: find_binary(text)].decode()
                raise UserError(binary_error(path, offset + len(before.encode(decoder.codec))))
            alphabet.add(text)
            yield len(block)
        if _stamp(file) != stamp:
            raise UserError(_changed_message(path))
    return TextFile(path, decoder.codec, encoding is not None, decoder.mark_bytes, characters, stamp, decoder.excerpt)


def exclusion_reason(path: Path, encoding: str | None = None) -> str:
    """Return in a few words why a file cannot be used as text, judged by its first 64 kB; empty if it can."""
    try:
        return "" if next(scan(path, Alphabet(), len, 1 << 16, encoding), 0) else "empty"
    except Unreadable:
        return UNREADABLE
    except UserError:
        return "not text"


def read(files: list[TextFile]) -> Iterator[str]:
    """Yield the text of the files in order, in blocks. Raise `UserError` if a file has changed since it was scanned."""
    for number, text_file in enumerate(files):
        if number:
            yield SEPARATOR
        left = text_file.characters
        with _open(text_file.path) as file:
            if _stamp(file) != text_file.stamp:
                raise UserError(_changed_message(text_file.path))
            file.seek(text_file.mark_bytes)
            decoder = codecs.getincrementaldecoder(text_file.codec)()
            block = b"more"
            while block:
                block = file.read(BLOCK_BYTES)
                try:
                    text = decoder.decode(block, final=not block)
                except UnicodeDecodeError as error:
                    raise UserError(_changed_message(text_file.path)) from error
                left -= len(text)
                if left < 0:
                    break
                if text:
                    yield text
            if left or _stamp(file) != text_file.stamp:
                raise UserError(_changed_message(text_file.path))


@contextmanager
def _open(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file. Raise `Unreadable` if the system refuses to open it or, later, to read it."""
    try:
        # Without blocking: opening a named pipe would wait for its writer.
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)
    except OSError as error:
        raise Unreadable(f"{path} cannot be read ({reason(error)}); check its name and its permissions") from error
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise Unreadable(f"{path} is not a regular file: it is read twice, so write it to a file first")
        try:
            yield file
        except OSError as error:
            raise Unreadable(f"{path} cannot be read ({reason(error)}); skip it, or copy it first") from error


def _stamp(file: BinaryIO) -> tuple[int, int]:
    """Return (size in bytes, time of the last change in ns): a write changes one of them."""
    about = os.fstat(file.fileno())
    return about.st_size, about.st_mtime_ns


def _changed_message(path: Path) -> str:
    return f"{path} changed while it was being read; try again when no program writes to it, or prepare a copy"
