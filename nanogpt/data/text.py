"""Text files of unknown encoding, read in constant memory. Knows nothing of tokens.

UTF-8 with or without a byte order mark, UTF-16 and UTF-32 with one, else Windows-1252; anything else is refused with
the place where it stops being text. Line ends stay as they are.
"""

import codecs
import hashlib
import os
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from nanogpt.errors import UserError

BLOCK_BYTES = 1 << 20
SEPARATOR = "\n"  # stands between two files
MAX_CONTROL_SHARE = 0.05  # of a text's characters; random bytes have 10 %

_MARKS = (  # the longer first: UTF-32's little-endian mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_CONTROLS = bytes(code for code in range(32) if code not in b"\b\t\n\v\f\r\x1a\x1b")
_NO_CONTROLS = dict.fromkeys(_CONTROLS)


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file that is known to be text: its codec, the length of its byte order mark, and its number of characters."""

    path: Path
    codec: str
    mark_bytes: int
    characters: int


class Alphabet:
    """The distinct characters of the text seen so far."""

    def __init__(self) -> None:
        self._ascii = b""
        self._others: np.ndarray[tuple[int], np.dtype[np.bool_]] | None = None  # by code point

    def add(self, text: str) -> None:
        if text.isascii():
            new = text.encode("ascii").translate(None, self._ascii)  # deletes what is known: 4 GB/s
            self._ascii += bytes(set(new))
            return
        if self._others is None:
            self._others = np.zeros(0x110000, np.bool_)
        self._others[np.frombuffer(text.encode("utf-32-le"), "<u4")] = True

    def characters(self) -> str:
        codes = set(self._ascii)
        if self._others is not None:
            codes |= set(np.flatnonzero(self._others).tolist())
        return "".join(map(chr, sorted(codes)))


def scan(
    path: Path, alphabet: Alphabet, digest: "hashlib._Hash", block_bytes: int | None = None
) -> Generator[int, None, TextFile]:
    """Reads a whole file: its characters go to `alphabet`, its bytes to `digest`.

    Yields the bytes of each block that was read and returns what the file is. Raises UserError for a file that is
    missing, unreadable or no text, naming the offset in bytes.
    """
    with _opened(path) as file:
        codec, mark_bytes = _mark(file)
        digest.update(file.read(mark_bytes))
        decoder = codecs.getincrementaldecoder(codec)()
        offset, characters, controls, final = mark_bytes, 0, 0, False
        pure_ascii = True
        while not final:
            block = file.read(block_bytes or BLOCK_BYTES)
            final = not block
            digest.update(block)
            held = decoder.getstate()[0]
            try:
                text = decoder.decode(block, final)
            except UnicodeDecodeError as error:
                # So far all was ASCII, which Windows-1252 reads alike: only from here on does it matter.
                if codec != "utf-8" or mark_bytes or not pure_ascii or not error.object[: error.start].isascii():
                    raise UserError(_broken(path, codec, offset, error)) from error
                codec = "cp1252"
                decoder = codecs.getincrementaldecoder(codec)()
                try:
                    text = decoder.decode(held + block, final)
                except UnicodeDecodeError as worse:
                    nulls = [place for place in [(held + block).find(b"\0")] if place >= 0]
                    raise UserError(_binary(path, offset + min([worse.start, *nulls]))) from worse
            pure_ascii = pure_ascii and text.isascii()
            characters += len(text)
            controls += _count_controls(text)
            if (null := text.find("\0")) >= 0 or controls > MAX_CONTROL_SHARE * characters:
                place = null if null >= 0 else _first_control(text)
                raise UserError(_binary(path, offset + len(text[:place].encode(codec))))
            alphabet.add(text)
            offset += len(held) + len(block) - len(decoder.getstate()[0])
            yield len(block)
    return TextFile(path, codec, mark_bytes, characters)


def looks_like_text(path: Path) -> bool:
    """Whether a file's first 64 kB are text, and not nothing."""
    try:
        return next(scan(path, Alphabet(), hashlib.sha256(), 1 << 16), 0) > 0
    except UserError:
        return False


def read(files: list[TextFile]) -> Iterator[str]:
    """The text of the files, one after the other, in pieces. Raises UserError where one is no longer what it was."""
    for number, text_file in enumerate(files):
        if number:
            yield SEPARATOR
        characters = 0
        with _opened(text_file.path) as file:
            file.seek(text_file.mark_bytes)
            decoder = codecs.getincrementaldecoder(text_file.codec)("replace")
            while block := file.read(BLOCK_BYTES):
                text = decoder.decode(block)
                characters += len(text)
                yield text
        if characters != text_file.characters:
            raise UserError(f"{text_file.path} changed while it was being read; try again when nothing writes to it")


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        # Without blocking: opening a named pipe would wait for somebody to write to it.
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its name and its permissions") from error
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise UserError(f"{path} is not a regular file: it is read twice, so write it to a file first")
        yield file


def _mark(file: BinaryIO) -> tuple[str, int]:
    start = file.read(4)
    file.seek(0)
    return next(((codec, len(mark)) for mark, codec in _MARKS if start.startswith(mark)), ("utf-8", 0))


def _count_controls(text: str) -> int:
    if text.isascii():
        return len(text) - len(text.encode("ascii").translate(None, _CONTROLS))
    return sum(text.count(chr(code)) for code in _CONTROLS)


def _first_control(text: str) -> int:
    return next((place for place, character in enumerate(text) if ord(character) in _NO_CONTROLS), 0)


def _broken(path: Path, codec: str, offset: int, error: UnicodeDecodeError) -> str:
    byte, place = error.object[error.start], offset + error.start
    return f"{path} begins as {codec.upper()}, but {byte:#04x} at byte {place} is none: mend it, or convert it to UTF-8"


def _binary(path: Path, offset: int) -> str:
    return f"{path} is not text: it has binary data at byte {offset}; give a text file in UTF-8, UTF-16 or Windows-1252"
