"""Text files, read in constant memory. Knows nothing of tokens.

What is not text is refused with the place where it stops being some, and so is a file that changes between its two
readings. Line ends stay as they are.
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

from nanogpt.data.binaries import HEAD_BYTES, MAX_CONTROL_SHARE, binary_at, controls, first_binary, recognised
from nanogpt.data.encodings import Decoder
from nanogpt.errors import UserError
from nanogpt.files import reason

BLOCK_BYTES = 1 << 20
SEPARATOR = "\n"  # stands between two files
UNREADABLE = "cannot be read"


class Unreadable(UserError):
    """A file that the system does not give, or that is none."""


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file that is known to be text: its codec, whether somebody `asked` for that, the length of its byte order mark,
    its number of characters, its size and time when it was read, and how it reads where it first leaves ASCII."""

    path: Path
    codec: str
    asked: bool
    mark_bytes: int
    characters: int
    stamp: tuple[int, int]
    excerpt: str


class Alphabet:
    """The distinct characters of the text seen so far."""

    def __init__(self) -> None:
        self._seen = np.zeros(0x110000, np.bool_)  # by code point
        self._ascii = b""  # those among them

    def add(self, text: bytes) -> None:
        """`text` is UTF-8."""
        if new := text.translate(None, self._ascii):  # deletes what is known: 4 GB/s
            self._seen[np.frombuffer(new.decode().encode("utf-32-le"), "<u4")] = True
            self._ascii = bytes(np.flatnonzero(self._seen[:128]).tolist())

    def characters(self) -> str:
        return "".join(map(chr, np.flatnonzero(self._seen).tolist()))


def scan(
    path: Path,
    alphabet: Alphabet,
    take: Callable[[bytes], object],
    block_bytes: int | None = None,
    encoding: str | None = None,
) -> Generator[int, None, TextFile]:
    """Reads a whole file: its characters go to `alphabet`, its bytes, block by block, to `take`.

    Yields the bytes of each block that was read and returns what the file is. Raises UserError for a file that is
    missing, unreadable or no text, naming the offset in bytes. `encoding` is what it is in, None to find that out.
    """
    with _opened(path) as file:
        stamp, start = _stamp(file), file.read(HEAD_BYTES)
        if what := recognised(path, start):
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
            unusual += controls(text)
            if b"\0" in text or unusual > MAX_CONTROL_SHARE * characters:
                before = text[: first_binary(text)].decode()
                raise UserError(binary_at(path, offset + len(before.encode(decoder.codec))))
            alphabet.add(text)
            yield len(block)
        if _stamp(file) != stamp:
            raise UserError(_changed(path))
    return TextFile(path, decoder.codec, encoding is not None, decoder.mark_bytes, characters, stamp, decoder.excerpt)


def what_keeps_out(path: Path, encoding: str | None = None) -> str:
    """Return why a file is not for learning from, by its first 64 kB, in a few words; nothing where it is."""
    try:
        return "" if next(scan(path, Alphabet(), len, 1 << 16, encoding), 0) else "empty"
    except Unreadable:
        return UNREADABLE
    except UserError:
        return "not text"


def read(files: list[TextFile]) -> Iterator[str]:
    """The text of the files, one after the other, in pieces. Raises UserError where one is no longer what it was."""
    for number, text_file in enumerate(files):
        if number:
            yield SEPARATOR
        left = text_file.characters
        with _opened(text_file.path) as file:
            if _stamp(file) != text_file.stamp:
                raise UserError(_changed(text_file.path))
            file.seek(text_file.mark_bytes)
            decoder = codecs.getincrementaldecoder(text_file.codec)()
            block = b"more"
            while block:
                block = file.read(BLOCK_BYTES)
                try:
                    text = decoder.decode(block, final=not block)
                except UnicodeDecodeError as error:
                    raise UserError(_changed(text_file.path)) from error
                left -= len(text)
                if left < 0:
                    break
                if text:
                    yield text
            if left or _stamp(file) != text_file.stamp:
                raise UserError(_changed(text_file.path))


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A regular file. Whatever the system refuses, now or while it is read, is raised as `Unreadable`."""
    try:
        # Without blocking: opening a named pipe would wait for somebody to write to it.
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)
    except OSError as error:
        raise Unreadable(f"{path} cannot be read ({reason(error)}); check its name and its permissions") from error
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise Unreadable(f"{path} is not a regular file: it is read twice, so write it to a file first")
        try:
            yield file
        except OSError as error:
            raise Unreadable(f"{path} cannot be read ({reason(error)}); leave it out, or copy it first") from error


def _stamp(file: BinaryIO) -> tuple[int, int]:
    """(size, time of the last change): whoever writes to a file alters one of them."""
    about = os.fstat(file.fileno())
    return about.st_size, about.st_mtime_ns


def _changed(path: Path) -> str:
    return f"{path} changed while it was being read; try again when nothing writes to it, or prepare a copy of it"
