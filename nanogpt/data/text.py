"""Text files of unknown encoding, read in constant memory. Knows nothing of tokens.

UTF-8 with or without a byte order mark, UTF-16 and UTF-32 with one, else Windows-1252; anything else is refused with
the place where it stops being text. Line ends stay as they are.
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
    path: Path, alphabet: Alphabet, take: Callable[[bytes], object], block_bytes: int | None = None
) -> Generator[int, None, TextFile]:
    """Reads a whole file: its characters go to `alphabet`, its bytes, block by block, to `take`.

    Yields the bytes of each block that was read and returns what the file is. Raises UserError for a file that is
    missing, unreadable or no text, naming the offset in bytes.
    """
    with _opened(path) as file:
        codec, mark_bytes = _mark(file)
        take(file.read(mark_bytes))
        decoder = _Decoder(path, codec, mark_bytes)
        characters, controls, final = 0, 0, False
        while not final:
            block = file.read(block_bytes or BLOCK_BYTES)
            final = not block
            take(block)
            offset = decoder.offset
            text, length = decoder.decode(block, final)
            characters += length
            controls += len(text) - len(text.translate(None, _CONTROLS))
            if (null := text.find(0)) >= 0 or controls > MAX_CONTROL_SHARE * characters:
                before = text[: null if null >= 0 else _first_control(text)].decode()
                raise UserError(_binary(path, offset + len(before.encode(decoder.codec))))
            alphabet.add(text)
            yield len(block)
    return TextFile(path, decoder.codec, mark_bytes, characters)


class _Decoder:
    """Reads blocks as the codec that a file began with, and as Windows-1252 where it turns out not to be UTF-8.

    `offset`: the bytes of the file that were decoded so far.
    """

    def __init__(self, path: Path, codec: str, mark_bytes: int) -> None:
        self.codec, self.offset = codec, mark_bytes
        self._path, self._mark_bytes = path, mark_bytes
        self._decoder = codecs.getincrementaldecoder(codec)()
        self._pure_ascii = True

    def decode(self, block: bytes, final: bool) -> tuple[bytes, int]:
        """(the text of this block in UTF-8, its characters). Raises UserError where it is none."""
        held = self._decoder.getstate()[0]
        if not held and self.codec in ("utf-8", "cp1252") and block.isascii():  # most are: nothing to decode
            self.offset += len(block)
            return block, len(block)
        text = self._decoded(block, held, final)
        read = len(held) + len(block) - len(self._decoder.getstate()[0])
        self.offset += read
        raw = (held + block)[:read] if self.codec == "utf-8" else text.encode()
        self._pure_ascii = self._pure_ascii and raw.isascii()
        return raw, len(text)

    def _decoded(self, block: bytes, held: bytes, final: bool) -> str:
        try:
            return self._decoder.decode(block, final)
        except UnicodeDecodeError as error:
            # So far all was ASCII, which Windows-1252 reads alike: only from here on does it matter.
            mended = self.codec == "utf-8" and not self._mark_bytes and self._pure_ascii
            if not mended or not error.object[: error.start].isascii():
                raise UserError(_broken(self._path, self.codec, self.offset, error)) from error
        self.codec = "cp1252"
        self._decoder = codecs.getincrementaldecoder(self.codec)()
        try:
            return self._decoder.decode(held + block, final)
        except UnicodeDecodeError as worse:
            nulls = [place for place in [(held + block).find(b"\0")] if place >= 0]
            raise UserError(_binary(self._path, self.offset + min([worse.start, *nulls]))) from worse


def looks_like_text(path: Path) -> bool:
    """Whether a file's first 64 kB are text, and not nothing."""
    try:
        return next(scan(path, Alphabet(), len, 1 << 16), 0) > 0
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


def _first_control(text: bytes) -> int:
    return next((place for place, code in enumerate(text) if code in _CONTROLS), 0)


def _broken(path: Path, codec: str, offset: int, error: UnicodeDecodeError) -> str:
    byte, place = error.object[error.start], offset + error.start
    return f"{path} begins as {codec.upper()}, but {byte:#04x} at byte {place} is none: mend it, or convert it to UTF-8"


def _binary(path: Path, offset: int) -> str:
    return f"{path} is not text: it has binary data at byte {offset}; give a text file in UTF-8, UTF-16 or Windows-1252"
