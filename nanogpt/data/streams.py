"""Files as streams of bytes: regular files only, decompressed if they begin as gzip, zstd, bzip2 or xz files do.

The first bytes decide, not the name, so a compressed file is read under any name.
"""

import bz2
import errno
import gzip
import lzma
import os
import re
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from nanogpt import extras
from nanogpt.errors import UserError
from nanogpt.files import open_regular, reason

if TYPE_CHECKING:
    from nanogpt.data.encodings import Decoder

BinaryReader: TypeAlias = "BufferedReader[Any]"
BUFFER_BYTES = 1 << 20
SUFFIXES = (".gz", ".zst", ".bz2", ".xz")


class Unreadable(UserError):
    """A path that the system cannot read, or that is not a regular file."""


@dataclass(slots=True)
class Stream:
    """The open file at `path`. `content` has its bytes, decompressed; `stored` is the file itself.

    `decoder` is set while the content is decoded, and says how: see `nanogpt.data.decoding`.
    """

    path: Path
    content: BinaryReader
    stored: BinaryReader
    decoder: "Decoder | None" = None

    @property
    def is_compressed(self) -> bool:
        """Whether the bytes of `content` are not those of the file itself."""
        return self.content is not self.stored

    @property
    def stamp(self) -> tuple[int, int]:
        """The size of the file itself in bytes and the time of its change in ns: a write changes one of them."""
        about = os.fstat(self.stored.fileno())
        return about.st_size, about.st_mtime_ns


@contextmanager
def open_stream(path: Path) -> Iterator[Stream]:
    """Open a regular file.

    Raise `Unreadable` if the system refuses to open it or, later, to read it, and `UserError` if a compressed file is
    damaged or cut off, or needs a package that is not installed.
    """
    try:
        opened = open_regular(path)
    except OSError as error:
        if _is_special(path):
            raise Unreadable(f"{path} is not a regular file: it is read twice, so write it to a file first") from error
        problem = os.strerror(errno.EISDIR) if os.path.isdir(path) else reason(error)  # noqa: PTH112
        raise Unreadable(f"{path} cannot be read ({problem}); check its name and its permissions") from error
    damage: tuple[type[Exception], ...] = ()
    file: BinaryReader = BufferedReader(opened.detach(), BUFFER_BYTES)
    with file:
        try:
            content, damage = _decompressed(path, file)
            yield Stream(path, content, file)
        except damage as error:
            raise UserError(_damaged(path, error)) from error
        except OSError as error:
            if error.errno is None:  # a decompressor's: those of the system have a number
                raise UserError(_damaged(path, error)) from error
            raise Unreadable(f"{path} cannot be read ({reason(error)}); skip it, or copy it first") from error


def _is_special(path: Path) -> bool:
    """Return whether a path is something else than a regular file or a folder, such as a pipe."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 (pathlib's raises without permission in some versions)
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _damaged(path: Path, error: Exception) -> str:
    is_ = "is cut off" if isinstance(error, EOFError) else f"is damaged ({error})"
    return f"{path} {is_}: it cannot be decompressed to its end; copy or download it again"


def _zstd(path: Path) -> Any:
    """Return the module for zstd: from Python 3.14 on its own, which some builds lack. Raise `UserError`."""
    if sys.version_info < (3, 14):
        return extras.load("backports.zstd", "corpora", f"{path} is a zstd archive and")
    try:
        return import_module("compression.zstd")
    except ImportError:
        raise UserError(
            f"{path} is a zstd archive, and this Python was built without zstd: unpack it first with `unzstd`"
        ) from None


def _decompressed(path: Path, file: BinaryReader) -> tuple[BinaryReader, tuple[type[Exception], ...]]:
    """Return the decompressed content of an open file, and errors of its decompressor that are not OSError."""
    start = file.peek(10)
    if start.startswith(b"\x1f\x8b"):
        content: Any = gzip.GzipFile(fileobj=file)
        damage: tuple[type[Exception], ...] = (EOFError, zlib.error)
    elif start.startswith(b"\x28\xb5\x2f\xfd"):
        # Not the package zstandard: it ends at a cut-off frame without an error.
        zstd = _zstd(path)
        content, damage = zstd.ZstdFile(file), (EOFError, zstd.ZstdError)
    elif re.match(rb"BZh[1-9]1AY&SY", start):
        content, damage = bz2.BZ2File(file), (EOFError,)
    elif start.startswith(b"\xfd7zXZ\0"):
        content, damage = lzma.LZMAFile(file), (EOFError, lzma.LZMAError)  # noqa: SIM115 (the caller closes it)
    else:
        return file, ()
    return BufferedReader(content, BUFFER_BYTES), damage
