"""Reads regular files of a bounded size, replaces files whole, makes them durable, and removes links as links.

What lies in a folder may be a pipe, which waits for a writer, or a device, which never ends. Reading such a thing, or a
file that is too large, raises OSError like any other refusal of the system; `why` puts each of them into words.
"""

import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

SMALL = 1 << 20  # bytes: far more than any settings, status or recipe
DEEPEST = 64  # levels of lists and tables in one another
NOT_REGULAR = "not a regular file"
TOO_DEEP = "its lists or tables are nested too deeply"
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def why(error: Exception) -> str:
    """Return what went wrong, for a person. A refused permission is called that, whatever the file holds."""
    if isinstance(error, PermissionError):
        return "permission denied; change its permissions"
    if isinstance(error, RecursionError):
        return TOO_DEEP
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 text (byte {error.start:,})"
    return (isinstance(error, OSError) and error.strerror) or str(error)


def open_regular(path: Path, most: int | None = None) -> BufferedReader:
    """Open a file, or what a link leads to, for reading. Raise OSError, also for what is not a regular file or has more
    than `most` bytes."""
    descriptor = os.open(path, _FLAGS)  # without blocking: opening a pipe would wait for its writer
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode) or (most is not None and about.st_size > most):
        os.close(descriptor)
        if stat.S_ISREG(about.st_mode):
            raise _too_large(path, most)
        raise OSError(errno.EINVAL, NOT_REGULAR, str(path))
    return os.fdopen(descriptor, "rb")


def check_regular(path: Path) -> None:
    """Raise OSError where there is something at `path` that is neither a regular file nor a link to one."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(errno.EINVAL, NOT_REGULAR, str(path))


def read_bytes(path: Path, most: int = SMALL) -> bytes:
    """Return what a regular file of at most `most` bytes holds. Raise OSError."""
    with open_regular(path, most) as file:
        content = file.read(most + 1)
    if len(content) > most:  # it grew, or is one of those of /proc, which do not tell their size
        raise _too_large(path, most)
    return content


def read_text(path: Path, most: int = SMALL) -> str:
    """Return the text of a regular file in UTF-8 of at most `most` bytes. Raise OSError or ValueError."""
    return read_bytes(path, most).decode("utf-8")


def read_json(path: Path, most: int = SMALL) -> Any:
    """Return what a JSON file of at most `most` bytes holds. Raise OSError, or ValueError for what is no JSON or is
    nested more than `DEEPEST` levels deep."""
    return _shallow(json.loads, read_text(path, most))


def read_toml(path: Path, most: int = SMALL) -> dict[str, Any]:
    """Return the same of a TOML file."""
    tables: dict[str, Any] = _shallow(tomllib.loads, read_text(path, most))
    return tables


def _shallow(parse: Callable[[str], Any], text: str) -> Any:
    """What is nested a little less deeply than the parser can follow is too deep for what shows or compares it."""
    try:
        parsed = parse(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    level, depth = [parsed], 0
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(TOO_DEEP)
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return parsed


def lines(file: BinaryIO, longest: int) -> Iterator[bytes]:
    """Yield the rest of a file line by line. Of one longer than `longest` bytes only so many and a line break come."""
    while line := file.readline(longest):
        if len(line) == longest and not line.endswith(b"\n"):
            while (rest := file.readline(longest)) and not rest.endswith(b"\n"):
                pass
            line = line[:-1] + b"\n" if rest else line
        yield line


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace `path` by a file that is whole and has the mode that the umask asks for, or leave it as it was.

    Where it is a link, the link is replaced. Raise OSError, also for a device or a pipe.
    """
    with suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
            raise OSError(errno.EINVAL, NOT_REGULAR, str(path))
    run_in_background = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with run_in_background.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        run_in_background.replace(path)
    except BaseException:
        with suppress(OSError):
            run_in_background.unlink()
        raise


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on disk. Raise OSError, but not for a folder on a
    file system that cannot do it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF) or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a regular file in 64 hexadecimal digits. Raise OSError."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_the_umask_asks(path: Path) -> None:
    """Give a file that a library made for its owner alone the mode that a new one has in this folder. Raise OSError."""
    probe = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with probe.open("xb") as file:
            path.chmod(stat.S_IMODE(os.fstat(file.fileno()).st_mode))
    finally:
        probe.unlink(missing_ok=True)


def remove(path: Path, *, ignore_errors: bool = False) -> None:
    """Remove a file, a folder with all that is in it, or a link, whose target stays as it is. Raise OSError unless
    `ignore_errors`, also where there is nothing."""
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink()
        else:
            shutil.rmtree(path, ignore_errors=ignore_errors)
    except OSError:
        if not ignore_errors:
            raise


def _too_large(path: Path, most: int | None) -> OSError:
    return OSError(errno.EFBIG, f"larger than {most:,} bytes", str(path))
